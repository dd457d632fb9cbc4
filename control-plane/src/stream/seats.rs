//! Who has a stream, for Status. A seat is locked for a look by its stream's task and by who asks, never over a wait.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use trama_proto::discovery::v1::{Node, ask::Kind};

use super::Asks;
use crate::distribute::Session;

/// A sidecar with a stream.
pub(crate) struct Seat {
    /// Which one.
    pub(crate) node: Node,
    /// When its stream began, in milliseconds since 1970.
    pub(crate) since: u64,
    /// What it has and refuses.
    pub(crate) session: Session,
    /// How long the last answer to a push took.
    pub(crate) answered_in: Duration,
    /// The questions that it answers, as it says itself.
    pub(crate) answers: Vec<Kind>,
    /// Where it is asked them.
    pub(crate) asks: Asks,
}

/// All of them.
pub(crate) struct Seats {
    taken: Mutex<BTreeMap<u64, Arc<Mutex<Seat>>>>,
    next: AtomicU64,
    places: Arc<Semaphore>,
}

impl Seats {
    pub(crate) fn new(most: usize) -> Self {
        Self { taken: Mutex::default(), next: AtomicU64::new(0), places: Arc::new(Semaphore::new(most)) }
    }

    /// Room for a stream; `None`: there is no more.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Shows a stream, until the guard is dropped.
    pub(super) fn take(self: &Arc<Self>, seat: Seat) -> Taken {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let seat = Arc::new(Mutex::new(seat));
        self.taken().insert(number, Arc::clone(&seat));
        Taken { seats: Arc::clone(self), number, seat }
    }

    /// What a look at each one gives.
    pub(crate) fn look<T>(&self, mut look: impl FnMut(&Seat) -> Option<T>) -> Vec<T> {
        let seats: Vec<_> = self.taken().values().cloned().collect();
        seats.iter().filter_map(|seat| look(&lock(seat))).collect()
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Mutex<Seat>>>> {
        lock(&self.taken)
    }
}

/// A seat, as long as its stream lives.
pub(super) struct Taken {
    seats: Arc<Seats>,
    number: u64,
    seat: Arc<Mutex<Seat>>,
}

impl Taken {
    pub(super) fn seat(&self) -> MutexGuard<'_, Seat> {
        lock(&self.seat)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.seats.taken().remove(&self.number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
