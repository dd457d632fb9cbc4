//! What can go wrong with the file, and how it is said to those who know nothing of files.

use std::io::ErrorKind;

use redb::StorageError;

use crate::store::StoreError;

/// A failure below the store.
#[derive(Debug)]
pub(super) enum Fault {
    /// The store's own refusal: a conflict, a look too far back.
    Refused(StoreError),
    /// The file's content is not what was written.
    Damaged(String),
    /// The file was laid out by another version.
    Format {
        found: u64,
        known: u64,
    },
    /// Reading or writing failed.
    Io(std::io::Error),
    Other(String),
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(error) => error,
            Fault::Damaged(what) => Self::Damaged(what),
            Fault::Format { found, known } => Self::Unavailable(format!(
                "its file has format {found}, this version knows {known}; use the version that wrote it"
            )),
            Fault::Io(error) if full(&error) => Self::Full(error.to_string()),
            Fault::Io(error) => Self::Unavailable(error.to_string()),
            Fault::Other(what) => Self::Unavailable(what),
        }
    }
}

/// No room, by the disk, a quota or the largest file allowed.
fn full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Corrupted(what) => Self::Damaged(what),
            StorageError::Io(error) => Self::from(error),
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        // A file that ends too early or lacks its mark was cut; the disk is not to blame.
        match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::InvalidData => Self::Damaged(error.to_string()),
            _ => Self::Io(error),
        }
    }
}

impl From<redb::Error> for Fault {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Corrupted(what) => Self::Damaged(what),
            redb::Error::TableDoesNotExist(name) => Self::Damaged(format!("the table `{name}` is missing")),
            redb::Error::Io(error) => Self::from(error),
            redb::Error::RepairAborted => Self::Damaged("it could not be repaired".to_owned()),
            other => Self::Other(other.to_string()),
        }
    }
}

macro_rules! through_the_common_error {
    ($($error:ty),*) => {
        $(impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                redb::Error::from(error).into()
            }
        })*
    };
}

through_the_common_error!(redb::DatabaseError, redb::TransactionError, redb::TableError, redb::CommitError);
