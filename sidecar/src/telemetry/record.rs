//! What is known of one request or opaque connection when it has ended.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{Method, uri::PathAndQuery};

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
    /// Mutual TLS.
    MutualTls,
}

/// A W3C trace context, ours: the span id is this hop's own. `Copy`, parsed and written without allocation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceContext {
    /// The trace's id, never zero.
    pub trace_id: u128,
    /// The id of the span that this hop may make.
    pub span_id: u64,
    /// The span that it continues; 0: it began here.
    pub parent_id: u64,
    /// Whether the trace is kept.
    pub sampled: bool,
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
    /// The rule that matched; empty: none.
    pub route: Arc<str>,
    /// The region that served it or that it came from; empty: unknown.
    pub peer_region: Arc<str>,
    /// The method; `None` for opaque connections.
    pub method: Option<Method>,
    /// The path and query asked for.
    pub path: Option<PathAndQuery>,
    /// The authority asked for.
    pub authority: Option<http::uri::Authority>,
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
    /// Attempts made upstream.
    pub attempts: u32,
    /// The downstream peer.
    pub downstream: Option<SocketAddr>,
    /// The endpoint that served it, or was tried last.
    pub upstream: Option<SocketAddr>,
    /// Body bytes from downstream.
    pub bytes_received: u64,
    /// Body bytes to downstream.
    pub bytes_sent: u64,
    /// The trace it belongs to.
    pub trace: Option<TraceContext>,
}
