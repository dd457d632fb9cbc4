//! One request's way through a chain. No phase allocates, unless a filter waits or has a body phase.

use std::rc::Rc;

use http::{Response, request, response};

use super::{Action, Answer, Chain, Context, Filter, Phases, body, framing};
use crate::{
    error::{Failure, Reached, Reason},
    http::body::Body,
    telemetry::Record,
};

/// The number of a request or opaque connection on its worker.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct StreamId(pub u64);

/// One request in a chain, from its head to its record.
pub struct Run {
    chain: Chain,
    cx: Context,
    /// How many filters saw the request: the answer goes back through these.
    entered: usize,
    /// What one of them answers while it sees the request's body.
    answer: Answer,
}

impl Run {
    /// Begins with the chain's first filter.
    pub fn new(chain: Chain, cx: Context) -> Self {
        Self { chain, cx, entered: 0, answer: Answer::default() }
    }

    /// A connection begins: whether it may go on. `Some`: a filter answers, which only a request can take.
    pub async fn connection(&mut self) -> Answered {
        while let Some(filter) = self.chain.filters.get(self.entered) {
            self.entered += 1;
            if filter.phases().has(Phases::CONNECTION)
                && let Some(answer) = settle(|| filter.on_connection(&self.cx)).await?
            {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    /// A connection that was let through before: all filters are in it, and none is asked.
    pub fn pass(&mut self) {
        self.entered = self.chain.filters.len();
    }

    /// The request's head goes through the filters. `Some`: one of them answers in the application's place; that answer
    /// goes through [`Run::response_headers`] and [`Run::response_body`] like any other.
    pub async fn request_headers(&mut self, parts: &mut request::Parts) -> Answered {
        self.entered = 0;
        let phases = self.chain.phases;
        if !phases.has_any(Phases::REQUEST_HEADERS | Phases::CHANGES_REQUEST_BODY) {
            self.pass();
            return Ok(None);
        }
        let framing = framing::OfRequest::of(parts);
        let mut answer = None;
        while let (None, Some(filter)) = (&answer, self.chain.filters.get(self.entered)) {
            // Counted before it is asked: it may wait, and a peer that goes away meanwhile ends the request there.
            self.entered += 1;
            if filter.phases().has(Phases::REQUEST_HEADERS) {
                answer = settle(|| filter.on_request_headers(&self.cx, parts)).await?;
            }
        }
        framing.restore(parts, phases.has(Phases::CHANGES_REQUEST_BODY));
        Ok(answer)
    }

    /// The request's body as the filters let it through; the body itself, if none has a phase for it. If it breaks off
    /// with [`Reason::FilterResponse`], [`Run::answer`] says what to answer.
    pub fn request_body(&mut self, body: Body) -> Body {
        if !self.chain.phases.has_any(Phases::REQUEST_BODY | Phases::REQUEST_TRAILERS) {
            return body;
        }
        self.answer = Answer::possible();
        let filters = self.chain.filters.iter().take(self.entered);
        filters.fold(body, |body, filter| body::request(body, filter, &self.cx, &self.answer))
    }

    /// What a filter answered when it saw the request's body; once.
    pub fn answer(&self) -> Option<Response<Body>> {
        self.answer.take()
    }

    /// The answer's head goes back through the filters that saw the request. `Some`: one of them gives another answer.
    pub async fn response_headers(&self, parts: &mut response::Parts) -> Answered {
        let phases = self.chain.phases;
        if !phases.has_any(Phases::RESPONSE_HEADERS | Phases::CHANGES_RESPONSE_BODY) {
            return Ok(None);
        }
        let framing = framing::OfResponse::of(parts);
        let mut answer = None;
        for filter in self.back(Phases::RESPONSE_HEADERS) {
            // The application has seen the request, whatever a filter says now.
            answer = settle(|| filter.on_response_headers(&self.cx, parts))
                .await
                .map_err(|failure| Failure { reached: Reached::Maybe, ..failure })?;
            if answer.is_some() {
                break;
            }
        }
        framing.restore(parts, phases.has(Phases::CHANGES_RESPONSE_BODY));
        Ok(answer)
    }

    /// The answer's body as the filters let it through.
    pub fn response_body(&self, body: Body) -> Body {
        // The head is gone when a filter would answer here: the body breaks off, and no answer is kept.
        let answer = Answer::default();
        let filters = self.chain.filters.iter().take(self.entered).rev();
        filters.fold(body, |body, filter| body::response(body, filter, &self.cx, &answer))
    }

    /// The end: the filters that saw the request see its record.
    pub fn log(&self, record: &Record) {
        for filter in self.back(Phases::LOG) {
            filter.on_log(&self.cx, record);
        }
    }

    fn back(&self, phase: Phases) -> impl Iterator<Item = &Rc<dyn Filter>> {
        let entered = self.chain.filters.iter().take(self.entered).rev();
        entered.filter(move |filter| filter.phases().has(phase))
    }
}

/// What a phase came to. `None`: on to the next.
pub type Answered = Result<Option<Response<Body>>, Failure>;

/// Enters a phase until it says how to go on.
async fn settle(mut enter: impl FnMut() -> Action) -> Answered {
    let mut action = enter();
    loop {
        action = match action {
            Action::Continue => return Ok(None),
            Action::Respond(answer) => return Ok(Some(framing::own(*answer))),
            Action::Deny => return Err(Failure::before(Reason::Denied)),
            Action::Fail(error) => return Err(Failure::before(Reason::FilterFailed).detail(error)),
            Action::Wait(future) => future.await,
            Action::Again => enter(),
        }
    }
}
