//! Interim answers (1xx) on their way to the downstream peer.
//!
//! hyper's HTTP/1 server has no way to write them, so on HTTP/1 the byte guard under hyper writes them; on HTTP/2 the
//! stream itself does.

use std::{cell::RefCell, rc::Rc};

use ::http::{HeaderMap, Response, StatusCode, Version, header};
use bytes::Bytes;

use super::{fields, guard::InFlight};

/// A stream that can still be answered, shared with the future that will answer it.
pub(super) type Http2Stream = Rc<RefCell<::h2::server::SendResponse<Bytes>>>;

/// Where the interim answers of one request go.
#[derive(Clone)]
pub enum Interim {
    /// Nowhere.
    Nowhere,
    /// To an HTTP/1 connection, at this version.
    Http1(Rc<InFlight>, Version),
    /// To an HTTP/2 stream.
    Http2(Http2Stream),
}

impl Interim {
    /// Whether an interim answer of this status is passed on.
    ///
    /// `100 (Continue)` concerns one connection only; whoever reads the body there sends its own (RFC 9110 section
    /// 10.1.1). `101` would be an upgrade, and is none that we asked for.
    pub fn travels(status: StatusCode) -> bool {
        status.is_informational() && !matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS)
    }

    /// Sends an interim answer, without what concerns the upstream connection alone or pretends to. One that cannot be
    /// sent is dropped: it carries nothing that the peer must have.
    pub async fn send(&self, status: StatusCode, mut headers: HeaderMap) {
        if !Self::travels(status) {
            return;
        }
        fields::strip_hop_by_hop(&mut headers);
        headers.remove(fields::REASON);
        // It has no content (RFC 9110 section 8.6), and a reader who believed in some would lose its place.
        headers.remove(header::CONTENT_LENGTH);
        match self {
            Self::Nowhere => {}
            Self::Http1(in_flight, version) => {
                in_flight.send_interim(*version, status, &headers).await;
            }
            Self::Http2(stream) => {
                let mut head = Response::new(());
                *head.status_mut() = status;
                *head.headers_mut() = headers;
                if let Ok(mut stream) = stream.try_borrow_mut() {
                    // A stream that is gone tells its own future so.
                    stream.send_informational(head).ok();
                }
            }
        }
    }
}
