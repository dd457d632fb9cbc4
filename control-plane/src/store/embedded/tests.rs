//! What can happen to a file: a full disk, a torn write, damage, two programs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};

use redb::{BackendError, Builder, StorageBackend, backends::FileBackend};

use super::*;

#[tokio::test]
async fn survives_being_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Embedded::open(Settings::new(&path, 1)).await.unwrap();
    let stamp = store.transact(vec![Change::put("a", "1")]).await.unwrap();
    drop(store);

    let store = Embedded::open(Settings::new(&path, 2)).await.unwrap();
    assert_eq!(store.stamp().await.unwrap(), stamp, "an epoch goes on");
    assert_eq!(store.get("a").await.unwrap().unwrap().value, "1");
    let looking_back =
        store.watch("", 0).next().await.is_err_and(|error| matches!(error, StoreError::Compacted { .. }));
    assert!(looking_back, "what happened before is not kept");
    assert!(store.restored().is_none());
}

#[tokio::test]
async fn nobody_but_its_owner_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/store");
    let store = Embedded::open(Settings::new(&path, 1)).await.unwrap();
    store.copy().await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let modes = [mode(&path), mode(&open::copy_of(&path)), mode(path.parent().unwrap())];
    assert_eq!(modes, [0o600, 0o600, 0o700]);
}

#[tokio::test]
async fn one_file_is_one_program() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let first = Embedded::open(Settings::new(&path, 1)).await.unwrap();
    let second = Embedded::open(Settings::new(&path, 1)).await.err().unwrap().to_string();
    let named = format!("{}: another process has it open", path.display());
    assert!(second.contains(&named) && second.contains("stop that one"), "{second}");
    first.transact(vec![Change::put("a", "1")]).await.unwrap();
    drop(first);
    Embedded::open(Settings::new(&path, 1)).await.unwrap();
}

/// After a failure the file is closed until the next change, and then another takes its place.
#[tokio::test]
async fn one_file_is_one_program_while_its_disk_is_full_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    drop(Embedded::open(Settings::new(&path, 1)).await.unwrap());
    let disk = Arc::new(Disk::default());
    let first = Embedded::open(disk.settings(&path)).await.unwrap();
    disk.limited.store(true, SeqCst);
    let error = first.transact(vec![Change::put("a", "1")]).await.unwrap_err();
    assert!(matches!(error, StoreError::Full(_)), "{error}");
    assert!(Embedded::open(Settings::new(&path, 1)).await.is_err());
    disk.limited.store(false, SeqCst);
    first.transact(vec![Change::put("a", "1")]).await.unwrap();
    assert!(Embedded::open(Settings::new(&path, 1)).await.is_err());
}

/// Writes until the disk is full, at every possible last write; then there is room again.
#[tokio::test]
async fn a_full_disk_loses_nothing() {
    for room in (0..16).map(|pages| pages * 4096) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        drop(Embedded::open(Settings::new(&path, 1)).await.unwrap());
        let disk = Arc::new(Disk::default());
        let store = Embedded::open(disk.settings(&path)).await.unwrap();
        store.transact(vec![Change::put("first", "value")]).await.unwrap();

        disk.left.store(room, SeqCst);
        disk.limited.store(true, SeqCst);
        let mut written = 0;
        let error = loop {
            let value = vec![7; 3000];
            match store
                .transact(vec![Change::put(format!("k{written}"), value.clone()), Change::put("last", value)])
                .await
            {
                Ok(_) => written += 1,
                Err(error) => break error,
            }
            assert!(written < 1000, "the disk never got full");
        };
        assert!(matches!(error, StoreError::Full(_)), "{error}");
        assert_whole(&store, written).await;

        disk.limited.store(false, SeqCst);
        store
            .transact(vec![Change::put(format!("k{written}"), "v"), Change::put("last", "v")])
            .await
            .unwrap();
        assert_whole(&store, written + 1).await;
        drop(store);
        assert_whole(&Embedded::open(Settings::new(&path, 2)).await.unwrap(), written + 1).await;
    }
}

/// A power cut: of what was written since the last sync, any part may be missing.
#[tokio::test]
async fn a_torn_write_loses_nothing_that_was_confirmed() {
    let mut draw = fastrand::Rng::with_seed(4);
    for _ in 0..60 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        drop(Embedded::open(Settings::new(&path, 1)).await.unwrap());
        let disk = Arc::new(Disk::default());
        let store = Embedded::open(disk.settings(&path)).await.unwrap();
        for number in 0..5 {
            let changes =
                vec![Change::put(format!("k{number}"), vec![number; 2000]), Change::put("last", "v")];
            store.transact(changes).await.unwrap();
        }
        disk.cut_after(draw.u64(0..12));
        let sixth = store.transact(vec![Change::put("k5", vec![5; 2000]), Change::put("last", "v")]).await;
        drop(store);
        disk.tear(&path, &mut draw);

        let store = Embedded::open(Settings::new(&path, 2)).await.unwrap();
        assert!(store.restored().is_none());
        let written = store.list("k", None, 100).await.unwrap().entries.len();
        assert!(written == 6 || (written == 5 && sixth.is_err()), "{written} of 6, the last was {sixth:?}");
        assert_whole(&store, written).await;
    }
}

