//! The calls of a connection: how many are open, and since when there is none. The connection's bytes do not tell: a peer
//! that only answers pings would look alive for ever.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tonic::{Status, body::Body, codegen::Service};
use tower_layer::Layer;

use crate::peer::Peer;

/// What is known of a connection: who is at its other end, and what is called over it.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(super) peer: Peer,
    pub(super) calls: Calls,
}

/// The calls of a connection.
#[derive(Clone, Debug)]
pub(super) struct Calls(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    began: Instant,
    open: AtomicUsize,
    /// When the last one ended, in milliseconds since the begin.
    ended: AtomicU64,
}

/// An open call.
struct Call(Calls);

impl Calls {
    pub(super) fn none() -> Self {
        Self(Arc::new(Counts { began: Instant::now(), open: AtomicUsize::new(0), ended: AtomicU64::new(0) }))
    }

    /// Since when there is none; `None`: there is one.
    pub(super) fn none_since(&self) -> Option<Instant> {
        let Counts { began, open, ended } = &*self.0;
        let is_idle = open.load(Ordering::Acquire) == 0;
        is_idle.then(|| *began + Duration::from_millis(ended.load(Ordering::Relaxed)))
    }

    fn begin(&self) -> Call {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        Call(self.clone())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let Counts { began, open, ended } = &*self.0.0;
        let now = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        ended.store(now, Ordering::Relaxed);
        open.fetch_sub(1, Ordering::Release);
    }
}

/// Counts the calls of each connection, and says to each call who calls.
#[derive(Clone, Debug)]
pub(crate) struct CountCalls;

impl<S> Layer<S> for CountCalls {
    type Service = Counting<S>;

    fn layer(&self, inner: S) -> Counting<S> {
        Counting(inner)
    }
}

/// A service whose calls are counted.
#[derive(Clone, Debug)]
pub(crate) struct Counting<S>(S);

impl<S> Service<Request<Body>> for Counting<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let line = request.extensions_mut().remove::<Line>();
        let call = line.map(|Line { peer, calls }| {
            request.extensions_mut().insert(peer);
            calls.begin()
        });
        let answered = self.0.call(request);
        Box::pin(async move {
            let answer = answered.await?;
            Ok(answer.map(|body| Body::new(Answer { body, _call: call })))
        })
    }
}

/// The body of an answer: with it the call ends.
struct Answer {
    body: Body,
    _call: Option<Call>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_from_its_begin_and_from_the_end_of_its_last_call() {
        let (calls, began) = (Calls::none(), Instant::now());
        assert_eq!(calls.none_since(), Some(began));
        let (one, other) = (calls.begin(), calls.begin());
        drop(one);
        assert_eq!(calls.none_since(), None);
        tokio::time::advance(Duration::from_secs(3)).await;
        drop(other);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(calls.none_since(), Some(began + Duration::from_secs(3)));
    }

    /// A body that says nothing for ever.
    struct Endless;

    impl http_body::Body for Endless {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Pending
        }
    }

    /// A service that answers at once, without an end, and keeps the request no longer.
    #[derive(Clone)]
    struct Answering;

    impl Service<Request<Body>> for Answering {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            assert!(request.extensions().get::<Peer>().is_some(), "nobody says who calls");
            std::future::ready(Ok(Response::new(Body::new(Endless))))
        }
    }

    #[tokio::test]
    async fn a_call_lasts_until_its_answer_is_read_or_given_up() {
        let calls = Calls::none();
        let mut request = Request::new(Body::empty());
        request.extensions_mut().insert(Line { peer: Peer::of_socket(), calls: calls.clone() });
        let answer = CountCalls.layer(Answering).call(request).await.unwrap();
        assert_eq!(calls.none_since(), None);
        drop(answer);
        assert!(calls.none_since().is_some());
    }
}
