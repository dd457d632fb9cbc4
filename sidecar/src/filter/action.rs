//! What a phase answers.

use std::{fmt, future::Future, pin::Pin};

use http::Response;

use crate::http::body::Body;

/// What happens next.
pub enum Action {
    /// The next filter is asked.
    Continue,
    /// This is the answer; no filter behind this one is asked. It goes back through those that saw the request, this
    /// one included. In a body phase the body breaks off; an answer whose head was already sent cannot be replaced.
    Respond(Box<Response<Body>>),
    /// The request or connection is refused: 403 `denied`. Where an answer has begun, it breaks off.
    Deny,
    /// The filter has failed, in this way, and nothing passes without it: 503 `filter_failed`.
    Fail(Box<str>),
    /// The message waits for this future, and what it says happens then. Nothing of the request is borrowed meanwhile:
    /// a paused plugin call fits in without a stack of its own.
    Wait(Pin<Box<dyn Future<Output = Self>>>),
    /// The same phase is entered once more: what was waited for is there, and the headers can be changed.
    Again,
}

impl Action {
    /// This answer.
    pub fn respond(response: Response<Body>) -> Self {
        Self::Respond(Box::new(response))
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Continue => "Continue",
            Self::Respond(_) => "Respond",
            Self::Deny => "Deny",
            Self::Fail(_) => "Fail",
            Self::Wait(_) => "Wait",
            Self::Again => "Again",
        })
    }
}
