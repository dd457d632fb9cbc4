//! When a connection is asked to go.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

/// How long one that comes during the drain may take to ask for something.
const WELCOME: Duration = Duration::from_secs(2);

/// The drain, as a connection hears of it. One that comes when it has begun is served once before it is asked to go: its
/// peer may wait for our SETTINGS before it asks, as sidecars do, and would find GOAWAY behind them.
pub(super) struct Leave<D> {
    drain: D,
    state: State,
}

enum State {
    /// The drain has not begun. `new`: nobody has looked yet.
    Stays { new: bool },
    /// It came late, and may ask until then.
    Welcome(Pin<Box<Sleep>>),
    /// It was told.
    Told,
}

impl<D: Future<Output = ()> + Unpin> Leave<D> {
    pub(super) fn new(drain: D) -> Self {
        Self { drain, state: State::Stays { new: true } }
    }

    /// Whether the peer is to be told now, which it is once. `asked`: it has sent a request.
    pub(super) fn is_due(&mut self, asked: bool, cx: &mut Context<'_>) -> bool {
        if let State::Stays { new } = self.state {
            let drains = Pin::new(&mut self.drain).poll(cx).is_ready();
            self.state = match (drains, new) {
                (false, _) => State::Stays { new: false },
                (true, true) => State::Welcome(Box::pin(sleep(WELCOME))),
                (true, false) => State::Told,
            };
            if matches!(self.state, State::Told) {
                return true;
            }
        }
        let due = match &mut self.state {
            State::Welcome(end) => asked || matches!(end.as_mut().poll(cx), Poll::Ready(())),
            State::Stays { .. } | State::Told => false,
        };
        if due {
            self.state = State::Told;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn, ready};

    use tokio::time::{Instant, timeout};

    use super::*;

    async fn due<D: Future<Output = ()> + Unpin>(leave: &mut Leave<D>, asked: bool) {
        poll_fn(|cx| if leave.is_due(asked, cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_late_is_asked_to_go_after_its_first_request_or_a_moment() {
        let began = Instant::now();
        due(&mut Leave::new(ready(())), true).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        let mut silent = Leave::new(ready(()));
        due(&mut silent, false).await;
        assert_eq!(began.elapsed(), WELCOME);
        assert!(timeout(WELCOME, due(&mut silent, true)).await.is_err(), "once");
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_there_before_is_asked_to_go_at_once() {
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        let mut leave = Leave::new(Box::pin(async { told.await.unwrap_or_default() }));
        assert!(timeout(WELCOME, due(&mut leave, true)).await.is_err());
        drop(tell);
        let began = Instant::now();
        due(&mut leave, false).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(timeout(WELCOME, due(&mut Leave::new(pending()), true)).await.is_err());
    }
}
