//! Traces as the Admin API shows them.

use std::{collections::BTreeSet, fmt::Write, sync::Arc};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{
        Span,
        span::{Event, SpanKind},
    },
};
use trama_proto::{
    admin::v1::{Attribute, SpanEvent, TextList, Trace, TraceSpan, TraceSummary, attribute, trace_span},
    span::key,
};

use super::{
    Traces,
    span::{Facts, KeptSpan, TraceId, text},
    window::Reach,
};

impl Traces {
    /// All spans of a trace, by their beginnings. `None`: the window has none of this id.
    pub(crate) fn trace(&self, id: &TraceId) -> Option<Trace> {
        let spans = {
            let mut core = self.core();
            core.window.expire(self.now());
            core.window.trace(id)?
        };
        Some(Trace { id: hex(id), spans: spans.iter().map(|span| shown(span)).collect() })
    }

    /// How far back one can ask.
    pub(crate) fn reach(&self) -> Reach {
        self.core().window.reach(self.now())
    }
}

/// A trace in a line: it is called by the span from which all others come, as far as that is here.
pub(super) fn summary(id: &TraceId, spans: &[Arc<KeptSpan>]) -> TraceSummary {
    let first = spans.iter().min_by_key(|span| (!span.facts.is_root(), span.facts.start));
    let none = Facts::default();
    let answered = first.map_or(&none, |first| &last_attempt(first, spans).facts);
    let first = first.map_or(&none, |first| &first.facts);
    let start = spans.iter().map(|span| span.facts.start).min().unwrap_or_default();
    let end = spans.iter().map(|span| span.facts.end).max().unwrap_or_default();
    let texts = |of: fn(&Facts) -> &str| {
        let texts = spans.iter().map(|span| of(&span.facts)).filter(|text| !text.is_empty());
        texts.collect::<BTreeSet<_>>().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    TraceSummary {
        id: hex(id),
        start,
        duration: end - start,
        name: first.name.to_string(),
        service: first.service.to_string(),
        route: first.route.to_string(),
        status: u32::from(answered.status),
        failed: answered.failed,
        reasons: texts(|facts| &facts.reason),
        regions: texts(|facts| &facts.region),
        spans: spans.len() as u32,
    }
}

/// What came of a request: its attempts stand beside each other, one number after the other. An application's next request
/// begins anew with the first.
fn last_attempt<'s>(first: &'s Arc<KeptSpan>, spans: &'s [Arc<KeptSpan>]) -> &'s Arc<KeptSpan> {
    let whose = |span: &'s KeptSpan| (&span.origin.sender, span.facts.parent, &span.facts.service);
    let mut later: Vec<_> = spans.iter().filter(|span| whose(span) == whose(first)).collect();
    later.sort_by_key(|span| span.facts.start);
    later.into_iter().fold(first, |last, span| {
        let follows = last.facts.attempt > 0 && span.facts.attempt.checked_sub(1) == Some(last.facts.attempt);
        if follows { span } else { last }
    })
}

fn shown(kept: &KeptSpan) -> TraceSpan {
    let span = kept.decoded();
    let resource = &kept.origin.resource.attributes;
    let of_resource = |key| text(resource, key).unwrap_or_default().to_owned();
    let failure = span.status.as_ref().filter(|_| kept.facts.failed);
    TraceSpan {
        id: hex(&span.span_id),
        parent: if kept.facts.is_root() { String::new() } else { hex(&span.parent_span_id) },
        kind: kind(&span).into(),
        identity: kept.origin.sender.as_str().to_owned(),
        workload: of_resource(key::SERVICE_NAME),
        region: of_resource(key::CLOUD_REGION),
        start: kept.facts.start,
        duration: kept.facts.end - kept.facts.start,
        failed: kept.facts.failed,
        failure: failure.map(|status| status.message.clone()).unwrap_or_default(),
        attributes: attributes(&span.attributes),
        events: span.events.iter().map(event).collect(),
        name: span.name,
    }
}

fn kind(span: &Span) -> trace_span::Kind {
    match span.kind() {
        SpanKind::Server => trace_span::Kind::Server,
        SpanKind::Client => trace_span::Kind::Client,
        _ => trace_span::Kind::Unspecified,
    }
}

fn event(event: &Event) -> SpanEvent {
    SpanEvent {
        time: event.time_unix_nano,
        name: event.name.clone(),
        attributes: attributes(&event.attributes),
    }
}

fn attributes(pairs: &[KeyValue]) -> Vec<Attribute> {
    let shown = |pair: &KeyValue| Attribute {
        key: pair.key.clone(),
        value: pair.value.as_ref().and_then(|value| value.value.as_ref()).map(value),
    };
    pairs.iter().map(shown).collect()
}

/// What sidecars never write is shown as text.
fn value(value: &Value) -> attribute::Value {
    match value {
        Value::StringValue(text) => attribute::Value::Text(text.clone()),
        Value::IntValue(number) => attribute::Value::Number(*number),
        Value::DoubleValue(fraction) => attribute::Value::Fraction(*fraction),
        Value::BoolValue(flag) => attribute::Value::Flag(*flag),
        Value::ArrayValue(array) => {
            attribute::Value::Texts(TextList { texts: array.values.iter().map(written).collect() })
        }
        other => attribute::Value::Text(format!("{other:?}")),
    }
}

fn written(item: &AnyValue) -> String {
    match item.value.as_ref() {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

/// Two digits a byte, in lower case.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
