//! The store in one file of this machine, for a control plane that runs once.
//!
//! Everything is read when it is opened and answered from memory, so that a disk which fails or is full stops changes and
//! nothing else. Every transaction is on disk when it returns. A copy lies beside the file: a damaged file costs what was
//! written since the copy, and not everything.

mod fault;
mod open;
mod tables;

#[cfg(test)]
mod tests;

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redb::{Builder, Database, DatabaseError};

use self::{fault::Fault, open::Opened};
use super::{
    Change, Entry, KEPT_BATCHES, Listing, Reply, Stamp, Store, StoreError, Watch, change, state::Shared,
};

/// How a store is opened.
pub struct Settings {
    path: PathBuf,
    epoch: u64,
    kept: u64,
    /// Opens or creates a file; tests give one that fails.
    open: Opener,
}

type Opener = Box<dyn Fn(&Builder, &Path) -> Result<Database, DatabaseError> + Send + Sync>;

impl Settings {
    /// A store in the file `path`. `epoch` is for one that begins afresh or is restored: milliseconds since 1970 rise.
    pub fn new(path: impl Into<PathBuf>, epoch: u64) -> Self {
        Self {
            path: path.into(),
            epoch,
            kept: KEPT_BATCHES,
            open: Box::new(|builder, path| builder.create(path)),
        }
    }

    /// The transactions that a watch can look back on.
    #[must_use]
    pub fn keeping(self, kept: u64) -> Self {
        Self { kept, ..self }
    }
}

/// A store in a file.
pub struct Embedded {
    shared: Arc<Shared>,
    file: Arc<DatabaseFile>,
    restored: Option<String>,
}

struct DatabaseFile {
    settings: Settings,
    /// Held for as long as the store is ours.
    _lock: File,
    /// `None` after a failure of the disk, until it is opened again. Held from a transaction's plan to its commit.
    open: Mutex<Option<Database>>,
    /// Held while the copy is written: two at once would write the same unfinished file.
    copying: Mutex<()>,
}

impl Embedded {
    /// Opens the file, or makes it. A damaged one is put aside and replaced by its copy.
    pub async fn open(settings: Settings) -> Result<Self, StoreError> {
        aside(move || {
            let lock = open::lock(&settings.path)?;
            let Opened { database, state, restored } = open::open(&settings)?;
            let file = Arc::new(DatabaseFile {
                settings,
                _lock: lock,
                open: Mutex::new(Some(database)),
                copying: Mutex::default(),
            });
            Ok(Self { shared: Shared::new(state), file, restored })
        })
        .await
    }

    /// What was damaged and what was lost, if the file had to be restored.
    pub fn restored(&self) -> Option<&str> {
        self.restored.as_deref()
    }

    /// Renews the copy beside the file.
    pub async fn copy(&self) -> Result<Stamp, StoreError> {
        let (shared, file) = (Arc::clone(&self.shared), Arc::clone(&self.file));
        aside(move || {
            let _copying = file.copying.lock().unwrap_or_else(PoisonError::into_inner);
            let Listing { entries, at, .. } = shared.state().list("", None, usize::MAX);
            open::write_whole(&file.settings, &open::copy_of(&file.settings.path), at, &entries)?;
            Ok(at)
        })
        .await
    }
}

impl Store for Embedded {
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
        let (shared, file) = (Arc::clone(&self.shared), Arc::clone(&self.file));
        Box::pin(aside(move || {
            change::validate(&changes)?;
            file.transact(&shared, changes)
        }))
    }

    fn watch(&self, prefix: &str, revision: u64) -> Watch {
        self.shared.watch(prefix, revision)
    }
}

impl DatabaseFile {
    fn transact(&self, shared: &Shared, changes: Vec<Change>) -> Result<Stamp, Fault> {
        let mut open = self.open();
        let Some(batch) = shared.state().plan(changes)? else {
            return Ok(shared.state().stamp());
        };
        let database = match open.take() {
            Some(database) => database,
            None => self.anew(shared)?,
        };
        let write = database.begin_write()?;
        tables::write(&write, &batch)?;
        write.commit()?;
        *open = Some(database);
        Ok(shared.commit(batch))
    }

    /// After a failure an open database takes nothing any more, and nobody knows whether what failed is in the file. So
    /// it is written anew from what is known; a disk that has room again, or is back, is enough.
    fn anew(&self, shared: &Shared) -> Result<Database, Fault> {
        let Listing { entries, at, .. } = shared.state().list("", None, usize::MAX);
        open::write_whole(&self.settings, &self.settings.path, at, &entries)?;
        Ok(open::existing(&self.settings, &self.settings.path)?.database)
    }

    fn open(&self) -> MutexGuard<'_, Option<Database>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs what waits for a disk on a thread that may wait.
async fn aside<T: Send + 'static>(
    what: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(what).await {
        Ok(result) => Ok(result?),
        Err(ended) => Err(StoreError::Unavailable(ended.to_string())),
    }
}
