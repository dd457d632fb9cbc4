//! The embedded store of a control plane that is killed while it writes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use trama_control_plane::store::{Embedded, Settings, Store};

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

/// Lets the writer confirm one transaction, waits a little more, and gives the last one that it confirmed.
fn write_and_kill(path: &Path, life: Duration) -> u64 {
    let mut writer = Command::new(env!("CARGO_BIN_EXE_store_writer"));
    let mut writer = writer.arg(path).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    // Not to wait for something: the moment of the kill is what varies.
    std::thread::sleep(life);
    writer.kill().unwrap();
    writer.wait().unwrap();
    let last = lines.map_while(Result::ok).last().unwrap_or(first);
    last.parse().unwrap()
}
