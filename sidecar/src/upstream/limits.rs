//! The limits of upstream connections. All are finite.

use std::time::Duration;

use crate::{config::MESH_HEADROOM, http::io::Liveness};

/// The limits of upstream connections.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamLimits {
    /// Until a connection is made, its TLS handshake included.
    pub connect_timeout: Duration,
    /// An idle connection is closed after this.
    pub idle_timeout: Duration,
    /// A connection takes no new request after this, jittered by a tenth; over HTTP/2 it still does where no younger one has a
    /// stream left and no other may be opened.
    pub max_age: Duration,
    /// Idle HTTP/1 connections kept for each endpoint and worker.
    pub idle_per_endpoint: usize,
    /// Connections to one endpoint from one worker.
    pub connections_per_endpoint: usize,
    /// Requests of one worker that wait for a connection to one endpoint.
    pub pending_per_endpoint: usize,
    /// How dead peers are found out.
    pub liveness: Liveness,
    /// Bytes of an answer's head.
    pub head_bytes: usize,
    /// Header fields of an answer.
    pub header_count: usize,
    /// Receive window of an HTTP/2 stream, bytes.
    pub stream_window: u32,
    /// Receive window of an HTTP/2 connection, bytes.
    pub connection_window: u32,
    /// Bytes that wait to be sent on one HTTP/2 stream.
    pub send_buffer: usize,
}

impl UpstreamLimits {
    /// Those of a connection to another sidecar.
    #[must_use]
    pub fn meshed(self) -> Self {
        let (head_bytes, header_count) = (MESH_HEADROOM * self.head_bytes, MESH_HEADROOM * self.header_count);
        Self { head_bytes, header_count, ..self }
    }
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(90),
            max_age: Duration::from_secs(3600),
            idle_per_endpoint: 256,
            connections_per_endpoint: 1024,
            pending_per_endpoint: 1024,
            liveness: Liveness::default(),
            head_bytes: 64 << 10,
            header_count: 100,
            stream_window: 1 << 20,
            connection_window: 4 << 20,
            send_buffer: 128 << 10,
        }
    }
}
