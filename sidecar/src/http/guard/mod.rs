//! The strict byte guard that sits under hyper's HTTP/1 server.
//!
//! Request smuggling needs two parsers that read the same bytes differently. hyper is lenient in places where the
//! parser behind us may not be (it drops a Content-Length that stands beside a Transfer-Encoding, it folds equal
//! duplicates, it ends lines on a bare LF), and once it has parsed a head, nobody can see what it has forgiven. So the
//! guard reads the bytes first, by the letter of RFC 9112, and what could be read in two ways never becomes a request:
//! the answer is 400 or 431, and the connection is closed.
//!
//! * [`scan`]: the pure state machine over bytes. `line`, `fields`, `value`, `chunk` and `authority` are its parts.
//! * [`io`]: [`Guard`], the wrapper around the socket which runs the scanner over what hyper is about to read.
//! * [`handle`]: what the connection's owner learns and tells: requests in flight, the refusal, `pass_through`.
//! * [`interim`]: 1xx answers, which hyper's server cannot write.
//! * [`response`]: the answer to a refused message, and the closing of its connection.
//!
//! # How the owner uses it
//!
//! 1. `let (guard, handle) = Guard::new(io, Limits::default())`, then `serve_connection(TokioIo::new(guard), service)`.
//!    Run that connection by [`Handle::run`], then take the socket back: `into_parts().io.into_inner().into_parts()`.
//!    Never run it by `poll_without_shutdown`: that ends with unwritten bytes in hyper's buffer.
//! 2. In the service: [`Handle::request_started`], and keep its [`InFlight`] until the answer's body has ended (put it
//!    into the body). It must be dropped even when the request fails.
//! 3. After the connection has ended: if [`Handle::answer_due`] says so, [`response::refuse`] it. The guard keeps hyper
//!    from shutting the socket down then.
//! 4. On an accepted CONNECT or upgrade: [`Handle::pass_through`] *before* the 2xx or 101 is returned to hyper; then run
//!    the connection to its end and open the tunnel on the socket, beginning with the bytes that came with it (hyper's
//!    `read_buf` first, then the guard's).
//!
//! hyper's `pipeline_flush` must stay off: the guard takes a flush as the sign that hyper's buffer is empty.
//!
//! # Choices where the RFC leaves room
//!
//! * One empty line (CRLF) before a request is tolerated (RFC 9112 section 2.2: "at least one"), a second is refused.
//! * Content-Length and Transfer-Encoding may be padded with spaces, not with tabs.
//! * A request-target must be one that RFC 9112 section 3.2 knows: `/...`, `http://...`, `*` for OPTIONS, `host:port`
//!   for CONNECT. Of the bytes that RFC 3986 excludes, those that clients are known to send raw and that have one
//!   reading (`[ ] { } | \ ^`) are let through. No userinfo, no fragment.
//! * A Host value must be a registered name, an address or empty: no comma, no percent, no userinfo.
//! * Content-Length, Transfer-Encoding and Host are refused in trailers (RFC 9110 section 6.5.1).
//! * A CONNECT has no content (RFC 9110 section 9.3.6).
//! * Lengths above 2^63 - 1 are refused: many parsers hold them in signed numbers.

mod authority;
mod bytes;
mod chunk;
mod fields;
mod handle;
mod interim;
mod io;
mod limits;
mod line;
pub mod response;
pub mod scan;
mod value;
mod violation;
mod word;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
#[cfg(test)]
mod tests;

pub(in crate::http) use self::authority::is_host_value;
pub(in crate::http) use self::bytes::is_token;
pub use self::handle::{Handle, InFlight};
pub use self::io::Guard;
pub use self::limits::Limits;
pub use self::scan::{Refused, Scanner};
pub use self::violation::{Kind, Violation};
