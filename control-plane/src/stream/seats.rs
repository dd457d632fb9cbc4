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
use trama_proto::{
    discovery::v1::{Node, ask::Kind},
    spiffe::SpiffeId,
};

use super::Asks;
use crate::{
    distribute::Session,
    quota::{Quota, Share},
};

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
    of_identity: Arc<Quota<SpiffeId>>,
}

/// Room for a stream, among all and among those of its identity.
pub(super) struct Place {
    _all: OwnedSemaphorePermit,
    _own: Share<SpiffeId>,
}

/// Why there is no room.
pub(super) enum Full {
    /// There are as many streams as there may be.
    All,
    /// The identity has as many as it may have.
    Identity,
}

impl Seats {
    /// For so many streams, and so many of one identity.
    pub(crate) fn new(most: usize, of_identity: usize) -> Self {
        Self {
            taken: Mutex::default(),
            next: AtomicU64::new(0),
            places: Arc::new(Semaphore::new(most)),
            of_identity: Arc::new(Quota::new(of_identity)),
        }
    }

    /// Room for a stream.
    pub(super) fn place(&self, identity: &SpiffeId) -> Result<Place, Full> {
        let own = self.of_identity.take(identity).ok_or(Full::Identity)?;
        let all = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Full::All)?;
        Ok(Place { _all: all, _own: own })
    }

    /// Shows a stream, until the guard is dropped.
    pub(super) fn take(self: &Arc<Self>, seat: Seat) -> Taken {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let seat = Arc::new(Mutex::new(seat));
        self.taken().insert(number, Arc::clone(&seat));
        Taken { seats: Arc::clone(self), number, seat }
    }

    /// What a look at each one gives, in the order of their begins.
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
