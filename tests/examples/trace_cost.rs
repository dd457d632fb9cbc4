//! What telemetry costs a request: run under callgrind, which counts the instructions of the function `measured`.
//!
//! `valgrind --tool=callgrind --toggle-collect='*measured*' trace_cost <hop> <case> <requests>`

use std::{
    hint::black_box,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, HeaderValue, Method};
use trama_sidecar::{
    config::snapshot::{Revision, TelemetrySettings},
    telemetry::{Direction, LogOutput, Protocol, Record, Security, Telemetry, TelemetryConfig, TelemetryHub},
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [hop, case, requests] = &arguments[..] else {
        return eprintln!(
            "trace_cost <outbound | inbound | mesh> <continued | absent | malformed | kept | finished> <requests>"
        );
    };
    let (direction, downstream) = match hop.as_str() {
        "outbound" => (Direction::Outbound, Security::Plain),
        "inbound" => (Direction::Inbound, Security::Plain),
        "mesh" => (Direction::Inbound, Security::MutualTls),
        other => return eprintln!("`{other}` is none of: outbound, inbound, mesh"),
    };
    let requests: u32 = requests.parse().expect("a number of requests");
    let nowhere = TelemetryConfig { access_log: LogOutput::None, ..TelemetryConfig::default() };
    let telemetry = TelemetryHub::start(nowhere).expect("nothing is opened").worker();
    let settings = TelemetrySettings { sampling: 1e-9, ..TelemetrySettings::default() };
    let trace = |headers: &mut HeaderMap| {
        black_box(telemetry.trace(direction, downstream, headers, &settings));
    };
    match case.as_str() {
        "continued" => traced(trace, requests, &headers(Some("00"))),
        "kept" => traced(trace, requests, &headers(Some("01"))),
        "malformed" => traced(trace, requests, &headers(Some("0x"))),
        "absent" => traced(trace, requests, &headers(None)),
        "finished" => {
            (0..requests + 1).for_each(|n| finished(&telemetry, &settings, n, direction, downstream))
        }
        other => eprintln!("`{other}` is none of: continued, absent, malformed, kept, finished"),
    }
}

/// Each request has its own headers; those of the first one are not measured, for it meets cold buffers.
fn traced(trace: impl Fn(&mut HeaderMap), requests: u32, headers: &HeaderMap) {
    trace(&mut headers.clone());
    for _ in 0..requests {
        let mut headers = headers.clone();
        measured(|| trace(black_box(&mut headers)));
    }
}

fn finished(
    telemetry: &Telemetry,
    settings: &TelemetrySettings,
    number: u32,
    direction: Direction,
    security: Security,
) {
    let record = Record { direction, security, ..record() };
    if number == 0 {
        telemetry.finish(record, settings);
    } else {
        measured(|| telemetry.finish(black_box(record), settings));
    }
}

#[inline(never)]
fn measured<T>(what: impl FnOnce() -> T) -> T {
    what()
}

/// What a usual request carries.
fn headers(flags: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    for (name, value) in [
        ("host", "orders.shop"),
        ("user-agent", "curl/8.5.0"),
        ("accept", "*/*"),
        ("accept-encoding", "gzip, br"),
        ("content-type", "application/json"),
        ("x-request-id", "7d3c5a2e"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Some(flags) = flags {
        let value = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
        headers.insert("traceparent", value.try_into().expect("a header's value"));
        headers.insert("tracestate", HeaderValue::from_static("vendor=opaque"));
    }
    headers
}

fn record() -> Record {
    Record {
        direction: Direction::Outbound,
        began: SystemTime::UNIX_EPOCH,
        started: Instant::now(),
        first_byte: Some(Duration::from_millis(1)),
        duration: Duration::from_millis(2),
        revision: Revision::default(),
        service: "shop/orders".into(),
        peer_service: "shop/orders".into(),
        peer_identity: None,
        route: "shop/orders/0".into(),
        rejected: None,
        peer_region: "sao-paulo".into(),
        method: Some(Method::GET),
        path: None,
        authority: None,
        protocol: Protocol::Http11,
        upstream_protocol: Some(Protocol::Http2),
        security: Security::MutualTls,
        status: 200,
        reason: None,
        detail: None,
        attempts: 1,
        attempt_after: Duration::ZERO,
        placement: None,
        would_deny: None,
        downstream: None,
        upstream: None,
        bytes_received: 0,
        bytes_sent: 1024,
        trace: None,
    }
}
