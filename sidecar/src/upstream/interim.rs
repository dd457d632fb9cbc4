//! Interim answers of an HTTP/1 upstream, on their way from the connection to the request.
//!
//! hyper reads them in the connection's own task and hands them to a callback, which cannot wait; passing one on may
//! have to, for the downstream peer. So a few of them wait here.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use http::{HeaderMap, Request, StatusCode};

use crate::http::interim::Interim;

/// So many wait for a slow downstream peer. What exceeds them is dropped: it carries nothing that the peer must have.
const MOST: usize = 16;

/// The interim answers to one request.
///
/// The lock is never contended: hyper asks for a callback that any thread could call, and calls it on ours.
#[derive(Clone, Default)]
pub(super) struct Interims(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    waiting: VecDeque<(StatusCode, HeaderMap)>,
    reader: Option<Waker>,
}

impl Interims {
    /// Those that come to this request once it is sent.
    pub(super) fn of<B>(request: &mut Request<B>) -> Self {
        let interims = Self::default();
        let heard = interims.clone();
        hyper::ext::on_informational(request, move |head| {
            if Interim::travels(head.status()) {
                heard.put(head.status(), head.headers());
            }
        });
        interims
    }

    /// Waits for the final answer, and passes on what comes before it.
    pub(super) async fn until<T>(&self, answered: impl Future<Output = T>, interim: &Interim) -> T {
        let mut answered = pin!(answered);
        loop {
            let next = poll_fn(|cx| match self.take(cx) {
                Some(head) => Poll::Ready(Next::Interim(head)),
                None => answered.as_mut().poll(cx).map(Next::Final),
            });
            match next.await {
                Next::Interim((status, headers)) => interim.send(status, headers).await,
                Next::Final(answer) => return answer,
            }
        }
    }

    fn put(&self, status: StatusCode, headers: &HeaderMap) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.waiting.len() < MOST {
            state.waiting.push_back((status, headers.clone()));
        }
        if let Some(reader) = &state.reader {
            reader.wake_by_ref();
        }
    }

    /// The next one, or else a wake-up when it comes.
    fn take(&self, cx: &Context<'_>) -> Option<(StatusCode, HeaderMap)> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = state.waiting.pop_front();
        if next.is_none() {
            match &mut state.reader {
                Some(reader) => reader.clone_from(cx.waker()),
                reader => *reader = Some(cx.waker().clone()),
            }
        }
        next
    }
}

enum Next<T> {
    Interim((StatusCode, HeaderMap)),
    Final(T),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_a_few_wait() {
        let interims = Interims::default();
        for _ in 0..2 * MOST {
            interims.put(StatusCode::EARLY_HINTS, &HeaderMap::new());
        }
        let cx = Context::from_waker(Waker::noop());
        assert_eq!(std::iter::from_fn(|| interims.take(&cx)).count(), MOST);
    }
}
