//! What a store holds, in memory: entries, and the last transactions. Pure; who wants it to last writes it down first.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{Batch, Change, Entry, KEPT_BYTES, Listing, Stamp, StoreError, Watch};

/// Entries and the last transactions, shared by those who read, those who watch and the one who writes.
pub(super) struct Shared {
    state: Mutex<State>,
    last: watch::Sender<u64>,
}

/// Entries and the last transactions.
pub(super) struct State {
    entries: BTreeMap<String, (u64, Bytes)>,
    batches: VecDeque<Batch>,
    /// Of the values in `batches`.
    bytes: usize,
    stamp: Stamp,
    kept: u64,
}

impl Shared {
    pub(super) fn new(state: State) -> Arc<Self> {
        let last = watch::Sender::new(state.stamp.revision);
        Arc::new(Self { state: Mutex::new(state), last })
    }

    /// The state; held for a look, never over a wait.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a planned transaction true and tells the watches.
    pub(super) fn commit(&self, batch: Batch) -> Stamp {
        let stamp = self.state().commit(batch);
        self.last.send_replace(stamp.revision);
        stamp
    }

    pub(super) fn watch(self: &Arc<Self>, prefix: &str, revision: u64) -> Watch {
        Watch::new(Arc::clone(self), self.last.subscribe(), prefix, revision)
    }
}

impl State {
    /// A state as it was left, without memory of how it came to be.
    pub(super) fn new(stamp: Stamp, kept: u64, entries: impl IntoIterator<Item = Entry>) -> Self {
        let entries = entries.into_iter().map(|entry| (entry.key, (entry.version, entry.value))).collect();
        Self { entries, batches: VecDeque::new(), bytes: 0, stamp, kept }
    }

    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
    }

    pub(super) fn get(&self, key: &str) -> Option<Entry> {
        self.entries.get_key_value(key).map(entry)
    }

    pub(super) fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Listing {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let range = self.entries.range::<str, _>((from, Bound::Unbounded));
        let mut under = range.take_while(|(key, _)| key.starts_with(prefix)).map(entry);
        let entries = under.by_ref().take(limit).collect();
        Listing { entries, at: self.stamp, more: under.next().is_some() }
    }

    /// At most `limit` batches after `revision`, in order.
    pub(super) fn after(&self, revision: u64, limit: usize) -> Result<Vec<Batch>, StoreError> {
        let oldest = self.batches.front().map_or(self.stamp.revision + 1, |batch| batch.revision);
        if revision + 1 < oldest {
            return Err(StoreError::Compacted { asked: revision, oldest });
        }
        Ok(self.batches.iter().skip((revision + 1 - oldest) as usize).take(limit).cloned().collect())
    }

    /// What the changes come to; `None`: nothing.
    pub(super) fn plan(&self, changes: Vec<Change>) -> Result<Option<Batch>, StoreError> {
        let version = |key: &str| self.entries.get(key).map_or(0, |(version, _)| *version);
        for change in &changes {
            change.expect.check(&change.key, version(&change.key))?;
        }
        let real = changes.into_iter().filter(|change| change.value.is_some() || version(&change.key) != 0);
        let changes: Vec<_> = real.map(|change| (change.key, change.value)).collect();
        Ok((!changes.is_empty()).then(|| Batch { revision: self.stamp.revision + 1, changes }))
    }

    fn commit(&mut self, batch: Batch) -> Stamp {
        for (key, value) in &batch.changes {
            match value {
                Some(value) => drop(self.entries.insert(key.clone(), (batch.revision, value.clone()))),
                None => drop(self.entries.remove(key)),
            }
        }
        self.stamp.revision = batch.revision;
        self.bytes += batch.bytes();
        self.batches.push_back(batch);
        while self.batches.len() as u64 > self.kept || self.bytes > KEPT_BYTES {
            let Some(oldest) = self.batches.pop_front() else { break };
            self.bytes -= oldest.bytes();
        }
        self.stamp
    }
}

fn entry((key, (version, value)): (&String, &(u64, Bytes))) -> Entry {
    Entry { key: key.clone(), value: value.clone(), version: *version }
}
