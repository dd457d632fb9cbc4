//! A store that forgets: for tests, and the proof that the trait asks for nothing that only a file can do.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    Change, Entry, KEPT_BATCHES, Listing, Reply, Stamp, Store, StoreError, Watch, change,
    state::{Shared, State},
};

/// Entries in memory.
pub struct Memory {
    shared: Arc<Shared>,
    /// Held from a transaction's plan to its commit.
    writing: Mutex<()>,
}

impl Memory {
    /// An empty store.
    pub fn new(epoch: u64) -> Self {
        Self::keeping(epoch, KEPT_BATCHES)
    }

    /// An empty store whose watches look back on `kept` transactions.
    pub fn keeping(epoch: u64, kept: u64) -> Self {
        let state = State::new(Stamp { epoch, revision: 0 }, kept, []);
        Self { shared: Shared::new(state), writing: Mutex::default() }
    }

    fn change(&self, changes: Vec<Change>) -> Result<Stamp, StoreError> {
        change::validate(&changes)?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = self.shared.state().plan(changes)?;
        Ok(plan.map_or_else(|| self.shared.state().stamp(), |batch| self.shared.commit(batch)))
    }
}

impl Store for Memory {
    fn stamp(&self) -> Reply<'_, Stamp> {
        Box::pin(async { Ok(self.shared.state().stamp()) })
    }

    fn get<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Entry>> {
        Box::pin(async { Ok(self.shared.state().get(key)) })
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>, limit: usize) -> Reply<'a, Listing> {
        Box::pin(async move { Ok(self.shared.state().list(prefix, after, limit)) })
    }

    fn transact(&self, changes: Vec<Change>) -> Reply<'_, Stamp> {
        Box::pin(async { self.change(changes) })
    }

    fn watch(&self, prefix: &str, revision: u64) -> Watch {
        self.shared.watch(prefix, revision)
    }
}
