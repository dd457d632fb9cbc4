//! The bodies that harness applications and clients send: whole ones, or streams that the test feeds.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::sync::mpsc;

/// A body that breaks off on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the test breaks the body off")]
pub struct BrokenOff;

/// A body.
#[derive(Debug)]
pub struct Payload(Kind);

#[derive(Debug)]
enum Kind {
    Whole(Option<Bytes>, Option<HeaderMap>),
    Stream(mpsc::Receiver<Result<Frame<Bytes>, BrokenOff>>),
    Repeat { chunk: Bytes, left: u64, taken: Arc<AtomicU64> },
    Relayed(Incoming),
}

/// Feeds a body. Dropped, the body ends.
#[derive(Clone, Debug)]
pub struct Feed(mpsc::Sender<Result<Frame<Bytes>, BrokenOff>>);

impl Payload {
    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self(Kind::Whole(None, None))
    }

    /// These bytes.
    #[must_use]
    pub fn of(bytes: impl Into<Bytes>) -> Self {
        Self::with_trailers(bytes, None)
    }

    /// These bytes, and trailers after them.
    #[must_use]
    pub fn with_trailers(bytes: impl Into<Bytes>, trailers: Option<HeaderMap>) -> Self {
        let bytes = bytes.into();
        Self(Kind::Whole(Some(bytes).filter(|b| !b.is_empty()), trailers))
    }

    /// So many bytes, made while they are read.
    #[must_use]
    pub fn repeated(chunk: Bytes, length: u64) -> Self {
        Self::counted(chunk, length, Arc::default())
    }

    /// The same, adding to a count what is taken of it.
    #[must_use]
    pub fn counted(chunk: Bytes, length: u64, taken: Arc<AtomicU64>) -> Self {
        Self(Kind::Repeat { chunk, left: length, taken })
    }

    /// The bytes of another body, as they come. Breaks off where that one does.
    #[must_use]
    pub fn relayed(body: Incoming) -> Self {
        Self(Kind::Relayed(body))
    }

    /// A body that is fed from elsewhere.
    #[must_use]
    pub fn stream() -> (Feed, Self) {
        let (feed, frames) = mpsc::channel(1);
        (Feed(feed), Self(Kind::Stream(frames)))
    }
}

impl Feed {
    /// Sends bytes; `false`: nobody reads any more.
    pub async fn data(&self, bytes: impl Into<Bytes>) -> bool {
        self.0.send(Ok(Frame::data(bytes.into()))).await.is_ok()
    }

    /// Sends trailers, which end the body.
    pub async fn trailers(self, trailers: HeaderMap) {
        self.0.send(Ok(Frame::trailers(trailers))).await.ok();
    }

    /// Breaks the body off.
    pub async fn break_off(self) {
        self.0.send(Err(BrokenOff)).await.ok();
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut self.0 {
            Kind::Stream(frames) => frames.poll_recv(cx),
            Kind::Relayed(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|f| f.map_err(|_| BrokenOff)))
            }
            Kind::Repeat { left: 0, .. } => Poll::Ready(None),
            Kind::Repeat { chunk, left, taken } => {
                let length = usize::try_from(*left).map_or(chunk.len(), |left| left.min(chunk.len()));
                *left -= length as u64;
                taken.fetch_add(length as u64, Ordering::Relaxed);
                Poll::Ready(Some(Ok(Frame::data(chunk.slice(..length)))))
            }
            Kind::Whole(bytes, trailers) => {
                let data = bytes.take().map(Frame::data);
                let frame = data.or_else(|| trailers.take().map(Frame::trailers));
                Poll::Ready(frame.map(Ok))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes, trailers) => bytes.is_none() && trailers.is_none(),
            Kind::Stream(_) => false,
            Kind::Relayed(body) => body.is_end_stream(),
            Kind::Repeat { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match &self.0 {
            Kind::Whole(bytes, None) => {
                http_body::SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Kind::Repeat { left, .. } => http_body::SizeHint::with_exact(*left),
            _ => http_body::SizeHint::default(),
        }
    }
}
