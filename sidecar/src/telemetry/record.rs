//! What is known of one request or opaque connection when it has ended.

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderValue, Method, uri::PathAndQuery};

use crate::{config::snapshot::Revision, error::Reason};

/// Which way the request went, as seen from our pod's application.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Direction {
    /// Towards it.
    Inbound,
    /// From it.
    Outbound,
}

/// What was spoken (OpenTelemetry `network.protocol.name` and `.version`).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Protocol {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
    /// Opaque bytes.
    Tcp,
}

/// What protects the leg between the sidecars.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Security {
    /// Nothing.
    Plain,
    /// TLS of an explicit listener or of an endpoint without a sidecar.
    Tls,
    /// Mutual TLS.
    MutualTls,
}

/// A trace's id as 32 digits in lower case. Most requests belong to traces that are not kept, and only pass it on: so it
/// stays as it is written, and is looked at only by who wants to know it.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct TraceId(pub(crate) [u8; 32]);

impl TraceId {
    /// The id as it is written. `None`: it came with a trace that is not kept, and breaks the rules for an id.
    pub fn as_str(&self) -> Option<&str> {
        let is_digit = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        let is_id = self.0.iter().all(is_digit) && self.0 != [b'0'; 32];
        std::str::from_utf8(&self.0).ok().filter(|_| is_id)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str().unwrap_or("invalid"))
    }
}

/// A W3C trace context as this hop passes it on. `Copy`, parsed and written without allocation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceContext {
    /// The trace's id.
    pub trace_id: TraceId,
    /// The id of this hop's span; 0: none is kept.
    pub span_id: u64,
    /// The span that it continues; 0: it began here, or none is kept.
    pub parent_id: u64,
    /// Whether the trace is kept.
    pub sampled: bool,
    /// Whether the low 56 bits of the trace's id are known to be random (Trace Context level 2).
    pub random: bool,
}

/// Why an attempt of a kept trace went where it went.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Placement {
    /// Why this region; `None`: there was nobody to ask.
    pub why: Option<&'static str>,
    /// The regions that it did not go to, in the order of the policy; last those that policy forbids.
    pub passed_over: Vec<PassedOver>,
}

/// A region that an attempt did not go to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PassedOver {
    /// Its name; empty: that of endpoints which name none.
    pub region: Arc<str>,
    /// Why not.
    pub why: &'static str,
}

/// The rules that did not serve a request of a kept trace.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rejected {
    /// They, once for each condition, in the order of precedence.
    pub rules: Vec<RejectedRule>,
    /// How many conditions more there are.
    pub left_out: usize,
}

/// A rule that did not serve a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RejectedRule {
    /// Its name.
    pub rule: Arc<str>,
    /// Why not.
    pub why: String,
}

/// One request or opaque connection, from its first byte to its last.
#[derive(Clone, Debug)]
pub struct Record {
    /// Which way it went.
    pub direction: Direction,
    /// When it began, on the wall clock and on the monotonic one.
    pub began: SystemTime,
    /// When it began.
    pub started: Instant,
    /// Until the answer's head; `None`: there was none.
    pub first_byte: Option<Duration>,
    /// Until the last byte.
    pub duration: Duration,
    /// The policy's revision it was decided under.
    pub revision: Revision,
    /// The service it was for: `namespace/name`, `external` or `unknown`.
    pub service: Arc<str>,
    /// The service or workload at the other end: inbound, the caller's identity; outbound, who served it.
    pub peer_service: Arc<str>,
    /// The SPIFFE id at the other end of the mesh leg, as its certificate proved it.
    pub peer_identity: Option<Arc<str>>,
    /// The rule that matched; empty: none.
    pub route: Arc<str>,
    /// Outbound: the rules that did not match. Known of kept traces only.
    pub rejected: Option<Box<Rejected>>,
    /// Outbound: the region that served it, or was tried last; empty: unknown.
    pub peer_region: Arc<str>,
    /// The method; `None` for opaque connections, and for what never became a request.
    pub method: Option<Method>,
    /// The path and query asked for.
    pub path: Option<PathAndQuery>,
    /// The authority asked for.
    pub authority: Option<HeaderValue>,
    /// What the downstream peer spoke.
    pub protocol: Protocol,
    /// What the upstream peer spoke; `None`: nobody was asked.
    pub upstream_protocol: Option<Protocol>,
    /// What protected the leg between the sidecars.
    pub security: Security,
    /// The status answered; 0: none was.
    pub status: u16,
    /// Why it failed, if it did.
    pub reason: Option<Reason>,
    /// What happened, for the log.
    pub detail: Option<Box<str>>,
    /// The AuthzPolicy in AUDIT that would have refused it.
    pub would_deny: Option<Arc<str>>,
    /// Attempts made upstream.
    pub attempts: u32,
    /// From the start until the last attempt was begun.
    pub attempt_after: Duration,
    /// Outbound: why the last attempt went where it went. Known of kept traces only.
    pub placement: Option<Box<Placement>>,
    /// The downstream peer.
    pub downstream: Option<SocketAddr>,
    /// The endpoint that served it, or was tried last.
    pub upstream: Option<SocketAddr>,
    /// Body bytes from downstream.
    pub bytes_received: u64,
    /// Body bytes to downstream.
    pub bytes_sent: u64,
    /// The trace it belongs to; `None`: to none.
    pub trace: Option<TraceContext>,
}

