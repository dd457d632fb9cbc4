//! Where the control plane keeps what must outlive it: keys and values, changed by transactions that each get a
//! revision, and a watch that tells every change once, in order.
//!
//! The trait is what an embedded file, etcd and the Kubernetes API have in common. Each implementation passes the one
//! suite in `conformance.rs`.

mod change;
mod embedded;
mod error;
mod memory;
mod state;
mod watch;

#[cfg(test)]
mod conformance;

use std::{future::Future, pin::Pin};

pub use self::{
    change::{Batch, Change, Entry, Expect, Listing, Stamp},
    embedded::{Embedded, Settings},
    error::StoreError,
    memory::Memory,
    watch::Watch,
};

/// The longest key, in bytes.
pub const LONGEST_KEY: usize = 512;
/// The largest value, in bytes: 1 MiB. The largest resource a sidecar has to take is bounded by it.
pub const LARGEST_VALUE: usize = 1 << 20;
/// The most changes of one transaction.
pub const MOST_CHANGES: usize = 1_000;
/// The transactions that a watch can look back on. Whoever is further behind lists again.
pub const KEPT_BATCHES: u64 = 10_000;

/// The bytes of those transactions that are kept, at most: 64 MiB.
pub const KEPT_BYTES: usize = 64 << 20;

/// An answer that may take its time.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// What must outlive the process.
pub trait Store: Send + Sync + 'static {
    /// The last transaction. Its epoch rises when a store begins afresh, its revision with each transaction.
    fn stamp(&self) -> Reply<'_, Stamp>;

    /// One entry.
    fn get<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Entry>>;

    /// At most `limit` entries whose key begins with `prefix`, in the order of their keys, after the key `after`.
    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>, limit: usize) -> Reply<'a, Listing>;

    /// Makes all changes or none. When it returns, they are on disk. No change at all is no transaction: the stamp
    /// stays.
    fn transact(&self, changes: Vec<Change>) -> Reply<'_, Stamp>;

    /// Tells every transaction after `revision` that touches a key which begins with `prefix`.
    fn watch(&self, prefix: &str, revision: u64) -> Watch;
}
