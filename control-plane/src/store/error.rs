//! What can go wrong with a store.

use super::{LARGEST_VALUE, LONGEST_KEY, MOST_CHANGES};

/// Why a store did not do what it was asked. Nothing was changed; except that after [`Self::Full`] and
/// [`Self::Unavailable`] a program that ends before its next transaction may find the change made when it starts again.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else was faster.
    #[error("`{key}` is at version {found}, expected was {expected} (0: does not exist); read it again")]
    Conflict {
        /// The key.
        key: String,
        /// The version that the change was made for; 0: none.
        expected: u64,
        /// The version that is there; 0: none.
        found: u64,
    },
    /// An empty or overlong key.
    #[error("a key has 1 to {LONGEST_KEY} bytes; `{key}` has {bytes}")]
    BadKey {
        /// Its beginning.
        key: String,
        /// Its length.
        bytes: usize,
    },
    /// An overlong value.
    #[error("`{key}` has {bytes} bytes, more than {LARGEST_VALUE}; split it")]
    TooLarge {
        /// The key.
        key: String,
        /// The value's length.
        bytes: usize,
    },
    /// An overlong transaction.
    #[error("{found} changes in one transaction, more than {MOST_CHANGES}; make several")]
    TooManyChanges {
        /// How many.
        found: usize,
    },
    /// Which of the two should hold?
    #[error("`{key}` is changed twice in one transaction")]
    TwiceInOne {
        /// The key.
        key: String,
    },
    /// A watch asks for what is no longer kept. It lists again.
    #[error("revision {asked} is too long ago, the oldest one kept is {oldest}; list again")]
    Compacted {
        /// Where the watch stands.
        asked: u64,
        /// The oldest one that is kept.
        oldest: u64,
    },
    /// No room on the disk. What was there stays readable.
    #[error("the disk of the store is full: {0}; free some space, then try again")]
    Full(String),
    /// The file was damaged.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// It cannot be reached.
    #[error("the store cannot be used: {0}")]
    Unavailable(String),
}
