//! "No lock that can be contended lies on a request's path": who may name one in the sidecar is a closed list.

use std::collections::BTreeSet;

use super::{Source, load, paths};

/// What a thread may wait in for another one, wherever it comes from.
const WAITS: &[&str] = &["Mutex", "RwLock", "ReentrantLock", "Condvar", "Barrier"];

/// A file that may name something to wait in, and why a request does not wait there. What workers share by it is a line
/// of ARCHITECTURE.md.
struct Allowed {
    file: &'static str,
    shared: Option<&'static str>,
    #[expect(dead_code, reason = "for the reader: without one there is no place in the list")]
    reason: &'static str,
}

const MAY_WAIT: &[Allowed] = &[
    Allowed {
        file: "sidecar/src/app/workers.rs",
        shared: None,
        reason: "the workers' threads tell who started them that they have ended",
    },
    Allowed {
        file: "sidecar/src/telemetry/access_log/mod.rs",
        shared: Some("queues to log and exporter"),
        reason: "a bounded channel into which requests put by try_send; only the log's own thread waits",
    },
    Allowed {
        file: "sidecar/src/telemetry/metrics/family.rs",
        shared: Some("metric series"),
        reason: "held when a worker meets a label set for the first time, and for a scrape's copy of the list",
    },
    Allowed {
        file: "sidecar/src/telemetry/pulse.rs",
        shared: Some("the workers' signs of life"),
        reason: "held when a worker starts and when health is asked; a beat is an atomic",
    },
    Allowed {
        file: "sidecar/src/tls/clients.rs",
        shared: Some("TLS client configurations by peer"),
        reason: "held for a map look-up, only when a connection is made",
    },
    Allowed {
        file: "sidecar/src/upstream/interim.rs",
        shared: None,
        reason: "one thread's alone: the HTTP/1 library asks for a callback that any thread could call",
    },
];

#[test]
fn only_the_files_of_the_list_name_what_a_thread_waits_in() {
    let found: BTreeSet<String> = waits(&load("sidecar/src").unwrap());
    let listed: BTreeSet<String> = MAY_WAIT.iter().map(|allowed| allowed.file.to_owned()).collect();
    let new: Vec<_> = found.difference(&listed).collect();
    assert!(new.is_empty(), "locks or blocking channels outside the list in {}: {new:#?}", file!());
    let gone: Vec<_> = listed.difference(&found).collect();
    assert!(gone.is_empty(), "these name none any more, take them out of {}: {gone:#?}", file!());
}

#[test]
fn the_architecture_tells_of_what_workers_share_by_a_lock() {
    let text = std::fs::read_to_string(crate::process::root().join("ARCHITECTURE.md")).unwrap();
    let table = text.split("## What is shared between workers").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| "))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    for shared in MAY_WAIT.iter().filter_map(|allowed| allowed.shared) {
        assert!(rows.iter().any(|row| row[0] == shared), "ARCHITECTURE.md has no line `{shared}`");
    }
    for row in rows.iter().filter(|row| row[1].split(|c: char| !c.is_alphabetic()).any(|word| word == "lock"))
    {
        let known = MAY_WAIT.iter().any(|allowed| allowed.shared == Some(row[0]));
        assert!(known, "ARCHITECTURE.md tells of a lock for `{}`, and no file of the list has it", row[0]);
    }
}

fn waits(sources: &[Source]) -> BTreeSet<String> {
    let waits = |source: &&Source| paths::named(&source.syntax).iter().any(|named| is_wait(&named.path));
    sources.iter().filter(waits).map(|source| source.path.display().to_string()).collect()
}

/// std's channels are known by their path: those of the asynchronous runtime have the same names. `use std::sync`
/// whole would hide what is meant.
fn is_wait(path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    path.iter().any(|segment| WAITS.contains(segment))
        || path == ["std", "sync"]
        || (path[0] != "tokio" && path.windows(2).any(|pair| pair == ["sync", "mpsc"]))
}

#[test]
fn locks_and_blocking_channels_are_found_outside_of_tests() {
    let waits = |text: &str| {
        let source =
            Source { path: "a.rs".into(), text: text.to_owned(), syntax: syn::parse_file(text).unwrap() };
        !waits(&[source]).is_empty()
    };
    for text in [
        "use std::sync::{Arc, Mutex};",
        "use std::{sync::mpsc::{Receiver, sync_channel}, time::Duration};",
        "use std::sync::*;",
        "use tokio::sync::RwLock;",
        "struct S(parking_lot::Mutex<u8>);",
        "fn f() { let (a, b) = std::sync::mpsc::channel(); }",
        "thread_local! { static A: std::sync::Condvar = B; }",
    ] {
        assert!(waits(text), "{text}");
    }
    for text in [
        "use std::sync::{Arc, LazyLock, atomic::AtomicU64};",
        "use tokio::{sync::{mpsc, watch}, time};",
        "#[cfg(test)] mod tests { use std::sync::Mutex; }",
    ] {
        assert!(!waits(text), "{text}");
    }
}
