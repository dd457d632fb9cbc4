//! The client configurations of one set of certificates, kept because each costs hundreds of microseconds to build.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{ClientConfig, Error};

/// So many are kept. What policy names is far less; without a bound, years of changing policies would add up.
const MOST: usize = 4096;

/// Configurations by whom they are for, shared by all workers.
pub(super) struct Clients<K>(Mutex<HashMap<K, Arc<ClientConfig>>>);

impl<K> Default for Clients<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Clients<K> {
    /// The configuration for `key`. It is built outside the lock, which is only ever held for a look-up: of two workers
    /// that build at the same time, the first one's stays.
    pub(super) fn of(
        &self,
        key: K,
        build: impl FnOnce(&K) -> Result<ClientConfig, Error>,
    ) -> Result<Arc<ClientConfig>, Error> {
        if let Some(known) = self.with(|known| known.get(&key).map(Arc::clone)) {
            return Ok(known);
        }
        let built = Arc::new(build(&key)?);
        Ok(self.with(|known| {
            if known.len() >= MOST {
                known.clear();
            }
            Arc::clone(known.entry(key).or_insert(built))
        }))
    }

    fn with<R>(&self, f: impl FnOnce(&mut HashMap<K, Arc<ClientConfig>>) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
