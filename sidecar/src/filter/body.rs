//! A body that one filter sees pass, window by window. Several filters are several of these, one round the other.

use std::{
    cell::Cell,
    mem,
    pin::Pin,
    rc::Rc,
    task::{Context as TaskContext, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{Action, Context, Filter, Phases, WINDOW, framing};
use crate::{
    error::Reason,
    http::body::{Body, BodyError},
};

/// What a filter answered while the request's body passed.
#[derive(Clone, Default)]
pub struct Answer(Option<Rc<Slot>>);

type Slot = Cell<Option<Box<Response<Body>>>>;

impl Answer {
    /// The answer, once.
    pub fn take(&self) -> Option<Response<Body>> {
        self.0.as_ref().and_then(|cell| cell.take()).map(|answer| framing::own(*answer))
    }

    /// Room for an answer; without it none is kept.
    pub(super) fn possible() -> Self {
        Self(Some(Rc::default()))
    }

    fn put(&self, answer: Box<Response<Body>>) {
        if let Some(cell) = &self.0 {
            cell.set(Some(answer));
        }
    }
}

/// The request's body behind this filter.
pub(super) fn request(body: Body, filter: &Rc<dyn Filter>, cx: &Context, answer: &Answer) -> Body {
    const WAY: Way = Way {
        body: Phases::REQUEST_BODY,
        changes: Phases::CHANGES_REQUEST_BODY,
        trailers: Phases::REQUEST_TRAILERS,
        on_body: |filter, cx, data, end| filter.on_request_body(cx, data, end),
        on_trailers: |filter, cx, trailers| filter.on_request_trailers(cx, trailers),
    };
    wrap(&WAY, body, filter, cx, answer)
}

/// The answer's body behind this filter.
pub(super) fn response(body: Body, filter: &Rc<dyn Filter>, cx: &Context, answer: &Answer) -> Body {
    const WAY: Way = Way {
        body: Phases::RESPONSE_BODY,
        changes: Phases::CHANGES_RESPONSE_BODY,
        trailers: Phases::RESPONSE_TRAILERS,
        on_body: |filter, cx, data, end| filter.on_response_body(cx, data, end),
        on_trailers: |filter, cx, trailers| filter.on_response_trailers(cx, trailers),
    };
    wrap(&WAY, body, filter, cx, answer)
}

/// The phases of one way, request or answer.
struct Way {
    body: Phases,
    changes: Phases,
    trailers: Phases,
    on_body: fn(&dyn Filter, &Context, &mut Bytes, bool) -> Action,
    on_trailers: fn(&dyn Filter, &Context, &mut HeaderMap) -> Action,
}

fn wrap(way: &'static Way, body: Body, filter: &Rc<dyn Filter>, cx: &Context, answer: &Answer) -> Body {
    // What has no body must not get one: a GET would suddenly be sent with chunks.
    if body.is_end_stream() || !filter.phases().has_any(way.body | way.trailers) {
        return body;
    }
    Body::boxed(FilteredBody {
        way,
        phases: filter.phases(),
        inner: body,
        filter: Rc::clone(filter),
        cx: cx.clone(),
        answer: answer.clone(),
        unseen: Bytes::new(),
        trailers: None,
        data_ended: false,
        state: State::Reading,
    })
}

struct FilteredBody {
    way: &'static Way,
    phases: Phases,
    inner: Body,
    filter: Rc<dyn Filter>,
    cx: Context,
    answer: Answer,
    /// What arrived in one piece larger than a window.
    unseen: Bytes,
    /// Trailers that arrived before the filter was told of the data's end.
    trailers: Option<HeaderMap>,
    data_ended: bool,
    state: State,
}

enum State {
    Reading,
    Entering(Piece),
    Waiting(Piece, Pin<Box<dyn Future<Output = Action>>>),
    Over,
}

enum Piece {
    Data { bytes: Bytes, end: bool },
    Trailers(HeaderMap),
}

type FrameResult = Option<Result<Frame<Bytes>, BodyError>>;

impl FilteredBody {
    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<FrameResult> {
        loop {
            let (mut piece, action) = match mem::replace(&mut self.state, State::Over) {
                State::Over => return Poll::Ready(None),
                State::Reading => match self.poll_piece(cx) {
                    Poll::Pending => {
                        self.state = State::Reading;
                        return Poll::Pending;
                    }
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(Some(Ok(piece))) => (piece, Action::Again),
                },
                State::Entering(piece) => (piece, Action::Again),
                State::Waiting(piece, mut future) => match future.as_mut().poll(cx) {
                    Poll::Pending => {
                        self.state = State::Waiting(piece, future);
                        return Poll::Pending;
                    }
                    Poll::Ready(action) => (piece, action),
                },
            };
            let action = if matches!(action, Action::Again) { self.enter(&mut piece) } else { action };
            match action {
                Action::Again => self.state = State::Entering(piece),
                Action::Wait(future) => self.state = State::Waiting(piece, future),
                Action::Respond(answer) => {
                    self.answer.put(answer);
                    return Poll::Ready(Some(Err(BodyError::Own(Reason::FilterResponse))));
                }
                Action::Deny => return Poll::Ready(Some(Err(BodyError::Own(Reason::Denied)))),
                Action::Fail(error) => {
                    tracing::warn!(
                        filter = self.filter.name(),
                        error,
                        "a filter failed in a body; it was broken off"
                    );
                    return Poll::Ready(Some(Err(BodyError::Own(Reason::FilterFailed))));
                }
                Action::Continue => {
                    if let Some(frame) = self.pass(piece) {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
            }
        }
    }

    /// The next piece for the filter; `None`: the end.
    fn poll_piece(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        loop {
            if !self.unseen.is_empty() {
                let bytes = self.unseen.split_to(self.unseen.len().min(WINDOW));
                let end = self.unseen.is_empty() && self.inner.is_end_stream();
                return Poll::Ready(Some(Ok(Piece::Data { bytes, end })));
            }
            if self.data_ended {
                // The filter knows of the end: what is left is the trailers, or nothing.
                return Poll::Ready(self.trailers.take().map(|trailers| Ok(Piece::Trailers(trailers))));
            }
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)).transpose() {
                Err(error) => return Poll::Ready(Some(Err(error))),
                Ok(frame) => {
                    let frame = frame.map(Frame::into_data);
                    match frame {
                        Some(Ok(bytes)) => {
                            self.unseen = bytes;
                            continue;
                        }
                        Some(Err(trailers)) => self.trailers = trailers.into_trailers().ok(),
                        None => {}
                    }
                    return Poll::Ready(Some(Ok(Piece::Data { bytes: Bytes::new(), end: true })));
                }
            }
        }
    }

    fn enter(&self, piece: &mut Piece) -> Action {
        let filter = &*self.filter;
        match piece {
            Piece::Data { bytes, end } if self.phases.has(self.way.changes) => {
                (self.way.on_body)(filter, &self.cx, bytes, *end)
            }
            Piece::Data { bytes, end } if self.phases.has(self.way.body) => {
                (self.way.on_body)(filter, &self.cx, &mut bytes.clone(), *end)
            }
            Piece::Trailers(trailers) if self.phases.has(self.way.trailers) => {
                (self.way.on_trailers)(filter, &self.cx, trailers)
            }
            Piece::Data { .. } | Piece::Trailers(_) => Action::Continue,
        }
    }

    /// The piece as a frame; an empty one makes none.
    fn pass(&mut self, piece: Piece) -> Option<Frame<Bytes>> {
        match piece {
            Piece::Data { bytes, end } => {
                self.data_ended |= end;
                let over = end && self.trailers.is_none();
                self.state = if over { State::Over } else { State::Reading };
                (!bytes.is_empty()).then(|| Frame::data(bytes))
            }
            Piece::Trailers(trailers) => Some(Frame::trailers(trailers)),
        }
    }
}

impl HttpBody for FilteredBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<FrameResult> {
        self.poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Over)
    }

    fn size_hint(&self) -> SizeHint {
        // Known while nothing was taken out of the inner body and the filter changes nothing.
        if self.phases.has(self.way.changes) || !matches!(self.state, State::Reading) {
            return SizeHint::default();
        }
        let mut hint = self.inner.size_hint();
        let unseen = self.unseen.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + unseen);
        }
        hint.set_lower(hint.lower() + unseen);
        hint
    }
}
