//! A span as it is kept: the bytes that came, and beside them what is asked about it. Decoded, a span takes several times
//! the memory.

use std::sync::Arc;

use opentelemetry_proto::tonic::{
    common::v1::{InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{Span, status::StatusCode},
};
use prost::Message;
use trama_proto::{span::key, spiffe::SpiffeId};

/// The id of a trace (W3C Trace Context, section 3.2.2.3).
pub(crate) type TraceId = [u8; 16];
/// The id of a span.
pub(super) type SpanId = [u8; 8];

/// What a span takes beside its bytes: the value itself, its places in maps and queues.
const OVERHEAD: u64 = 512;

/// Whose sidecar wrote spans, and what it says of itself.
#[derive(Debug)]
pub(super) struct Origin {
    /// Whom its certificate names.
    pub(super) sender: SpiffeId,
    /// The resource, with the sender's identity in it.
    pub(super) resource: Resource,
    pub(super) resource_schema: String,
    pub(super) scope: Option<InstrumentationScope>,
    pub(super) scope_schema: String,
}

/// A span that is kept.
#[derive(Debug)]
pub(super) struct KeptSpan {
    pub(super) origin: Arc<Origin>,
    pub(super) trace: TraceId,
    pub(super) id: SpanId,
    pub(super) facts: Facts,
    encoded: Box<[u8]>,
    weight: u64,
}

/// What is asked about a span. Texts are empty, and numbers 0, where it does not say.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The span that it comes from; all zero where the trace begins with it.
    pub(super) parent: SpanId,
    /// The attempt's number, from 1.
    pub(super) attempt: u32,
    pub(super) name: Box<str>,
    pub(super) service: Box<str>,
    pub(super) route: Box<str>,
    /// Where it was served.
    pub(super) region: Box<str>,
    pub(super) reason: Box<str>,
    pub(super) status: u16,
    pub(super) failed: bool,
    /// In nanoseconds since 1970.
    pub(super) start: u64,
    /// In nanoseconds since 1970; never before the start.
    pub(super) end: u64,
}

impl KeptSpan {
    /// `None`: it is none, or has no good ids (OTLP: 16 and 8 bytes, not all of them zero). `beside`: its share of the origin's bytes.
    pub(super) fn of(encoded: &[u8], origin: &Arc<Origin>, beside: u64) -> Option<Self> {
        let span = Span::decode(encoded).ok()?;
        let trace: TraceId = span.trace_id.as_slice().try_into().ok().filter(|id| *id != [0; 16])?;
        let id: SpanId = span.span_id.as_slice().try_into().ok().filter(|id| *id != [0; 8])?;
        let facts = Facts::of(&span, &origin.resource);
        let weight = OVERHEAD + encoded.len() as u64 + facts.bytes() + beside;
        Some(Self { origin: Arc::clone(origin), trace, id, facts, encoded: encoded.into(), weight })
    }

    /// Bytes of memory, about.
    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    /// Bytes on the wire.
    pub(super) fn length(&self) -> usize {
        self.encoded.len()
    }

    /// The whole of it.
    pub(super) fn decoded(&self) -> Span {
        Span::decode(&*self.encoded).expect("it was decoded before")
    }
}

impl Facts {
    fn of(span: &Span, resource: &Resource) -> Self {
        let text = |key| text(&span.attributes, key).unwrap_or_default();
        // A server's span names no region: it was served where its sidecar is.
        let region = match text(key::REGION) {
            "" if text(key::DIRECTION) == "inbound" => self::text(&resource.attributes, key::CLOUD_REGION),
            region => Some(region),
        };
        let number = |key| match value(&span.attributes, key) {
            Some(Value::IntValue(number)) => *number,
            _ => 0,
        };
        Self {
            parent: span.parent_span_id.as_slice().try_into().unwrap_or_default(),
            attempt: number(key::ATTEMPT).try_into().unwrap_or_default(),
            name: span.name.as_str().into(),
            service: text(key::SERVICE).into(),
            route: text(key::ROUTE).into(),
            region: region.unwrap_or_default().into(),
            reason: text(key::ERROR_TYPE).into(),
            status: number(key::HTTP_STATUS).try_into().unwrap_or_default(),
            failed: span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error),
            start: span.start_time_unix_nano,
            end: span.end_time_unix_nano.max(span.start_time_unix_nano),
        }
    }

    /// Whether the trace begins with it.
    pub(super) fn is_root(&self) -> bool {
        self.parent == SpanId::default()
    }

    fn bytes(&self) -> u64 {
        let texts = [&self.name, &self.service, &self.route, &self.region, &self.reason];
        texts.iter().map(|text| text.len() as u64).sum()
    }
}

/// The value of an attribute.
pub(super) fn value<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    attributes.iter().find(|pair| pair.key == key)?.value.as_ref()?.value.as_ref()
}

/// The value of an attribute that is a text.
pub(super) fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    match value(attributes, key)? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}
