//! What has come of a request's body, and whether its client is waited for.

use std::{cell::Cell, rc::Rc};

use super::Exchange;
use crate::http::body::{Body, BodyError, End, Held, Observer};

impl Exchange {
    /// Counts the bytes of the request's body, and notes its end.
    pub fn watch_request(&mut self, body: Body) -> Body {
        if http_body::Body::is_end_stream(&body) {
            return body;
        }
        let received = Rc::<Received>::default();
        self.received = Some(Rc::clone(&received));
        body.observed(Box::new(received))
    }

    /// Has an attempt's body say whether its reader waits for more of it, or for room to pass on what it has.
    pub fn watch_attempt(&self, body: Body) -> Body {
        let Some(received) = self.received.as_ref().filter(|_| !http_body::Body::is_end_stream(&body)) else {
            return body;
        };
        received.wanted.set(false);
        body.holding(Rc::clone(received) as _)
    }

    /// Whether the client is waited for: more of its request is wanted than has come. Not so while an endpoint that stops
    /// reading leaves no room for it.
    pub fn waits_for_client(&self) -> bool {
        self.received.as_ref().is_some_and(|received| received.wanted.get() && !received.whole.get())
    }
}

/// What has come of a request's body.
#[derive(Default)]
pub(super) struct Received {
    pub(super) bytes: Cell<u64>,
    whole: Cell<bool>,
    /// Who reads it has asked for more in vain.
    wanted: Cell<bool>,
}

impl Observer for Rc<Received> {
    fn on_data(&mut self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
    }

    fn on_end(&mut self, end: End, _: Option<&BodyError>) {
        self.whole.set(end == End::Complete);
    }
}

impl Held for Received {
    fn moved(&self) {
        self.wanted.set(false);
    }

    fn waits(&self) {
        self.wanted.set(true);
    }

    /// Of an earlier attempt's body this says nothing about the one that is read now.
    fn release(self: Rc<Self>, _: End) {}
}
