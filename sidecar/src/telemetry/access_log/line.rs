//! One request as one line of JSON. Names and meanings are stable; docs/src/reference/access-log.md lists them.

use std::{io, net::SocketAddr, time::Duration};

use serde::{Serialize, Serializer};

use crate::{
    config::snapshot::Revision,
    error::Reason,
    telemetry::{
        record::{Record, TraceContext},
        rfc3339::Timestamp,
    },
};

/// What a line says. A field that has nothing to say is left out.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: Timestamp,
    direction: &'static str,
    service: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    peer_service: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_identity: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    peer_region: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    route: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_protocol: Option<&'static str>,
    tls: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    would_deny: Option<&'a str>,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    downstream: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<SocketAddr>,
    bytes_received: u64,
    bytes_sent: u64,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttfb_ms: Option<f64>,
    #[serde(serialize_with = "display")]
    policy_revision: Revision,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "span_id")]
    span_id: Option<TraceContext>,
}

/// Writes the request as a line.
pub(crate) fn write(record: &Record, to: &mut Vec<u8>) -> io::Result<()> {
    serde_json::to_writer(&mut *to, &Line::from(record))?;
    to.push(b'\n');
    Ok(())
}

impl<'a> From<&'a Record> for Line<'a> {
    fn from(record: &'a Record) -> Self {
        Self {
            timestamp: Timestamp(record.began),
            direction: record.direction.name(),
            service: &record.service,
            peer_service: &record.peer_service,
            peer_identity: record.peer_identity.as_deref(),
            peer_region: &record.peer_region,
            route: &record.route,
            method: record.method.as_ref().map(http::Method::as_str),
            authority: record.authority.as_ref().and_then(|a| a.to_str().ok()),
            // Not the query: people put secrets there.
            path: record.path.as_ref().map(http::uri::PathAndQuery::path),
            protocol: record.protocol.name(),
            upstream_protocol: record.upstream_protocol.map(|p| p.name()),
            tls: record.security.name(),
            status: (record.status != 0).then_some(record.status),
            reason: record.reason.map(Reason::name),
            detail: record.detail.as_deref(),
            would_deny: record.would_deny.as_deref(),
            attempts: record.attempts,
            downstream: record.downstream,
            upstream: record.upstream,
            bytes_received: record.bytes_received,
            bytes_sent: record.bytes_sent,
            duration_ms: millis(record.duration),
            ttfb_ms: record.first_byte.map(millis),
            policy_revision: record.revision,
            trace_id: record.trace.as_ref().and_then(|t| t.trace_id.as_str()),
            // Only a kept trace has a span that could be looked up.
            span_id: record.trace.filter(|t| t.sampled),
        }
    }
}

/// Milliseconds, to the microsecond.
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

fn display<S: Serializer>(revision: &Revision, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(revision)
}

fn span_id<S: Serializer>(trace: &Option<TraceContext>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{:016x}", trace.map_or(0, |t| t.span_id)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::record::{TraceId, tests::full};

    /// The names are a contract with everybody who reads the log.
    const FULL: &str = concat!(
        r#"{"timestamp":"2026-11-21T03:04:05.678Z","direction":"outbound","service":"shop/orders","#,
        r#""peer_service":"shop/orders","peer_identity":"spiffe://trama.local/ns/shop/sa/orders","#,
        r#""peer_region":"sao-paulo","route":"shop/orders/0","method":"POST","authority":"orders.shop:8080","#,
        r#""path":"/v1/\"a\"","protocol":"http/1.1","upstream_protocol":"http/2","tls":"mutual","status":503,"#,
        r#""reason":"connect_failed","detail":"refused\n\u0001","would_deny":"shop/readers","attempts":2,"downstream":"10.0.0.1:40000","#,
        r#""upstream":"[fd00::2]:15008","bytes_received":11,"bytes_sent":22,"duration_ms":12.345,"ttfb_ms":1.5,"#,
        r#""policy_revision":"7-00000000000000ab","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","#,
        r#""span_id":"00f067aa0ba902b7"}"#,
        "\n"
    );

    fn line(record: &Record) -> String {
        let mut text = Vec::new();
        write(record, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_line_says_everything_under_stable_names() {
        assert_eq!(line(&full()), FULL);
    }

    #[test]
    fn what_has_nothing_to_say_is_left_out() {
        let empty = Record {
            peer_service: "".into(),
            peer_identity: None,
            peer_region: "".into(),
            route: "".into(),
            method: None,
            path: None,
            authority: None,
            upstream_protocol: None,
            status: 0,
            reason: None,
            detail: None,
            would_deny: None,
            downstream: None,
            upstream: None,
            first_byte: None,
            trace: None,
            ..full()
        };
        let value: serde_json::Value = serde_json::from_str(&line(&empty)).unwrap();
        let names: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        let always = "attempts bytes_received bytes_sent direction duration_ms policy_revision protocol service timestamp tls";
        assert_eq!(names.join(" "), always);
    }

    #[test]
    fn neither_query_nor_the_span_of_a_dropped_trace_is_logged() {
        let mut record = full();
        record.path = Some("/login?token=secret".parse().unwrap());
        record.trace.as_mut().unwrap().sampled = false;
        let line = line(&record);
        assert!(line.contains(r#""path":"/login""#) && !line.contains("secret"));
        assert!(line.contains("trace_id") && !line.contains("span_id"));
        record.trace.as_mut().unwrap().trace_id = TraceId(*b"\xff\"f92f3577b34da6a3ce929d0e0e4736");
        assert!(!self::line(&record).contains("trace_id"), "what is no id is not logged as one");
    }

    #[test]
    fn the_reference_page_lists_exactly_these() {
        let page = include_str!("../../../../docs/src/reference/access-log.md");
        let rows = page.lines().filter_map(|l| l.strip_prefix("| `"));
        let listed: Vec<&str> = rows.filter_map(|l| l.split('`').next()).collect();
        let names: Vec<&str> = FULL
            .split("\",\"")
            .flat_map(|part| part.split(",\""))
            .filter_map(|part| part.split("\":").next())
            .map(|name| name.trim_start_matches(['{', '"']))
            .collect();
        assert_eq!(listed, names, "docs/src/reference/access-log.md and line.rs disagree");
    }
}
