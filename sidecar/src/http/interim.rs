//! Interim answers (1xx) on their way to the downstream peer.
//!
//! hyper's HTTP/1 server has no way to write them, so on HTTP/1 the byte guard under hyper writes them; on HTTP/2 the
//! stream itself does.

use std::{cell::Cell, rc::Rc};

use ::http::{HeaderMap, Response, StatusCode, Version, header};

use super::{fields, guard::InFlight, h2::ServerStream};

/// So many are passed on to one request on HTTP/2; the rest is dropped. They wait there for a client that reads slowly, or
/// not at all, and nothing else bounds them.
const MOST_ON_HTTP2: u8 = 16;

/// Where the interim answers of one request go.
pub enum Interim {
    /// Nowhere.
    Nowhere,
    /// To an HTTP/1 connection, at this version.
    Http1(Rc<InFlight>, Version),
    /// To an HTTP/2 stream, which takes so many more.
    Http2(Rc<ServerStream>, Cell<u8>),
}

impl Interim {
    /// To an HTTP/2 stream.
    pub(super) const fn http2(stream: Rc<ServerStream>) -> Self {
        Self::Http2(stream, Cell::new(MOST_ON_HTTP2))
    }

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
            Self::Http2(stream, more) => {
                let Some(left) = more.get().checked_sub(1) else { return };
                more.set(left);
                let mut head = Response::new(());
                *head.status_mut() = status;
                *head.headers_mut() = headers;
                stream.moved();
                if let Ok(mut respond) = stream.respond.try_borrow_mut() {
                    // A stream that is gone tells its own future so.
                    respond.send_informational(head).ok();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin, task::Poll};

    use ::http::Request;

    use super::*;

    #[tokio::test]
    async fn an_http2_request_gets_no_more_than_a_few() {
        let (near, far) = tokio::io::duplex(1 << 16);
        let serving = async move {
            let mut server = ::h2::server::handshake(far).await.unwrap();
            let (_, respond) = server.accept().await.unwrap().unwrap();
            let stream = ServerStream::new(respond);
            let interim = Interim::http2(Rc::clone(&stream));
            for _ in 0..3 * MOST_ON_HTTP2 {
                interim.send(StatusCode::EARLY_HINTS, HeaderMap::new()).await;
            }
            stream.respond.borrow_mut().send_response(Response::new(()), true).unwrap();
            server.accept().await.is_none()
        };
        let asking = async move {
            let (mut sender, connection) = ::h2::client::handshake(near).await.unwrap();
            let mut connection = pin!(connection);
            let (mut answer, _) =
                sender.send_request(Request::get("http://x/").body(()).unwrap(), true).unwrap();
            let mut interims = 0;
            poll_fn(|cx| {
                assert!(connection.as_mut().poll(cx).is_pending());
                while let Poll::Ready(Some(head)) = answer.poll_informational(cx) {
                    assert_eq!(head.unwrap().status(), StatusCode::EARLY_HINTS);
                    interims += 1;
                }
                pin!(&mut answer).poll(cx).map(|answer| assert!(answer.is_ok()))
            })
            .await;
            interims
        };
        let (closed, interims) = tokio::join!(serving, asking);
        assert!(closed);
        assert_eq!(interims, MOST_ON_HTTP2);
    }
}
