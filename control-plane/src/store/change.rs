//! What goes into a store and what comes out.

use bytes::Bytes;

use super::{LARGEST_VALUE, LONGEST_KEY, MOST_CHANGES, StoreError};

/// When a transaction happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Rises when the store begins afresh or is restored from a copy, so that nobody takes it for older than it is.
    pub epoch: u64,
    /// Rises by one with each transaction of an epoch.
    pub revision: u64,
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Bytes,
    /// The revision that wrote it: what a compare-and-swap compares.
    pub version: u64,
}

/// A part of the entries, in the order of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The entries.
    pub entries: Vec<Entry>,
    /// The last transaction they know of: a watch from here misses nothing.
    pub at: Stamp,
    /// There are more after the last one.
    pub more: bool,
}

/// What a transaction does to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// What must be true of it, or nothing is changed.
    pub expect: Expect,
    /// The new value; `None` deletes. To delete what is not there is no change.
    pub value: Option<Bytes>,
}

/// What must be true of a key before it is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Anything,
    /// It does not exist.
    Absent,
    /// It exists and was written by this revision.
    Version(u64),
}

/// What one transaction changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The transaction.
    pub revision: u64,
    /// Keys with their new values; `None`: deleted.
    pub changes: Vec<(String, Option<Bytes>)>,
}

impl Change {
    /// Writes a value, whatever was there.
    pub fn put(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), expect: Expect::Anything, value: Some(value.into()) }
    }

    /// Deletes, whatever was there.
    pub fn delete(key: impl Into<String>) -> Self {
        Self { key: key.into(), expect: Expect::Anything, value: None }
    }

    /// The same on a condition.
    #[must_use]
    pub fn expecting(self, expect: Expect) -> Self {
        Self { expect, ..self }
    }
}

impl Expect {
    /// Compares with the version that is there; 0 stands for none.
    pub(super) fn check(self, key: &str, found: u64) -> Result<(), StoreError> {
        let expected = match self {
            Self::Anything => return Ok(()),
            Self::Absent => 0,
            Self::Version(version) => version,
        };
        if expected == found {
            Ok(())
        } else {
            Err(StoreError::Conflict { key: key.to_owned(), expected, found })
        }
    }
}

impl Batch {
    /// Of keys and values.
    pub(super) fn bytes(&self) -> usize {
        self.changes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Bytes::len)).sum()
    }

    /// Only the keys that begin with `prefix`; `None` if there are none.
    pub(super) fn under(mut self, prefix: &str) -> Option<Self> {
        self.changes.retain(|(key, _)| key.starts_with(prefix));
        (!self.changes.is_empty()).then_some(self)
    }
}

/// Refuses what no store takes, before any of it is written.
pub(super) fn validate(changes: &[Change]) -> Result<(), StoreError> {
    if changes.len() > MOST_CHANGES {
        return Err(StoreError::TooManyChanges { found: changes.len() });
    }
    for (position, change) in changes.iter().enumerate() {
        let key = &change.key;
        if key.is_empty() || key.len() > LONGEST_KEY {
            return Err(StoreError::BadKey { key: key.chars().take(64).collect(), bytes: key.len() });
        }
        let size = change.value.as_ref().map_or(0, Bytes::len);
        if size > LARGEST_VALUE {
            return Err(StoreError::TooLarge { key: key.clone(), bytes: size });
        }
        if changes[..position].iter().any(|earlier| earlier.key == *key) {
            return Err(StoreError::TwiceInOne { key: key.clone() });
        }
    }
    Ok(())
}
