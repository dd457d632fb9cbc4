//! How many requests with spans a connection may have under way: a message is in memory before anybody judges it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A sidecar sends one after the other; after a break a second one may be under way.
const MOST: usize = 2;

/// The connections with requests under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<HashMap<SocketAddr, usize>>>);

/// A request's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    connection: SocketAddr,
}

impl Places {
    /// A place; `None`: there are enough requests on this connection.
    pub(super) fn take(&self, connection: SocketAddr) -> Option<Place> {
        let mut taken = self.taken();
        let own = taken.entry(connection).or_default();
        if *own >= MOST {
            return None;
        }
        *own += 1;
        Some(Place { places: self.clone(), connection })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<SocketAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(own) = taken.get_mut(&self.connection) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.connection);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_so_many_places_and_others_have_their_own() {
        let places = Places::default();
        let [one, other] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let first = places.take(one).unwrap();
        let second = places.take(one).unwrap();
        assert!(places.take(one).is_none());
        assert!(places.take(other).is_some());
        drop(first);
        let third = places.take(one).unwrap();
        assert!(places.take(one).is_none());
        drop((second, third));
        assert!(places.taken().is_empty());
    }
}
