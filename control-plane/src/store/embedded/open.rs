//! How the file comes to be open: new, as it was left, or from the copy beside it when it was damaged.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, Permissions, TryLockError},
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use redb::{Builder, Database, ReadableDatabase};

use super::{Settings, fault::Fault, tables};
use crate::store::{Entry, Stamp, state::State};

/// Memory for pages of the file. It is read once; after that it is written a page or two at a time.
const CACHE: usize = 4 << 20;

/// An open file and what is in it.
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) state: State,
    /// What was damaged and what is lost.
    pub(super) restored: Option<String>,
}

/// Takes the store for this process, as long as what it gives lives. The store's file would not do: it gives way to others
/// of its name, and is closed for a while after a failure of the disk.
pub(super) fn lock(path: &Path) -> Result<File, Fault> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let file = File::options().create(true).truncate(false).write(true).open(beside(path, ".lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Fault::Other(format!(
            "{}: another process has it open, which one control plane at a time may; stop that one, or name another file",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Opens the file.
pub(super) fn open(settings: &Settings) -> Result<Opened, Fault> {
    let path = &settings.path;
    let copy = copy_of(path);
    let damage = match fs::metadata(path).map(|found| found.len()) {
        // The file appears by a rename when it is whole, so it is never empty by our doing.
        Ok(0) => "it is empty".to_owned(),
        Ok(_) => match existing(settings, path) {
            Err(Fault::Damaged(what)) => what,
            other => return other,
        },
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        Err(_) if copy.exists() => "it is gone".to_owned(),
        Err(_) => {
            write_whole(settings, path, Stamp { epoch: settings.epoch, revision: 0 }, &[])?;
            return existing(settings, path);
        }
    };
    restore(settings, &copy, &damage)
}

/// Opens the file as it was left. What redb gives as an error in a release build, it asserts in a debug build; that is
/// damage too.
pub(super) fn existing(settings: &Settings, path: &Path) -> Result<Opened, Fault> {
    let opened = catch_unwind(AssertUnwindSafe(|| -> Result<Opened, Fault> {
        let database = (settings.open)(&builder(), path)?;
        let state = tables::load(&database.begin_read()?, settings.kept)?;
        Ok(Opened { database, state, restored: None })
    }));
    opened.unwrap_or_else(|_| Err(Fault::Damaged("its content makes no sense".to_owned())))
}

/// Where the copy lies.
pub(super) fn copy_of(path: &Path) -> PathBuf {
    beside(path, ".copy")
}

/// Writes a new file under another name, and gives it its name when it is whole.
pub(super) fn write_whole(
    settings: &Settings,
    path: &Path,
    stamp: Stamp,
    entries: &[Entry],
) -> Result<(), Fault> {
    let unfinished = beside(path, ".new");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let database = (settings.open)(&builder(), &unfinished)?;
    // Keys are in it, sealed as they are, and who may call whom.
    fs::set_permissions(&unfinished, Permissions::from_mode(0o600))?;
    let write = database.begin_write()?;
    tables::fill(&write, stamp, entries)?;
    write.commit()?;
    drop(database);
    fs::rename(&unfinished, path)?;
    // The rename itself is on disk only when its folder is.
    if let Some(folder) = path.parent() {
        File::open(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })?.sync_all()?;
    }
    Ok(())
}

fn restore(settings: &Settings, copy: &Path, damage: &str) -> Result<Opened, Fault> {
    let path = &settings.path;
    let Ok(Opened { state, .. }) = existing(settings, copy) else {
        let remedy = "put a good copy in its place, or remove it to begin with nothing";
        return Err(Fault::Damaged(format!(
            "{}: {damage}, and there is no good copy; {remedy}",
            path.display()
        )));
    };
    if path.exists() {
        fs::rename(path, beside(path, &format!(".damaged-{}", settings.epoch)))?;
    }
    // Sidecars may have seen revisions that the copy knows nothing of: only a later epoch is newer than those.
    let copied = state.stamp();
    let stamp = Stamp { epoch: settings.epoch.max(copied.epoch + 1), ..copied };
    write_whole(settings, path, stamp, &state.list("", None, usize::MAX).entries)?;
    let told = format!(
        "{}: {damage}; restored from its copy of revision {}, what came after is lost; the damaged file is kept \
         beside it",
        path.display(),
        copied.revision
    );
    Ok(Opened { restored: Some(told), ..existing(settings, path)? })
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    builder
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(ending);
    path.with_file_name(name)
}
