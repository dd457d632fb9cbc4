//! The most and the longest of everything. Every limit is finite.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{self, DurationText};

/// The most of everything. What exceeds a limit is refused with a named reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of a request's or answer's header, all fields together: over HTTP/1 their lines, and a request's first one; over
    /// HTTP/2 names, values and 32 for each field, pseudo fields too (RFC 9113 section 6.5.2). A request with more gets 431
    /// `headers_too_large`, an answer fails as `upstream_malformed`.
    #[schemars(range(min = 1024, max = 1_048_576))]
    pub header_bytes: u32,
    /// Fields of a request's or answer's header, and of its trailers; over HTTP/2 the pseudo fields are not counted, and a
    /// request over HTTP/1 may have 50 trailers at most. A request with more gets 431 `headers_too_large`, an answer fails as
    /// `upstream_malformed`. The crumbs of a cookie are one. From another sidecar twice as many are taken, and twice
    /// `headerBytes`: its filters may have added some.
    #[schemars(range(min = 8, max = 10_000))]
    pub header_count: u32,
    /// Bytes of an HTTP/1 request line: method, target, version. With more: 431 `headers_too_large`.
    #[schemars(range(min = 256, max = 1_048_576))]
    pub request_line_bytes: u32,
    /// Downstream connections of the sidecar, all listeners together, in equal parts for the workers. One more is closed as
    /// `overloaded`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: u32,
    /// Streams open at one time on a downstream HTTP/2 connection (RFC 9113 section 5.1.2).
    #[schemars(range(min = 1, max = 10_000))]
    pub max_concurrent_streams: u32,
    /// Streams that a downstream HTTP/2 connection may reset per second. More closes it (CVE-2023-44487), and its
    /// requests end as `overloaded`. Another sidecar may reset fifty times as many: its connection carries all callers of
    /// one of its workers, and it holds those to its own limit.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_resets_per_second: u32,
    /// Bytes of a body that are held for each direction of a stream while the next hop reads slowly.
    #[schemars(range(min = 16_384, max = 16_777_216))]
    pub buffer_bytes: u32,
    /// Bytes of a request's body that are kept for a retry. A longer one is not tried again once it was sent.
    #[schemars(range(max = 16_777_216))]
    pub retry_buffer_bytes: u32,
    /// HTTP/2 flow-control window of a stream, in bytes.
    #[schemars(range(min = 65_535, max = 2_147_483_647))]
    pub stream_window_bytes: u32,
    /// HTTP/2 flow-control window of a connection, in bytes.
    #[schemars(range(min = 65_535, max = 2_147_483_647))]
    pub connection_window_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 64 * 1024,
            header_count: 128,
            request_line_bytes: 16 * 1024,
            max_connections: 16_384,
            max_concurrent_streams: 256,
            max_resets_per_second: 200,
            buffer_bytes: 256 * 1024,
            retry_buffer_bytes: 64 * 1024,
            stream_window_bytes: 1024 * 1024,
            connection_window_bytes: 4 * 1024 * 1024,
        }
    }
}

/// The longest of everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Timeouts {
    /// To make a connection to an endpoint, its TLS handshake included, or to get a free one. Then 503 `connect_timeout`, or
    /// `circuit_open` where none became free.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub connect: Duration,
    /// For the TLS handshake of a downstream peer. Then it is closed, and counted in `trama_tls_handshakes_total` as `timeout`.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub tls_handshake: Duration,
    /// From the first byte of an HTTP/1 request's header to its last; then 408 `request_header_timeout`. Over HTTP/2 the time
    /// for the connection's preface.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub request_header: Duration,
    /// A captured client that sends nothing for this long is taken to wait for the server: opaque TCP.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub detect: Duration,
    /// A downstream request on which no byte moves in either direction. It ends as `stream_idle`: over HTTP/2 its stream is reset,
    /// over HTTP/1 its connection closed. So is an HTTP/2 connection on which no byte moves; a PING counts as one there.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub stream_idle: Duration,
    /// An opaque TCP connection on which nothing moves. Then it is closed as `stream_idle`.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub tcp_idle: Duration,
    /// A peer that is silent for this long is asked whether it lives: by TCP keepalive, and a sidecar that owes an
    /// answer or waits for one by an HTTP/2 PING.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub keepalive: Duration,
    /// A peer that answers nothing for this long is gone, and its connection closed. On HTTP/2 connections to endpoints
    /// that holds for every byte sent (TCP_USER_TIMEOUT).
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub dead_peer: Duration,
    /// From SIGTERM until what is still open is cut, its requests as `draining`.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            tls_handshake: Duration::from_secs(5),
            request_header: Duration::from_secs(10),
            detect: Duration::from_millis(100),
            stream_idle: Duration::from_secs(3600),
            tcp_idle: Duration::from_secs(24 * 3600),
            keepalive: Duration::from_secs(15),
            dead_peer: Duration::from_secs(20),
            drain: Duration::from_secs(30),
        }
    }
}

/// Pooled connections to endpoints. The counts are for each worker and endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Pool {
    /// Connections open at one time. Those that take no more requests but still answer some, because their peer said GOAWAY
    /// or fell silent, bar no others: at most as many again are open.
    #[schemars(range(min = 1, max = 65_535))]
    pub max_connections_per_endpoint: u32,
    /// Requests that wait for a connection, or on HTTP/2 for a stream. One more fails as 503 `overloaded`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_pending_per_endpoint: u32,
    /// Idle HTTP/1.1 connections that are kept.
    #[schemars(range(max = 65_535))]
    pub max_idle_per_endpoint: u32,
    /// A connection without a request for this long is closed.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub idle_timeout: Duration,
    /// A connection older than this takes no new request; up to a tenth less, so that not all end at once.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub max_age: Duration,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            max_connections_per_endpoint: 1024,
            max_pending_per_endpoint: 1024,
            max_idle_per_endpoint: 256,
            idle_timeout: Duration::from_secs(90),
            max_age: Duration::from_secs(3600),
        }
    }
}
