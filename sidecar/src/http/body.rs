//! The one body type, whichever protocol it came from.
//!
//! Data is forwarded by reference count and pulled by whoever writes it on, so a slow reader slows the writer and
//! nothing gathers here.

use std::{
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use smallvec::SmallVec;

use crate::error::Reason;

/// A failure in the middle of a body.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// HTTP/1: closed early, malformed, or refused by the guard.
    #[error("{0}")]
    Http1(#[from] hyper::Error),
    /// HTTP/2: reset, or the connection is gone.
    #[error("{0}")]
    Http2(#[from] h2::Error),
    /// A named reason of our own.
    #[error("{0}")]
    Own(Reason),
}

/// How a body came to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Wholly read, trailers included.
    Complete,
    /// It broke off.
    Failed,
    /// The reader went away first.
    Abandoned,
}

/// Something that is to be kept until a body has ended: the connection that it comes from.
pub trait Held {
    /// A part of the body has passed.
    fn moved(&self) {}
    /// Its reader wants more, and there is none yet.
    fn waits(&self) {}
    /// The body has ended, this way.
    fn release(self: Rc<Self>, end: End);
}

/// Sees a body pass; told exactly once how it ended.
pub trait Observer {
    /// Bytes passed.
    fn on_data(&mut self, bytes: usize);
    /// The end, with the error if it broke off.
    fn on_end(&mut self, end: End, error: Option<&BodyError>);
}

/// How many fields the trailers of an HTTP/2 message may have, and what it fails as if they have more. The codec limits
/// their bytes alone; the trailers of HTTP/1 are limited where they are read.
#[derive(Clone, Copy, Debug)]
pub struct TrailerLimit {
    /// So many are let through.
    pub fields: usize,
    /// The name of the failure.
    pub exceeded: Reason,
}

type Dyn = Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError>>>;

enum Kind {
    Empty,
    Full(Bytes),
    Http1(hyper::body::Incoming),
    Http2(h2::RecvStream, TrailerLimit),
    Dyn(Dyn),
}

/// A body that streams.
pub struct Body {
    kind: Kind,
    observer: Option<Box<dyn Observer>>,
    held: SmallVec<[Rc<dyn Held>; 2]>,
}

impl Body {
    /// No bytes at all.
    pub fn empty() -> Self {
        Self { kind: Kind::Empty, observer: None, held: SmallVec::new() }
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self {
            kind: if bytes.is_empty() { Kind::Empty } else { Kind::Full(bytes) },
            observer: None,
            held: SmallVec::new(),
        }
    }

    /// A body that hyper reads from an HTTP/1 connection.
    pub fn http1(incoming: hyper::body::Incoming) -> Self {
        let kind = if incoming.is_end_stream() { Kind::Empty } else { Kind::Http1(incoming) };
        Self { kind, observer: None, held: SmallVec::new() }
    }

    /// A body that arrives on an HTTP/2 stream.
    pub fn http2(stream: h2::RecvStream, trailers: TrailerLimit) -> Self {
        let kind = if stream.is_end_stream() { Kind::Empty } else { Kind::Http2(stream, trailers) };
        Self { kind, observer: None, held: SmallVec::new() }
    }

    /// Any other body: what a filter or a retry made of one.
    pub fn boxed(body: impl HttpBody<Data = Bytes, Error = BodyError> + 'static) -> Self {
        Self { kind: Kind::Dyn(Box::pin(body)), observer: None, held: SmallVec::new() }
    }

    /// Has the body watched. A body has one observer at most.
    #[must_use]
    pub fn observed(mut self, observer: Box<dyn Observer>) -> Self {
        debug_assert!(self.observer.is_none(), "a body has one observer");
        self.observer = Some(observer);
        self
    }

    /// Keeps something until the body has ended.
    #[must_use]
    pub fn holding(mut self, held: Rc<dyn Held>) -> Self {
        self.held.push(held);
        self
    }

    fn finish(&mut self, end: End, error: Option<&BodyError>) {
        for held in self.held.drain(..) {
            held.release(end);
        }
        if let Some(mut observer) = self.observer.take() {
            observer.on_end(end, error);
        }
    }

    fn poll_kind(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Http1(incoming) => Pin::new(incoming).poll_frame(cx).map_err(BodyError::from),
            Kind::Http2(stream, trailers) => poll_http2(stream, *trailers, cx),
            Kind::Dyn(body) => body.as_mut().poll_frame(cx),
        }
    }
}

fn poll_http2(
    stream: &mut h2::RecvStream,
    limit: TrailerLimit,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    match ready!(stream.poll_data(cx)) {
        Some(Ok(data)) => {
            // The reader asked for these bytes, so there is room for as many again.
            let released = stream.flow_control().release_capacity(data.len());
            Poll::Ready(Some(released.map(|()| Frame::data(data)).map_err(BodyError::from)))
        }
        Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
        None => match ready!(stream.poll_trailers(cx)) {
            Ok(Some(trailers)) if trailers.len() > limit.fields => {
                Poll::Ready(Some(Err(BodyError::Own(limit.exceeded))))
            }
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error.into()))),
        },
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = self.poll_kind(cx) else {
            self.held.iter().for_each(|held| held.waits());
            return Poll::Pending;
        };
        match &frame {
            Some(Ok(frame)) => {
                let this = &mut *self;
                this.held.iter().for_each(|held| held.moved());
                if let (Some(observer), Some(data)) = (&mut this.observer, frame.data_ref()) {
                    observer.on_data(data.len());
                }
                // A reader that knows the length stops here and never asks for the end.
                if frame.is_trailers() || self.is_end_stream() {
                    self.finish(End::Complete, None);
                }
            }
            Some(Err(error)) => self.finish(End::Failed, Some(error)),
            None => self.finish(End::Complete, None),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Http1(incoming) => incoming.is_end_stream(),
            Kind::Http2(stream, _) => stream.is_end_stream(),
            Kind::Dyn(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Http1(incoming) => incoming.size_hint(),
            Kind::Http2(..) => SizeHint::default(),
            Kind::Dyn(body) => body.size_hint(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let end = if self.is_end_stream() { End::Complete } else { End::Abandoned };
        self.finish(end, None);
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Empty => "empty",
            Kind::Full(_) => "full",
            Kind::Http1(_) => "http1",
            Kind::Http2(..) => "http2",
            Kind::Dyn(_) => "dyn",
        };
        f.debug_tuple("Body").field(&kind).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use http_body_util::BodyExt;

    use super::*;

    struct Watch(Rc<RefCell<Vec<String>>>);

    impl Observer for Watch {
        fn on_data(&mut self, bytes: usize) {
            self.0.borrow_mut().push(format!("data {bytes}"));
        }
        fn on_end(&mut self, end: End, _: Option<&BodyError>) {
            self.0.borrow_mut().push(format!("{end:?}"));
        }
    }

    #[tokio::test]
    async fn an_observer_hears_the_end_once() {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let body = Body::full("hello").observed(Box::new(Watch(Rc::clone(&seen))));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "hello");
        assert_eq!(*seen.borrow(), ["data 5", "Complete"]);
    }

    #[test]
    fn a_dropped_body_was_abandoned() {
        let seen = Rc::new(RefCell::new(Vec::new()));
        drop(Body::full("hello").observed(Box::new(Watch(Rc::clone(&seen)))));
        drop(Body::empty().observed(Box::new(Watch(Rc::clone(&seen)))));
        assert_eq!(*seen.borrow(), ["Abandoned", "Complete"]);
    }
}
