//! What tells one version of a file from another, through all links on its path.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    device: u64,
    inode: u64,
    pub(super) length: u64,
    modified: (i64, i64),
    /// Rights too: a file that could not be read, and now can, is another one.
    changed: (i64, i64),
}

/// The fingerprint of a file; `None`: it cannot be seen.
pub(super) fn of(path: &Path) -> Option<Fingerprint> {
    let data = fs::metadata(path).ok()?;
    Some(Fingerprint {
        device: data.dev(),
        inode: data.ino(),
        length: data.len(),
        modified: (data.mtime(), data.mtime_nsec()),
        changed: (data.ctime(), data.ctime_nsec()),
    })
}
