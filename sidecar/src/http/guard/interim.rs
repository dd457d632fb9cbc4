//! Interim answers (1xx, RFC 9110 section 15.2), which hyper's server turns into 500.
//!
//! The wrapper under hyper may only write between hyper's bytes where a message ends, and the end of the previous
//! answer or a `100 Continue` may still lie in hyper's buffer. A flush is the proof that it doesn't: hyper passes one on
//! only when its buffer is empty. So an interim answer is begun in `poll_flush` alone, and the service waits for it
//! before it returns the final one.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use http::{HeaderMap, StatusCode, Version};

use super::handle::{InFlight, Shared};

/// An interim answer on its way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) bytes: Vec<u8>,
    pub(super) written: usize,
    sender: Option<Waker>,
}

impl InFlight {
    /// Writes an interim answer, and waits until the socket has taken it. To be awaited by the service before it returns
    /// the final answer. Nothing is written, and `false` returned, if the client speaks HTTP/1.0 (RFC 9110 section
    /// 15.2), if the final answer has begun, or if the status is not an interim one (101 is hyper's to write).
    pub async fn send_interim(&self, request: Version, status: StatusCode, headers: &HeaderMap) -> bool {
        let is_interim = status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS;
        if request != Version::HTTP_11 || !is_interim {
            return false;
        }
        let mut sending = Sending { shared: &self.shared, bytes: Some(encode(status, headers)) };
        poll_fn(|cx| sending.poll(cx.waker())).await
    }
}

impl Pending {
    /// Tells the sender that all is written.
    pub(super) fn done(self) {
        if let Some(sender) = self.sender {
            sender.wake();
        }
    }
}

struct Sending<'a> {
    shared: &'a Rc<RefCell<Shared>>,
    /// Not queued yet.
    bytes: Option<Vec<u8>>,
}

impl Sending<'_> {
    fn poll(&mut self, waker: &Waker) -> Poll<bool> {
        let mut shared = self.shared.borrow_mut();
        let Some(bytes) = self.bytes.take() else {
            return match &mut shared.interim {
                Some(pending) => {
                    pending.sender = Some(waker.clone());
                    Poll::Pending
                }
                None => Poll::Ready(true),
            };
        };
        if shared.answering || shared.interim.is_some() {
            return Poll::Ready(false);
        }
        shared.interim = Some(Pending { bytes, written: 0, sender: Some(waker.clone()) });
        shared.wake();
        Poll::Pending
    }
}

impl Drop for Sending<'_> {
    /// Given up: what has begun is written to its end, what hasn't is forgotten.
    fn drop(&mut self) {
        let mut shared = self.shared.borrow_mut();
        if self.bytes.is_none() && shared.interim.as_ref().is_some_and(|pending| pending.written == 0) {
            shared.interim = None;
        }
    }
}

fn encode(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let reason = status.canonical_reason().unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::encode;

    #[test]
    fn an_interim_head_has_every_value_of_a_field() {
        let mut headers = HeaderMap::new();
        headers.append("link", HeaderValue::from_static("</a>"));
        headers.append("link", HeaderValue::from_static("</b>"));
        let head = encode(StatusCode::EARLY_HINTS, &headers);
        assert_eq!(head, b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\r\n");
    }
}
