//! How many connections a pool may have, and the line of those who wait: for a connection, or for a stream on one.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::Way;
use crate::{config::snapshot::state::Counted, error::Failure};

/// One pool's places, and the line before them.
#[derive(Default)]
pub(super) struct Places {
    open: Cell<usize>,
    /// In the order of their tickets.
    line: RefCell<VecDeque<(u64, Tell)>>,
    /// The next ticket. Who was called in vain keeps the one it has.
    ticket: Cell<u64>,
}

/// Calls one who waits, or says why waiting is in vain.
type Tell = oneshot::Sender<Result<(), Failure>>;

/// What a request finds when it looks into its pool.
pub(super) enum Look<T> {
    /// What it needs.
    Found(T),
    /// A connection is made for it.
    Opening,
    /// Nothing before somebody else is done.
    Full,
}

impl Places {
    /// Connections that are open or being made.
    pub(super) fn open(&self) -> usize {
        self.open.get()
    }

    /// How many requests wait.
    pub(super) fn waiting(&self) -> usize {
        self.line.borrow().len()
    }

    /// A place for one more connection. `leaving`: so many of the open ones take no more requests. They bar none that does,
    /// or a single long stream would, and as many as the limit may be left open.
    pub(super) fn place(self: &Rc<Self>, way: &Way<'_>, leaving: usize) -> Option<Place> {
        let limit = way.limits().connections_per_endpoint;
        let taking = self.open.get() - leaving;
        if taking >= limit || self.open.get() >= 2 * limit {
            return None;
        }
        let counted = way.count_connection(taking == 0).ok()?;
        self.open.set(self.open.get() + 1);
        Some(Place { places: Rc::clone(self), silent: false, _counted: counted })
    }

    /// Something became free: who has waited longest looks again.
    pub(super) fn call_next(&self) {
        let mut line = self.line.borrow_mut();
        while let Some((_, first)) = line.pop_front() {
            if first.send(Ok(())).is_ok() {
                return;
            }
        }
    }

    /// All who wait look again, or fail.
    pub(super) fn call_all(&self, failure: Option<&Failure>) {
        for (_, waiter) in self.line.take() {
            let told = failure.map_or(Ok(()), |f| Err(Failure { detail: f.detail.clone(), ..*f }));
            // One that gave up hears nothing.
            waiter.send(told).ok();
        }
    }

    fn ticket(&self) -> u64 {
        self.ticket.replace(self.ticket.get() + 1)
    }

    /// What `look` finds, at once or when its turn has come, within `patience`.
    ///
    /// Who comes while others wait does not look before them. Who was called and finds that somebody else was faster has
    /// its place in the line again.
    pub(super) async fn find<T>(
        &self,
        way: &Way<'_>,
        patience: Duration,
        mut look: impl FnMut() -> Look<T>,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + patience;
        let mut pending = None;
        let mut ticket = None;
        loop {
            let turn = ticket.is_some() || self.waiting() == 0;
            match if turn { look() } else { Look::Full } {
                Look::Found(found) => return Ok(found),
                Look::Opening => {}
                Look::Full if pending.is_some() => {}
                Look::Full => pending = Some(way.count_pending(self.waiting())?),
            }
            let mut turn = Turn::in_line(self, *ticket.get_or_insert_with(|| self.ticket()));
            let told = timeout_at(deadline, &mut turn.told).await;
            turn.over = told.is_ok();
            // The sender is never dropped unused.
            told.map_err(|_| way.exhausted("no connection became free in time"))?.unwrap_or(Ok(()))?;
        }
    }
}

/// One request's turn. Whoever gives up leaves the line, and a call that came meanwhile goes to the next.
struct Turn<'p> {
    places: &'p Places,
    told: oneshot::Receiver<Result<(), Failure>>,
    over: bool,
}

impl<'p> Turn<'p> {
    fn in_line(places: &'p Places, ticket: u64) -> Self {
        let (tell, told) = oneshot::channel();
        let mut line = places.line.borrow_mut();
        let before = line.partition_point(|(other, _)| *other < ticket);
        line.insert(before, (ticket, tell));
        Self { places, told, over: false }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.told.close();
        match self.told.try_recv() {
            Ok(_) => self.places.call_next(),
            Err(_) => self.places.line.borrow_mut().retain(|(_, waiter)| !waiter.is_closed()),
        }
    }
}

/// The place of one connection, from before it is dialled until its socket is closed.
pub(super) struct Place {
    places: Rc<Places>,
    silent: bool,
    _counted: Option<Counted>,
}

impl Place {
    /// Gives it back without calling anybody to it.
    pub(super) fn give_up(mut self) {
        self.silent = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.open.set(self.places.open.get() - 1);
        if !self.silent {
            self.places.call_next();
        }
    }
}
