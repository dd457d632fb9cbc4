//! The streams of a downstream connection, and those among them on which nothing moves any more.
//!
//! None has a timer: the connection's own ticks four times in the idle time-out, and each tick is counted on every stream
//! until a byte of it moves, in either direction.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Waker},
};

use bytes::Bytes;
use h2::server::SendResponse;

use crate::http::body::{End, Held};

/// A stream is idle at this tick since its last byte: after the time-out, and at most a quarter of it later.
const IDLE: u8 = 5;

/// One stream. It is shared by what answers it, its interim answers and its request's body.
pub struct ServerStream {
    /// What can be said on it.
    pub respond: RefCell<SendResponse<Bytes>>,
    ticks: Cell<u8>,
    /// Where it stands among its connection's.
    place: Cell<usize>,
    /// Who answers it.
    task: RefCell<Option<Waker>>,
}

impl ServerStream {
    pub(in crate::http) fn new(respond: SendResponse<Bytes>) -> Rc<Self> {
        let (ticks, place, task) = Default::default();
        Rc::new(Self { respond: RefCell::new(respond), ticks, place, task })
    }

    /// A byte moved.
    pub fn moved(&self) {
        self.ticks.set(0);
    }

    /// Whether nothing has moved for too long; if not, the task that asks is woken when it comes to that.
    pub(super) fn is_idle(&self, cx: &Context<'_>) -> bool {
        match &mut *self.task.borrow_mut() {
            Some(task) => task.clone_from(cx.waker()),
            task => *task = Some(cx.waker().clone()),
        }
        self.ticks.get() >= IDLE
    }

    fn tick(&self) {
        self.ticks.set(self.ticks.get().saturating_add(1));
        if self.ticks.get() == IDLE
            && let Some(task) = &*self.task.borrow()
        {
            task.wake_by_ref();
        }
    }
}

impl Held for ServerStream {
    fn moved(&self) {
        Self::moved(self);
    }

    fn release(self: Rc<Self>, _: End) {}
}

/// The streams of one connection that are under way.
#[derive(Default)]
pub(super) struct Streams(RefCell<Vec<Rc<ServerStream>>>);

impl Streams {
    /// A stream begins.
    pub(super) fn begin(self: &Rc<Self>, respond: SendResponse<Bytes>) -> UnderWay {
        let mut streams = self.0.borrow_mut();
        let stream = ServerStream::new(respond);
        stream.place.set(streams.len());
        streams.push(Rc::clone(&stream));
        UnderWay { streams: Rc::clone(self), stream }
    }

    /// Whether there is any.
    pub(super) fn are_under_way(&self) -> bool {
        !self.0.borrow().is_empty()
    }

    /// A quarter of the idle time-out is over.
    pub(super) fn tick(&self) {
        self.0.borrow().iter().for_each(|stream| stream.tick());
    }
}

/// A stream, until it is over.
pub(super) struct UnderWay {
    streams: Rc<Streams>,
    pub(super) stream: Rc<ServerStream>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut streams = self.streams.0.borrow_mut();
        let place = self.stream.place.get();
        streams.swap_remove(place);
        if let Some(last) = streams.get(place) {
            last.place.set(place);
        }
    }
}
