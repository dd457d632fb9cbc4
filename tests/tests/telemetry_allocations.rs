//! A request whose trace is not kept costs no allocation for it, and neither does counting it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: helpers outside #[test] may panic")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, HeaderValue, Method};
use tokio::runtime::{self, Runtime};
use trama_sidecar::{
    config::snapshot::{Revision, TelemetrySettings},
    telemetry::{Direction, LogOutput, Protocol, Record, Security, Telemetry, TelemetryConfig, TelemetryHub},
};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[allow(unsafe_code, reason = "an allocator is an unsafe trait; this one only counts")]
// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SETTINGS: TelemetrySettings = TelemetrySettings { sampling: 1e-12, access_log: true };

/// Every way in which a request comes: from the application, to it in plain text, from another sidecar.
const HOPS: [(Direction, Security); 3] = [
    (Direction::Outbound, Security::Plain),
    (Direction::Inbound, Security::Plain),
    (Direction::Inbound, Security::MutualTls),
];

fn worker() -> Telemetry {
    let config = TelemetryConfig { access_log: LogOutput::None, ..TelemetryConfig::default() };
    TelemetryHub::start(config).unwrap().worker()
}

/// One that has somebody to send spans to. Nothing is sent: the runtime is entered and never run.
fn exporting() -> (Runtime, Telemetry) {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let otlp_endpoint = Some("http://127.0.0.1:1".to_owned());
    let config = TelemetryConfig { access_log: LogOutput::None, otlp_endpoint, ..TelemetryConfig::default() };
    let entered = runtime.enter();
    let worker = TelemetryHub::start(config).unwrap().worker();
    drop(entered);
    (runtime, worker)
}

fn allocations(what: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    what();
    ALLOCATIONS.get() - before
}

fn headers(flags: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("accept", HeaderValue::from_static("*/*"));
    if let Some(flags) = flags {
        let value = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
        headers.insert("traceparent", value.try_into().unwrap());
    }
    headers
}

/// What is allocated for a request's trace: when it comes, when it is tried again, and at its end.
fn traced(worker: &Telemetry, (direction, security): (Direction, Security), flags: Option<&str>) -> [u64; 3] {
    let (mut headers, mut record) = (headers(flags), Record { direction, security, ..record() });
    let came = allocations(|| {
        record.trace = worker.trace(direction, security, &mut headers, &SETTINGS);
    });
    let again = allocations(|| {
        record.trace = record.trace.map(|trace| worker.retrace(trace, &mut headers));
    });
    [came, again, allocations(|| worker.finish(record, &SETTINGS))]
}

fn record() -> Record {
    Record {
        direction: Direction::Outbound,
        began: SystemTime::UNIX_EPOCH,
        started: Instant::now(),
        first_byte: None,
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
        upstream_protocol: None,
        security: Security::Plain,
        status: 200,
        reason: None,
        detail: None,
        would_deny: None,
        attempts: 1,
        attempt_after: Duration::ZERO,
        placement: None,
        downstream: None,
        upstream: None,
        bytes_received: 0,
        bytes_sent: 0,
        trace: None,
    }
}

#[test]
fn a_trace_that_is_not_kept_allocates_nothing() {
    let (_runtime, worker) = exporting();
    for hop in HOPS {
        // The first of its labels makes their series.
        traced(&worker, hop, None);
        assert_eq!(traced(&worker, hop, Some("00")), [0; 3], "continued: {hop:?}");
        assert_eq!(traced(&worker, hop, None), [0; 3], "absent: {hop:?}");
        assert_eq!(traced(&worker, hop, Some("0x")), [0; 3], "malformed: {hop:?}");
        let kept = traced(&worker, hop, Some("01"));
        assert!(kept.iter().all(|&n| n > 0), "a kept one writes headers and a span: {kept:?} of {hop:?}");
    }
}

#[test]
fn counting_a_request_of_known_labels_allocates_nothing() {
    let worker = worker();
    let first = allocations(|| worker.finish(record(), &SETTINGS));
    assert!(first > 0, "the first one makes its series, or this test does not count");
    let next = record();
    assert_eq!(allocations(|| worker.finish(next, &SETTINGS)), 0);
}
