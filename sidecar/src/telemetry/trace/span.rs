//! A kept request as an OpenTelemetry span, under the HTTP semantic conventions (1.x, stable) and our own names beneath
//! `trama.`.

use opentelemetry::{
    Array, InstrumentationScope, KeyValue, SpanId, StringValue, TraceFlags, TraceId, Value,
    trace::{SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use trama_proto::span::{self, key};

use crate::telemetry::{
    metrics::method_name,
    record::{Direction, Placement, Protocol, Record, Rejected, TraceContext},
};

/// The span of a request inbound, or of an attempt outbound.
pub(crate) fn of(record: &Record, trace: TraceContext) -> SpanData {
    let is_inbound = record.direction == Direction::Inbound;
    let start = record.began + if is_inbound { Default::default() } else { record.attempt_after };
    let flags = if trace.random { TraceFlags::new(0x03) } else { TraceFlags::SAMPLED };
    let trace_id = trace.trace_id.as_str().and_then(|id| TraceId::from_hex(id).ok());
    let trace_id = trace_id.unwrap_or(TraceId::INVALID);
    let span_id = SpanId::from(trace.span_id);
    SpanData {
        span_context: SpanContext::new(trace_id, span_id, flags, false, TraceState::NONE),
        parent_span_id: SpanId::from(trace.parent_id),
        parent_span_is_remote: trace.parent_id != 0,
        span_kind: if is_inbound { SpanKind::Server } else { SpanKind::Client },
        name: name(record).into(),
        start_time: start,
        end_time: (record.began + record.duration).max(start),
        attributes: attributes(record),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: status(record),
        instrumentation_scope: InstrumentationScope::builder("trama-sidecar")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

/// The method alone: a path would make as many names as there are paths.
fn name(record: &Record) -> &'static str {
    match method_name(record.method.as_ref()) {
        "" => "TCP",
        "_OTHER" => "HTTP",
        method => method,
    }
}

/// A server's 4xx is its client's fault, and no error of the server's span.
fn error_type(record: &Record) -> Option<String> {
    let least = if record.direction == Direction::Inbound { 500 } else { 400 };
    let reason = record.reason.map(|r| r.name().to_owned());
    reason.or_else(|| (record.status >= least).then(|| record.status.to_string()))
}

fn status(record: &Record) -> Status {
    match error_type(record) {
        None => Status::Unset,
        Some(error) => Status::error(record.detail.as_ref().map_or(error, |d| d.to_string())),
    }
}

fn attributes(record: &Record) -> Vec<KeyValue> {
    let mut all = vec![
        KeyValue::new(key::DIRECTION, record.direction.name()),
        KeyValue::new(key::SERVICE, record.service.to_string()),
        KeyValue::new(key::REVISION, record.revision.to_string()),
        KeyValue::new("network.protocol.name", protocol_name(record.protocol).0),
        KeyValue::new("http.request.body.size", signed(record.bytes_received)),
        KeyValue::new("http.response.body.size", signed(record.bytes_sent)),
    ];
    let mut add = |name: &'static str, value: Option<Value>| {
        all.extend(value.map(|value| KeyValue::new(name, value)));
    };
    let text = |s: &str| (!s.is_empty()).then(|| s.to_owned().into());
    let method = method_name(record.method.as_ref());
    add(key::HTTP_METHOD, text(method));
    let original = record.method.as_ref().filter(|_| method == "_OTHER");
    add("http.request.method_original", original.and_then(|m| text(m.as_str())));
    add("url.scheme", record.method.as_ref().and_then(|_| text("http")));
    // Not the query: people put secrets there.
    add(key::URL_PATH, record.path.as_ref().and_then(|p| text(p.path())));
    let authority = record.authority.as_ref().and_then(|a| http::uri::Authority::try_from(a.as_bytes()).ok());
    add("server.address", authority.as_ref().and_then(|a| text(a.host())));
    let port = authority.as_ref().and_then(http::uri::Authority::port_u16);
    add("server.port", port.map(|p| i64::from(p).into()));
    let peer = match record.direction {
        Direction::Inbound => record.downstream,
        Direction::Outbound => record.upstream,
    };
    add(key::PEER_ADDRESS, peer.map(|a| a.ip().to_string().into()));
    add(key::PEER_PORT, peer.map(|a| i64::from(a.port()).into()));
    add("network.protocol.version", text(protocol_name(record.protocol).1));
    let status = (record.status != 0).then(|| i64::from(record.status).into());
    add(key::HTTP_STATUS, status);
    add(key::ERROR_TYPE, error_type(record).map(Into::into));
    add(key::PEER_SERVICE, text(&record.peer_service));
    add(key::PEER_IDENTITY, record.peer_identity.as_deref().and_then(text));
    add(key::REGION, text(&record.peer_region));
    add(key::ROUTE, text(&record.route));
    add(key::TLS, text(record.security.name()));
    if record.direction == Direction::Outbound {
        add(key::ATTEMPT, Some(i64::from(record.attempts).into()));
    }
    if let Some(Placement { why, passed_over }) = record.placement.as_deref() {
        add(key::REGION_WHY, why.and_then(text));
        let passed_over = passed_over.iter().map(|it| span::region_passed_over(&it.region, it.why));
        add(key::REGIONS_PASSED_OVER, texts(passed_over));
    }
    // Of an attempt that follows another one the first one's span has said it.
    if let Some(Rejected { rules, left_out }) = record.rejected.as_deref().filter(|_| record.attempts <= 1) {
        add(key::ROUTES_REJECTED, texts(rules.iter().map(|it| span::not_chosen(&it.rule, &it.why))));
        add(key::ROUTES_LEFT_OUT, (*left_out > 0).then(|| signed(*left_out as u64).into()));
    }
    all
}

/// `None`: there are none.
fn texts(texts: impl Iterator<Item = String>) -> Option<Value> {
    let texts: Vec<StringValue> = texts.map(Into::into).collect();
    (!texts.is_empty()).then_some(Value::Array(Array::String(texts)))
}

/// OpenTelemetry's name and version.
const fn protocol_name(protocol: Protocol) -> (&'static str, &'static str) {
    match protocol {
        Protocol::Http10 => ("http", "1.0"),
        Protocol::Http11 => ("http", "1.1"),
        Protocol::Http2 => ("http", "2"),
        Protocol::Tcp => ("tcp", ""),
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::record::{RejectedRule, tests::full};

    #[test]
    fn the_first_attempt_says_which_rules_did_not_serve_the_request() {
        let rule = RejectedRule { rule: "shop/orders/v2".into(), why: "the path is `/`".to_owned() };
        let rejected = Some(Box::new(Rejected { rules: vec![rule], left_out: 3 }));
        for (attempts, expected) in [(1, 1), (2, 0)] {
            let record = Record { attempts, rejected: rejected.clone(), ..full() };
            let all = attributes(&record);
            let found = |key| all.iter().filter(|it| it.key.as_str() == key).count();
            assert_eq!(
                [key::ROUTES_REJECTED, key::ROUTES_LEFT_OUT].map(found),
                [expected; 2],
                "attempt {attempts}"
            );
        }
        let none = Record { attempts: 1, rejected: Some(Box::default()), ..full() };
        assert!(attributes(&none).iter().all(|it| !it.key.as_str().starts_with("trama.routes")));
    }
}