/// Cut at many lengths, and bytes changed at many places: the right content, or the copy, and never a third thing.
#[tokio::test]
async fn a_damaged_file_is_replaced_by_its_copy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Embedded::open(Settings::new(&path, 1)).await.unwrap();
    for number in 0..20 {
        store.transact(vec![Change::put(format!("k{number}"), vec![number; 900])]).await.unwrap();
    }
    let copied = store.copy().await.unwrap();
    let last = store.transact(vec![Change::put("k20", "after the copy")]).await.unwrap();
    drop(store);
    let good = fs::read(&path).unwrap();
    let copy = fs::read(open::copy_of(&path)).unwrap();

    let lengths = [0, 1, 63, 64, 300, 4095, 4096, 5000, good.len() / 2, good.len() - 4096, good.len() - 1];
    let cut = lengths.into_iter().map(|length| good[..length].to_vec());
    let mut draw = fastrand::Rng::with_seed(5);
    let hit = (0..40).map(|_| {
        let mut bytes = good.clone();
        let place = draw.usize(0..bytes.len() - 512);
        bytes[place..place + 512].iter_mut().for_each(|byte| *byte ^= 0x5a);
        bytes
    });
    let mut restored = 0;
    for damaged in cut.chain(hit) {
        fs::write(&path, damaged).unwrap();
        fs::write(open::copy_of(&path), &copy).unwrap();
        let store = Embedded::open(Settings::new(&path, 9)).await.unwrap();
        let stamp = store.stamp().await.unwrap();
        if store.restored().is_some() {
            restored += 1;
            assert_eq!(stamp, Stamp { epoch: 9, revision: copied.revision });
            assert_eq!(store.list("", None, 100).await.unwrap().entries.len(), 20);
        } else {
            assert_eq!(stamp, last);
            assert_eq!(store.get("k20").await.unwrap().unwrap().value, "after the copy");
            assert_eq!(store.list("", None, 100).await.unwrap().entries.len(), 21);
        }
        for entry in store.list("k1", None, 100).await.unwrap().entries {
            assert!(entry.value.iter().all(|byte| entry.key == format!("k{byte}")), "{}", entry.key);
        }
    }
    assert!(restored >= 11, "{restored}");
}

#[tokio::test]
async fn damage_without_a_copy_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    drop(Embedded::open(Settings::new(&path, 1)).await.unwrap());
    let cut = fs::read(&path).unwrap()[..100].to_vec();
    fs::write(&path, &cut).unwrap();
    let error = Embedded::open(Settings::new(&path, 2)).await.err().unwrap();
    assert!(matches!(&error, StoreError::Damaged(what) if what.contains("no good copy")), "{error}");
    assert_eq!(fs::read(&path).unwrap(), cut, "what is there may be worth a repair");
}

/// `k0` to `k<written - 1>` are there, and nothing of what was not confirmed.
async fn assert_whole(store: &Embedded, written: usize) {
    let listing = store.list("k", None, 2000).await.unwrap();
    assert_eq!(listing.entries.len(), written);
    if let Some(last) = store.get("last").await.unwrap() {
        assert_eq!(listing.entries.iter().map(|entry| entry.version).max().unwrap(), last.version);
    }
}

/// A disk that can be full, and forget what was not synced.
#[derive(Debug, Default)]
struct Disk {
    limited: AtomicBool,
    left: AtomicU64,
    cutting: AtomicBool,
    /// Calls that still work before the power goes.
    calls: AtomicU64,
    /// Since the last sync: what stood where before it was written, and how long the file was.
    undo: Mutex<Vec<Undo>>,
}

#[derive(Debug)]
enum Undo {
    Wrote { offset: u64, before: Vec<u8> },
    Resized { before: u64 },
}

#[derive(Debug)]
struct DiskFile {
    file: FileBackend,
    disk: Arc<Disk>,
}

impl Disk {
    fn settings(self: &Arc<Self>, path: &Path) -> Settings {
        let disk = Arc::clone(self);
        let open = move |builder: &Builder, path: &Path| {
            let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
            let file = FileBackend::new(file.map_err(redb::StorageError::from)?)?;
            builder.create_with_backend(DiskFile { file, disk: Arc::clone(&disk) })
        };
        Settings { open: Box::new(open), ..Settings::new(path, 1) }
    }

    fn cut_after(&self, calls: u64) {
        self.calls.store(calls, SeqCst);
        self.cutting.store(true, SeqCst);
    }

    /// Takes back some of what was not synced, as the disk may not have got to it. Newest first, or an older block would
    /// come back over a newer one.
    fn tear(&self, path: &Path, draw: &mut fastrand::Rng) {
        use std::os::unix::fs::FileExt;
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        for undo in self.undo.lock().unwrap().drain(..).rev() {
            match undo {
                Undo::Wrote { offset, before } if draw.bool() => file.write_all_at(&before, offset).unwrap(),
                Undo::Wrote { .. } => {}
                Undo::Resized { before } => file.set_len(before.max(file.metadata().unwrap().len())).unwrap(),
            }
        }
    }

    fn call(&self) -> io::Result<()> {
        let power = !self.cutting.load(SeqCst)
            || self.calls.fetch_update(SeqCst, SeqCst, |calls| calls.checked_sub(1)).is_ok();
        if power { Ok(()) } else { Err(io::Error::other("no power")) }
    }

    fn take(&self, bytes: u64) -> io::Result<()> {
        let enough = !self.limited.load(SeqCst)
            || self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(bytes)).is_ok();
        if enough { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }
}

impl StorageBackend for DiskFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.call()?;
        let before = self.file.len()?;
        self.disk.take(len.saturating_sub(before))?;
        self.disk.undo.lock().unwrap().push(Undo::Resized { before });
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.call()?;
        self.disk.undo.lock().unwrap().clear();
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.call()?;
        self.disk.take(data.len() as u64)?;
        let mut before = vec![0; data.len()];
        self.file.read(offset, &mut before)?;
        self.disk.undo.lock().unwrap().push(Undo::Wrote { offset, before });
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(
        &self,
        start: std::ops::Bound<u64>,
        end: std::ops::Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn unlock_range(
        &self,
        start: std::ops::Bound<u64>,
        end: std::ops::Bound<u64>,
    ) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}
