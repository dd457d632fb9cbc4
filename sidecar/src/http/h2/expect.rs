//! `Expect: 100-continue` (RFC 9110 section 10.1.1): the client waits for `100 (Continue)` before it sends the body. It
//! gets it when somebody begins to read the body. On HTTP/1 hyper does the same; `h2` leaves it to us.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::RecvStream;
use http::{Request, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::ServerStream;
use crate::http::body::{Body, BodyError};

/// A client that waits.
#[derive(Clone)]
pub(super) struct Expectation {
    stream: Rc<ServerStream>,
    waits: Rc<Cell<bool>>,
}

impl Expectation {
    /// What the client of this request waits for, if it does.
    pub(super) fn of(request: &Request<RecvStream>, stream: &Rc<ServerStream>) -> Option<Self> {
        let expects = request.headers().get(header::EXPECT)?;
        let waits =
            expects.as_bytes().eq_ignore_ascii_case(b"100-continue") && !request.body().is_end_stream();
        waits.then(|| Self { stream: Rc::clone(stream), waits: Rc::new(Cell::new(true)) })
    }

    /// The body that the client waits to send.
    pub(super) fn of_body(&self, body: Body) -> Body {
        Body::boxed(Expected { expectation: self.clone(), body })
    }

    /// The final answer is there: it says the rest. `h2` would let a `100` follow it.
    pub(super) fn is_over(&self) {
        self.waits.set(false);
    }

    fn go_on(&self) {
        if !self.waits.replace(false) {
            return;
        }
        let mut head = Response::new(());
        *head.status_mut() = StatusCode::CONTINUE;
        self.stream.moved();
        // A stream that is gone tells its reader so.
        self.stream.respond.borrow_mut().send_informational(head).ok();
    }
}

struct Expected {
    expectation: Expectation,
    body: Body,
}

impl HttpBody for Expected {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.expectation.go_on();
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
