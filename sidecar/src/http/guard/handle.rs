//! What the guard and the connection's owner tell each other.
//!
//! Both sit in one thread (a worker never shares a connection), so it is an `Rc`, and no borrow outlives a call.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use super::interim::Pending;
use super::scan::Refused;
use super::violation::Violation;

/// The owner's side of a [`Guard`](super::Guard).
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) shared: Rc<RefCell<Shared>>,
}

/// A request that the owner is at work on. Dropped when the answer has ended, or was given up.
#[derive(Debug)]
pub struct InFlight {
    pub(super) shared: Rc<RefCell<Shared>>,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Heads that hyper can read to their end, and requests that the owner has finished.
    pub(super) delivered: u64,
    pub(super) finished: u64,
    /// Which head has begun and not ended.
    pub(super) head_begun: Option<u64>,
    /// hyper's write buffer is known to be empty.
    pub(super) drained: bool,
    /// A byte of the present request's final answer has been written.
    pub(super) answering: bool,
    pub(super) refused: Option<Refused>,
    /// hyper was told that the stream has ended because of the refusal.
    pub(super) ended: bool,
    pub(super) pass_through: bool,
    pub(super) interim: Option<Pending>,
    task: Option<Waker>,
}

impl Handle {
    /// Runs hyper's connection to its end, and all that it had to write onto the wire.
    ///
    /// hyper ends a connection on which an upgrade was asked for, even if it was declined, with bytes in its write buffer
    /// that the socket had no room for: they would be lost. Polled again, it flushes them.
    pub async fn run<C>(&self, mut connection: Pin<&mut C>) -> hyper::Result<()>
    where
        C: Future<Output = hyper::Result<()>>,
    {
        connection.as_mut().await?;
        if self.shared.borrow().drained { Ok(()) } else { connection.await }
    }

    /// Whether hyper has nothing left to write; see [`Handle::run`].
    pub fn is_drained(&self) -> bool {
        self.shared.borrow().drained
    }

    /// To be called once for each request that hyper hands out, whatever becomes of it.
    pub fn request_started(&self) -> InFlight {
        self.shared.borrow_mut().answering = false;
        InFlight { shared: Rc::clone(&self.shared) }
    }

    /// From here on no byte is looked at. Call it before the accepting answer (2xx to a CONNECT, 101) goes to hyper.
    pub fn pass_through(&self) {
        let mut shared = self.shared.borrow_mut();
        shared.pass_through = true;
        shared.wake();
    }

    /// The number of the head whose first byte has come and whose last has not: its sender is to be timed. Not while the
    /// request before it is served, or its answer is written: that one must not be cut.
    pub fn head_begun(&self) -> Option<u64> {
        let shared = self.shared.borrow();
        shared.head_begun.filter(|_| shared.is_idle() && shared.drained)
    }

    /// What the connection was refused for, if it was.
    pub fn violation(&self) -> Option<Violation> {
        self.shared.borrow().refused.map(|refused| refused.violation)
    }

    /// After hyper's connection has ended: the violation that nobody has answered yet and that may be answered, because
    /// all earlier answers are on the wire. A violation in a body is not among them: its request is the service's.
    pub fn answer_due(&self) -> Option<Violation> {
        let shared = self.shared.borrow();
        shared.refused.filter(|refused| shared.ended && !refused.head_passed).map(|refused| refused.violation)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut shared = self.shared.borrow_mut();
        shared.finished += 1;
        // The end of the answer may lie in hyper's buffer: wait for the next flush.
        shared.drained = false;
        shared.wake();
    }
}

impl Shared {
    pub(super) fn new() -> Self {
        Self { drained: true, ..Self::default() }
    }

    /// Whether every request that hyper could read has been finished. By counting heads rather than calls of the
    /// service, a request counts from the moment when its bytes are handed over.
    pub(super) fn is_idle(&self) -> bool {
        self.finished >= self.delivered
    }

    pub(super) fn remember(&mut self, cx: &Context<'_>) {
        match &mut self.task {
            Some(task) => task.clone_from(cx.waker()),
            task => *task = Some(cx.waker().clone()),
        }
    }

    pub(super) fn wake(&self) {
        if let Some(task) = &self.task {
            task.wake_by_ref();
        }
    }
}
