//! Spans for the tests of this module.

use std::sync::Arc;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;
use trama_proto::spiffe::SpiffeId;

use super::{admit::admit, span::KeptSpan, wire::ExportRequest};

/// A workload of the namespace `shop`.
pub(super) fn sender(name: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://mesh.test/ns/shop/sa/{name}")).unwrap()
}

/// A span of a trace, both by number, that begins so many seconds after 1970 and takes one.
pub(super) fn span(trace: u8, id: u8) -> Span {
    let start = u64::from(trace) * 1_000_000_000;
    Span {
        trace_id: vec![trace; 16],
        span_id: vec![id; 8],
        name: "GET".to_owned(),
        start_time_unix_nano: start,
        end_time_unix_nano: start + 1_000_000_000,
        ..Span::default()
    }
}

pub(super) fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

pub(super) fn texts(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    pairs.iter().map(|(key, text)| pair(key, Value::StringValue((*text).to_owned()))).collect()
}

/// A request with one resource of these attributes, as OTLP's own types write it.
pub(super) fn request(resource: &[(&str, &str)], spans: Vec<Span>) -> ExportRequest {
    let resource = Some(Resource { attributes: texts(resource), ..Resource::default() });
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = ResourceSpans { resource, scope_spans, ..ResourceSpans::default() };
    let request = ExportTraceServiceRequest { resource_spans: vec![resource_spans] };
    ExportRequest::decode(&*request.encode_to_vec()).unwrap()
}

/// The span as it is kept of this sender.
pub(super) fn kept(sender: &SpiffeId, span: Span) -> Arc<KeptSpan> {
    admit(request(&[], vec![span]), sender, 1).unwrap().spans.remove(0)
}
