//! The embedded store of a control plane that is killed while it writes, or finds its file damaged.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use trama_control_plane::store::{Change, Embedded, Settings, Store};

/// Enough to meet the writer in each of its steps: opening, repairing, writing, copying.
const KILLS: u64 = 40;

#[tokio::test]
async fn kill_9_loses_nothing_that_was_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut before = 0;
    for kill in 0..KILLS {
        let confirmed = write_and_kill(&path, Duration::from_micros(kill * 700)).max(before);

        let store = Embedded::open(Settings::new(&path, 1)).await.unwrap();
        assert!(store.restored().is_none(), "{:?}", store.restored());
        let found = store.stamp().await.unwrap().revision;
        assert!(
            found == confirmed || found == confirmed + 1,
            "kill {kill}: confirmed {confirmed}, found {found}"
        );
        for entry in store.list("", None, 100).await.unwrap().entries {
            assert_eq!((entry.version, entry.value), (found, found.to_string().into()), "kill {kill}");
        }
        before = found;
    }
    assert!(before > KILLS, "the writer hardly wrote: {before}");
}

/// What no assertion of the database's may end: a control plane that dies of its file dies of it at every start.
#[tokio::test]
async fn a_damaged_file_does_not_end_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Embedded::open(Settings::new(&path, 1)).await.unwrap();
    let mut earlier = Vec::new();
    for number in 0..20 {
        store.transact(vec![Change::put(format!("old{number}"), vec![number; 900])]).await.unwrap();
        if number == 10 {
            earlier = fs::read(&path).unwrap();
        }
    }
    let copied = store.copy().await.unwrap().revision;
    let last = store.transact(vec![Change::put("last", "after the copy")]).await.unwrap().revision;
    drop(store);
    let copy = path.with_file_name("store.copy");
    let (good, good_copy) = (fs::read(&path).unwrap(), fs::read(&copy).unwrap());

    let mut restored = 0;
    for damaged in damages(&good, &earlier) {
        fs::write(&path, damaged).unwrap();
        fs::write(&copy, &good_copy).unwrap();
        let confirmed = first_confirmed(&path).expect("the writer died");
        // Its own is one more than what it found.
        assert!([copied + 1, last + 1].contains(&confirmed), "{confirmed}");
        restored += u32::from(confirmed == copied + 1);
    }
    assert!(restored > 30, "{restored}");
}

/// Sectors that were hit, that never reached the disk, or that went to another place; bytes of the header; a lost end.
fn damages(good: &[u8], earlier: &[u8]) -> Vec<Vec<u8>> {
    const SECTOR: usize = 512;
    let with = |place: usize, bytes: &[u8]| {
        let mut damaged = good.to_vec();
        damaged[place..place + bytes.len()].copy_from_slice(bytes);
        damaged
    };
    let mut all = Vec::new();
    let sectors = good.len().min(earlier.len()) / SECTOR;
    for place in (0..sectors).step_by(sectors / 40).map(|sector| sector * SECTOR) {
        let hit: Vec<u8> = good[place..place + SECTOR].iter().map(|byte| byte ^ 0x5a).collect();
        all.push(with(place, &hit));
        all.push(with(place, &earlier[place..place + SECTOR]));
        all.push(with(place, &good[4096..4096 + SECTOR]));
        all.push(with(place, &vec![0; good.len() - place]));
    }
    all.extend((0..320).step_by(8).map(|place| with(place, &[!good[place]])));
    all
}

/// The first transaction that the writer confirms; `None` if it dies before that.
fn first_confirmed(path: &Path) -> Option<u64> {
    let mut writer = writer(path);
    let first = lines(&mut writer).next();
    writer.kill().unwrap();
    writer.wait().unwrap();
    Some(first?.parse().unwrap())
}

/// Lets the writer confirm one transaction, waits a little more, and gives the last one that it confirmed.
fn write_and_kill(path: &Path, life: Duration) -> u64 {
    let mut writer = writer(path);
    let mut lines = lines(&mut writer);
    let first = lines.next().unwrap();
    // Not to wait for something: the moment of the kill is what varies.
    std::thread::sleep(life);
    writer.kill().unwrap();
    writer.wait().unwrap();
    lines.last().unwrap_or(first).parse().unwrap()
}

fn writer(path: &Path) -> Child {
    let mut writer = Command::new(env!("CARGO_BIN_EXE_store_writer"));
    writer.arg(path).stdout(Stdio::piped()).spawn().unwrap()
}

/// What it confirms, until its end.
fn lines(writer: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok)
}
