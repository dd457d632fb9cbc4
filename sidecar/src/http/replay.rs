//! A request body that can be sent again, as long as little of it has been read.
//!
//! What was read is kept (by reference count, not copied) up to a limit; beyond it the body is forwarded as any other and
//! cannot be sent again.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::body::{Body, BodyError};
use crate::error::Reason;

/// Keeps a body for another attempt.
pub struct Replay(Rc<RefCell<Source>>);

struct Source {
    body: Body,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    limit: usize,
    trailers: Option<HeaderMap>,
    ended: bool,
    /// It broke off: what was kept is not the whole, and must never be sent as if it were.
    broken: bool,
    /// The attempt that may read. An earlier one whose task still lives must not take bytes from it.
    attempt: u32,
    /// Who reads, and waits for more.
    reader: Option<Waker>,
}

impl Replay {
    /// Keeps up to `limit` bytes of `body`.
    pub fn new(body: Body, limit: usize) -> Self {
        let source = Source {
            body,
            kept: Vec::new(),
            kept_bytes: 0,
            limit,
            trailers: None,
            ended: false,
            broken: false,
            attempt: 0,
            reader: None,
        };
        Self(Rc::new(RefCell::new(source)))
    }

    /// Whether the body can be sent once more from its beginning.
    pub fn possible(&self) -> bool {
        let source = self.0.borrow();
        source.kept_bytes <= source.limit && !source.broken
    }

    /// The body, from its beginning; `None`: it is not there any more. Takes it away from the attempt before, which may
    /// still be at it: so what is kept now stays kept until the body is sent.
    pub fn body(&self) -> Option<Body> {
        if !self.possible() {
            return None;
        }
        let mut source = self.0.borrow_mut();
        source.attempt += 1;
        if let Some(reader) = source.reader.take() {
            // It would wait for ever, and its connection with it.
            reader.wake();
        }
        let whole = source.body.size_hint().exact().map(|left| left + source.kept_bytes as u64);
        let attempt =
            Attempt { source: Rc::clone(&self.0), number: source.attempt, next: 0, whole, done: false };
        Some(Body::boxed(attempt))
    }
}

/// The body as one attempt reads it.
struct Attempt {
    source: Rc<RefCell<Source>>,
    number: u32,
    next: usize,
    whole: Option<u64>,
    done: bool,
}

impl HttpBody for Attempt {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let source = &mut *this.source.borrow_mut();
        if source.attempt != this.number {
            return Poll::Ready(Some(Err(BodyError::Own(Reason::UpstreamClosed))));
        }
        if let Some(bytes) = source.kept.get(this.next) {
            this.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(bytes.clone()))));
        }
        if source.ended {
            let trailers = (!this.done).then(|| source.trailers.clone()).flatten();
            this.done = true;
            return Poll::Ready(trailers.map(|t| Ok(Frame::trailers(t))));
        }
        let Poll::Ready(frame) = Pin::new(&mut source.body).poll_frame(cx) else {
            source.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        if let Some(Ok(frame)) = &frame {
            source.keep(frame);
            this.next = source.kept.len();
        }
        source.broken |= matches!(&frame, Some(Err(_)));
        if matches!(&frame, None | Some(Err(_))) || source.ended {
            source.ended = true;
            this.done = true;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let source = self.source.borrow();
        let all_kept = self.next >= source.kept.len();
        self.done || (all_kept && source.trailers.is_none() && source.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.whole.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Source {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
            self.ended = true;
        } else if let Some(data) = frame.data_ref() {
            self.kept_bytes += data.len();
            if self.kept_bytes <= self.limit {
                self.kept.push(data.clone());
            } else {
                self.kept = Vec::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    fn body_of(frames: Vec<Frame<Bytes>>) -> Body {
        Body::boxed(StreamBody::new(stream::iter(frames.into_iter().map(Ok))))
    }

    fn data(text: &'static str) -> Frame<Bytes> {
        Frame::data(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn a_small_body_is_sent_again_with_its_trailers() {
        let trailers = HeaderMap::from_iter([(http::header::ETAG, "x".parse().unwrap())]);
        let replay =
            Replay::new(body_of(vec![data("ab"), data("cd"), Frame::trailers(trailers.clone())]), 16);
        let mut first = replay.body().unwrap();
        assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap(), "ab");
        for _ in 0..2 {
            assert!(replay.possible());
            let whole = replay.body().unwrap().collect().await.unwrap();
            assert_eq!(whole.trailers(), Some(&trailers));
            assert_eq!(whole.to_bytes(), "abcd");
        }
        assert!(
            first.frame().await.unwrap().is_err(),
            "an attempt given up takes nothing from its successor"
        );
    }

    #[tokio::test]
    async fn a_large_body_passes_and_is_not_kept() {
        let replay = Replay::new(body_of(vec![data("abc"), data("def"), data("ghi")]), 4);
        assert_eq!(replay.body().unwrap().collect().await.unwrap().to_bytes(), "abcdefghi");
        assert!(!replay.possible() && replay.body().is_none());
        assert!(replay.0.borrow().kept.is_empty());
    }

    #[tokio::test]
    async fn a_body_that_broke_off_is_not_sent_again() {
        let broken = stream::iter([Ok(data("ab")), Err(BodyError::Own(Reason::FilterResponse))]);
        let replay = Replay::new(Body::boxed(StreamBody::new(broken)), 16);
        assert!(replay.body().unwrap().collect().await.is_err());
        assert!(!replay.possible() && replay.body().is_none());
    }

    #[tokio::test]
    async fn the_length_stays_known() {
        let replay = Replay::new(Body::full("hello"), 16);
        assert_eq!(replay.body().unwrap().size_hint().exact(), Some(5));
        replay.body().unwrap().frame().await;
        assert_eq!(replay.body().unwrap().size_hint().exact(), Some(5));
    }

    #[tokio::test]
    async fn who_waits_for_more_hears_that_the_body_was_taken_away() {
        let endless = stream::iter([Ok(data("ab"))]).chain(stream::pending());
        let replay = Replay::new(Body::boxed(StreamBody::new(endless)), 16);
        let mut first = replay.body().unwrap();
        first.frame().await.unwrap().unwrap();
        let reading = async { first.frame().await.unwrap().unwrap_err() };
        let taking = async { replay.body().unwrap() };
        let (error, mut second) = tokio::join!(reading, taking);
        assert!(matches!(error, BodyError::Own(Reason::UpstreamClosed)));
        assert_eq!(second.frame().await.unwrap().unwrap().into_data().unwrap(), "ab");
    }
}