impl Record {
    /// The record of something that begins now.
    pub fn begun(direction: Direction, revision: Revision) -> Self {
        let nothing = empty();
        Self {
            direction,
            began: SystemTime::now(),
            started: Instant::now(),
            first_byte: None,
            duration: Duration::ZERO,
            revision,
            service: Arc::clone(&nothing),
            peer_service: Arc::clone(&nothing),
            peer_identity: None,
            route: Arc::clone(&nothing),
            rejected: None,
            peer_region: nothing,
            method: None,
            path: None,
            authority: None,
            protocol: Protocol::Http11,
            upstream_protocol: None,
            security: Security::Plain,
            status: 0,
            reason: None,
            detail: None,
            would_deny: None,
            attempts: 0,
            attempt_after: Duration::ZERO,
            placement: None,
            downstream: None,
            upstream: None,
            bytes_received: 0,
            bytes_sent: 0,
            trace: None,
        }
    }
}

/// The empty label. One for each thread: workers would otherwise pass its reference count to and fro.
fn empty() -> Arc<str> {
    thread_local! {
        static EMPTY: Arc<str> = Arc::from("");
    }
    EMPTY.with(Arc::clone)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record with something in every field.
    pub(crate) fn full() -> Record {
        Record {
            direction: Direction::Outbound,
            began: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_230_245_678),
            started: Instant::now(),
            first_byte: Some(Duration::from_micros(1_500)),
            duration: Duration::from_micros(12_345),
            revision: Revision { number: 7, digest: 0xab },
            service: "shop/orders".into(),
            peer_service: "shop/orders".into(),
            peer_identity: Some("spiffe://trama.local/ns/shop/sa/orders".into()),
            route: "shop/orders/0".into(),
            rejected: None,
            peer_region: "sao-paulo".into(),
            method: Some(Method::POST),
            path: Some(PathAndQuery::from_static("/v1/\"a\"?q=1")),
            authority: Some(HeaderValue::from_static("orders.shop:8080")),
            protocol: Protocol::Http11,
            upstream_protocol: Some(Protocol::Http2),
            security: Security::MutualTls,
            status: 503,
            reason: Some(Reason::ConnectFailed),
            detail: Some("refused\n\u{1}".into()),
            would_deny: Some("shop/readers".into()),
            attempts: 2,
            attempt_after: Duration::from_millis(10),
            placement: None,
            downstream: Some(SocketAddr::from(([10, 0, 0, 1], 40_000))),
            upstream: Some("[fd00::2]:15008".parse().unwrap()),
            bytes_received: 11,
            bytes_sent: 22,
            trace: Some(TraceContext {
                trace_id: TraceId(*b"4bf92f3577b34da6a3ce929d0e0e4736"),
                span_id: 0x00f0_67aa_0ba9_02b7,
                parent_id: 0x0102_0304_0506_0708,
                sampled: true,
                random: true,
            }),
        }
    }
}
