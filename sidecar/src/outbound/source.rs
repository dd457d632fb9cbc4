//! The request as it is sent, once or again.

use http::{Request, request};
use http_body::Body as _;

use crate::http::{body::Body, replay::Replay};

/// Gives a request for each attempt. The last one takes what is left, so that a request that is sent once is never
/// copied.
pub(super) struct Source {
    head: Option<request::Parts>,
    body: Kept,
}

enum Kept {
    /// No body: can be sent as often as one likes.
    Nothing,
    /// Kept as far as the limit allows.
    Replay(Replay),
    /// Sent once.
    Once(Option<Body>),
}

impl Source {
    /// `again`: how many attempts may follow the first.
    pub(super) fn new(head: request::Parts, body: Body, again: u32, limit: usize) -> Self {
        let body = if body.is_end_stream() {
            Kept::Nothing
        } else if again > 0 {
            Kept::Replay(Replay::new(body, limit))
        } else {
            Kept::Once(Some(body))
        };
        Self { head: Some(head), body }
    }

    /// The request for the next attempt, which the attempt before can take nothing of any more; `None`: there can be none.
    pub(super) fn next(&mut self, last: bool) -> Option<Request<Body>> {
        let head = if last { self.head.take() } else { self.head.clone() }?;
        let body = match &mut self.body {
            Kept::Nothing => Body::empty(),
            Kept::Replay(replay) => replay.body()?,
            Kept::Once(body) => body.take()?,
        };
        Some(Request::from_parts(head, body))
    }

    /// Whether there can be another attempt.
    pub(super) fn replayable(&self) -> bool {
        let body = match &self.body {
            Kept::Nothing => true,
            Kept::Replay(replay) => replay.possible(),
            Kept::Once(body) => body.is_some(),
        };
        body && self.head.is_some()
    }
}
