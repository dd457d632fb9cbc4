//! A request whose trace is not kept costs no allocation for it, and neither does counting it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: helpers outside #[test] may panic")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, HeaderValue, Method};
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

fn worker() -> Telemetry {
    let config = TelemetryConfig { access_log: LogOutput::None, ..TelemetryConfig::default() };
    TelemetryHub::start(config).unwrap().worker()
}

fn allocations(what: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    what();
    ALLOCATIONS.get() - before
}

fn traced(worker: &Telemetry, flags: Option<&str>) -> u64 {
    let mut headers = HeaderMap::new();
    headers.insert("accept", HeaderValue::from_static("*/*"));
    if let Some(flags) = flags {
        let value = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
        headers.insert("traceparent", value.try_into().unwrap());
    }
    allocations(|| {
        worker.trace(Direction::Outbound, Security::Plain, &mut headers, &SETTINGS);
    })
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
        attempts: 1,
        attempt_after: Duration::ZERO,
        downstream: None,
        upstream: None,
        bytes_received: 0,
        bytes_sent: 0,
        trace: None,
    }
}

#[test]
fn a_trace_that_is_not_kept_allocates_nothing() {
    let worker = worker();
    assert_eq!(traced(&worker, Some("00")), 0, "continued");
    assert_eq!(traced(&worker, None), 0, "absent");
    assert!(traced(&worker, Some("01")) > 0, "a kept one writes a header, or this test does not count");
}

#[test]
fn counting_a_request_of_known_labels_allocates_nothing() {
    let worker = worker();
    let first = allocations(|| worker.finish(record(), &SETTINGS));
    assert!(first > 0, "the first one makes its series, or this test does not count");
    let next = record();
    assert_eq!(allocations(|| worker.finish(next, &SETTINGS)), 0);
}
