//! One request, whatever version it came in: detection, the two servers, and what every version shares.

pub mod body;
pub mod deadline;
pub mod detect;
pub mod ending;
pub mod fields;
mod first_bytes;
pub mod guard;
pub mod h1;
pub mod h2;
pub mod interim;
pub mod io;
pub mod replay;
pub mod reply;
pub mod shape;
mod stream;

use std::{future::Future, rc::Rc, time::Duration};

use ::http::{Request, Response};

use self::{body::Body, ending::Cut, interim::Interim};
use crate::config::MESH_HEADROOM;

/// What answers the requests of one downstream connection.
pub trait Handler: 'static {
    /// Answers one request. `interim` takes 1xx answers meanwhile.
    fn handle(self: Rc<Self>, request: Request<Body>, interim: Interim) -> impl Future<Output = Answer>;

    /// The connection is about to be cut, with the requests that are under way on it.
    fn cut(&self, _: Cut) {}

    /// One request is cut, and its connection goes on: `ends` drops what is under way for it.
    fn cut_one(&self, _: Cut, ends: impl FnOnce()) {
        ends();
    }
}

/// How a request is answered: with a response, or with none.
pub type Answer = Result<Response<Body>, Abort>;

/// No response is given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Abort {
    /// Nobody has touched the request; the peer may send it elsewhere (RFC 9113 section 8.7).
    Refused,
    /// The request broke off on the way; an HTTP/2 peer sees this code, an HTTP/1 peer a closed connection.
    Reset(::h2::Reason),
}

/// The limits of a downstream connection.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Header fields of a request.
    pub header_count: usize,
    /// Bytes of an HTTP/1 request line.
    pub request_line_bytes: usize,
    /// Concurrent streams of an HTTP/2 connection.
    pub concurrent_streams: u32,
    /// Streams that the peer may reset in a second (CVE-2023-44487).
    pub resets_per_second: u32,
    /// Streams that it may have reset before we have looked at them.
    pub pending_resets: usize,
    /// Receive window of an HTTP/2 stream, bytes.
    pub stream_window: u32,
    /// Receive window of an HTTP/2 connection, bytes.
    pub connection_window: u32,
    /// Bytes that wait to be sent on one HTTP/2 stream.
    pub send_buffer: usize,
    /// From the first byte of a head to its last.
    pub head_timeout: Duration,
    /// A request on which no byte moves, and a connection on which none does.
    pub idle_timeout: Duration,
}

/// So many times more streams a sidecar may reset. Its one connection carries all callers of a worker, and an application
/// that is slow lets the time of all run out: as many resets as it has requests are no attack. It has proven who it is, and
/// holds its own callers to the limit as it stands.
const MESH_RESETS: u32 = 50;

impl HttpLimits {
    /// Those of a connection from another sidecar.
    #[must_use]
    pub fn meshed(self) -> Self {
        Self {
            head_bytes: MESH_HEADROOM * self.head_bytes,
            header_count: MESH_HEADROOM * self.header_count,
            resets_per_second: self.resets_per_second.saturating_mul(MESH_RESETS),
            // All that it may have open can end at once while we are kept from looking.
            pending_resets: self.pending_resets.max(self.concurrent_streams as usize),
            ..self
        }
    }
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            head_bytes: 64 << 10,
            header_count: 100,
            request_line_bytes: 16 << 10,
            concurrent_streams: 1024,
            resets_per_second: 200,
            pending_resets: 64,
            stream_window: 1 << 20,
            connection_window: 4 << 20,
            send_buffer: 128 << 10,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(3600),
        }
    }
}
