//! What every store does, whatever is behind it. A new implementation adds one line to `stores!`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use super::{
    Batch, Change, Embedded, Entry, Expect, KEPT_BYTES, LARGEST_VALUE, LONGEST_KEY, MOST_CHANGES, Memory,
    Settings, Stamp, Store, StoreError,
};

/// The transactions that the stores here look back on.
const KEPT: u64 = 100;

macro_rules! stores {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $test() {
                super::$test(&super::Memory::keeping(7, super::KEPT)).await;
            })*
        }

        mod embedded {
            $(#[tokio::test]
            async fn $test() {
                let folder = tempfile::tempdir().unwrap();
                let settings = super::Settings::new(folder.path().join("store"), 7).keeping(super::KEPT);
                super::$test(&super::Embedded::open(settings).await.unwrap()).await;
            })*
        }
    };
}

stores!(
    begins_empty,
    writes_and_reads,
    rises_by_one,
    compares_and_swaps,
    changes_all_or_nothing,
    no_change_is_no_transaction,
    lists_in_pages,
    a_prefix_is_not_a_word,
    refuses_what_no_store_takes,
    tells_each_transaction_once_and_in_order,
    a_watch_waits,
    a_watch_looks_back,
    a_watch_that_is_too_late_is_told,
    what_is_kept_is_bounded_in_bytes,
    one_of_many_writers_wins,
    does_what_a_map_does,
);

async fn begins_empty(store: &dyn Store) {
    assert_eq!(store.stamp().await.unwrap(), Stamp { epoch: 7, revision: 0 });
    assert_eq!(store.get("a").await.unwrap(), None);
    let listing = store.list("", None, 10).await.unwrap();
    assert!(listing.entries.is_empty() && !listing.more);
}

async fn writes_and_reads(store: &dyn Store) {
    let stamp = put(store, "a/1", "one").await;
    let entry = store.get("a/1").await.unwrap().unwrap();
    assert_eq!(entry, Entry { key: "a/1".into(), value: "one".into(), version: stamp.revision });

    let again = put(store, "a/1", "").await;
    let entry = store.get("a/1").await.unwrap().unwrap();
    assert_eq!((entry.value, entry.version), (Bytes::new(), again.revision));

    store.transact(vec![Change::delete("a/1")]).await.unwrap();
    assert_eq!(store.get("a/1").await.unwrap(), None);
}

async fn rises_by_one(store: &dyn Store) {
    for revision in 1..=5 {
        assert_eq!(put(store, "same", "value").await, Stamp { epoch: 7, revision });
    }
    assert_eq!(store.stamp().await.unwrap(), Stamp { epoch: 7, revision: 5 });
}

async fn compares_and_swaps(store: &dyn Store) {
    let first = Change::put("a", "1").expecting(Expect::Absent);
    let stamp = store.transact(vec![first.clone()]).await.unwrap();
    assert_eq!(conflict(store, first).await, (0, stamp.revision));

    let old = Expect::Version(stamp.revision);
    let second = store.transact(vec![Change::put("a", "2").expecting(old)]).await.unwrap();
    assert_eq!(
        conflict(store, Change::put("a", "3").expecting(old)).await,
        (stamp.revision, second.revision)
    );
    assert_eq!(conflict(store, Change::delete("a").expecting(old)).await, (stamp.revision, second.revision));
    assert_eq!(conflict(store, Change::delete("b").expecting(old)).await, (stamp.revision, 0));
    assert_eq!(store.get("a").await.unwrap().unwrap().value, "2");
}

async fn changes_all_or_nothing(store: &dyn Store) {
    let before = put(store, "b", "old").await;
    let changes = vec![
        Change::put("a", "new"),
        Change::delete("b"),
        Change::put("c", "x").expecting(Expect::Version(99)),
    ];
    assert!(matches!(store.transact(changes).await, Err(StoreError::Conflict { .. })));
    assert_eq!(store.stamp().await.unwrap(), before);
    assert_eq!(keys(store, "").await, ["b"]);

    let changes = vec![Change::put("a", "new"), Change::delete("b"), Change::put("c", "x")];
    let stamp = store.transact(changes).await.unwrap();
    let listing = store.list("", None, 10).await.unwrap();
    assert_eq!(listing.at, stamp);
    assert!(listing.entries.iter().all(|entry| entry.version == stamp.revision));
    assert_eq!(keys(store, "").await, ["a", "c"]);
}

async fn no_change_is_no_transaction(store: &dyn Store) {
    let stamp = put(store, "a", "1").await;
    assert_eq!(store.transact(vec![]).await.unwrap(), stamp);
    assert_eq!(store.transact(vec![Change::delete("b")]).await.unwrap(), stamp);
}

async fn lists_in_pages(store: &dyn Store) {
    let names: Vec<_> = (0..25).map(|number| format!("k/{number:02}")).collect();
    store.transact(names.iter().map(|name| Change::put(name, "v")).collect()).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let after: Option<String> = seen.last().cloned();
        let listing = store.list("k/", after.as_deref(), 10).await.unwrap();
        seen.extend(listing.entries.into_iter().map(|entry| entry.key));
        if !listing.more {
            break;
        }
        assert_eq!(seen.len() % 10, 0);
    }
    assert_eq!(seen, names);
    // A page that ends with the last entry says that nothing follows; a start outside the prefix is no matter.
    assert!(!store.list("k/", None, 25).await.unwrap().more);
    assert_eq!(store.list("k/", Some("a"), 100).await.unwrap().entries.len(), 25);
    assert!(store.list("k/", Some("l"), 100).await.unwrap().entries.is_empty());
}

async fn a_prefix_is_not_a_word(store: &dyn Store) {
    for key in ["shop/a", "shop", "shop0", "shop/b", "shoq"] {
        put(store, key, "v").await;
    }
    assert_eq!(keys(store, "shop/").await, ["shop/a", "shop/b"]);
    assert_eq!(keys(store, "shop").await, ["shop", "shop/a", "shop/b", "shop0"]);
}

async fn refuses_what_no_store_takes(store: &dyn Store) {
    let long = "k".repeat(LONGEST_KEY);
    put(store, &long, vec![1; LARGEST_VALUE]).await;
    let before = store.stamp().await.unwrap();

    let refused = |changes| async { store.transact(changes).await.unwrap_err() };
    assert!(matches!(refused(vec![Change::put("", "v")]).await, StoreError::BadKey { bytes: 0, .. }));
    let bad = refused(vec![Change::put(long.clone() + "k", "v")]).await;
    assert!(matches!(bad, StoreError::BadKey { bytes, .. } if bytes == LONGEST_KEY + 1));
    let large = refused(vec![Change::put("a", "v"), Change::put("b", vec![1; LARGEST_VALUE + 1])]).await;
    assert!(matches!(large, StoreError::TooLarge { key, .. } if key == "b"));
    let twice = refused(vec![Change::put("a", "v"), Change::delete("a")]).await;
    assert!(matches!(twice, StoreError::TwiceInOne { key } if key == "a"));
    let many = (0..=MOST_CHANGES).map(|number| Change::put(number.to_string(), "v")).collect();
    assert!(matches!(refused(many).await, StoreError::TooManyChanges { .. }));

    assert_eq!(store.stamp().await.unwrap(), before);
}

async fn tells_each_transaction_once_and_in_order(store: &dyn Store) {
    let mut all = store.watch("", 0);
    let mut some = store.watch("b/", 0);
    put(store, "a/1", "x").await;
    store.transact(vec![Change::put("b/1", "y"), Change::delete("a/1")]).await.unwrap();
    put(store, "a/2", "z").await;
    store.transact(vec![Change::delete("b/1")]).await.unwrap();

    let change = |key: &str, value: Option<&'static str>| (key.to_owned(), value.map(Bytes::from));
    let expected = [
        Batch { revision: 1, changes: vec![change("a/1", Some("x"))] },
        Batch { revision: 2, changes: vec![change("a/1", None), change("b/1", Some("y"))] },
        Batch { revision: 3, changes: vec![change("a/2", Some("z"))] },
        Batch { revision: 4, changes: vec![change("b/1", None)] },
    ];
    for batch in expected {
        let mut told = all.next().await.unwrap();
        told.changes.sort();
        assert_eq!(told, batch);
    }
    assert_eq!(some.next().await.unwrap(), Batch { revision: 2, changes: vec![change("b/1", Some("y"))] });
    assert_eq!(some.next().await.unwrap(), Batch { revision: 4, changes: vec![change("b/1", None)] });
}

async fn a_watch_waits(store: &dyn Store) {
    let mut watch = store.watch("a", 0);
    let early = tokio::time::timeout(Duration::from_millis(10), watch.next()).await;
    assert!(early.is_err(), "nothing has happened yet");
    let (told, _) = tokio::join!(watch.next(), put(store, "a", "1"));
    assert_eq!(told.unwrap().revision, 1);
}

async fn a_watch_looks_back(store: &dyn Store) {
    for _ in 0..90 {
        put(store, "a", "1").await;
    }
    let mut watch = store.watch("", 15);
    for revision in 16..=90 {
        assert_eq!(watch.next().await.unwrap().revision, revision);
    }
}

async fn a_watch_that_is_too_late_is_told(store: &dyn Store) {
    let mut late = store.watch("", 0);
    for _ in 0..KEPT + 20 {
        put(store, "a", "1").await;
    }
    let told = late.next().await;
    assert!(matches!(told, Err(StoreError::Compacted { asked: 0, oldest: 21 })), "{told:?}");
    assert_eq!(store.watch("", 20).next().await.unwrap().revision, 21);
}

async fn what_is_kept_is_bounded_in_bytes(store: &dyn Store) {
    let most = KEPT_BYTES / LARGEST_VALUE;
    for _ in 0..most + 5 {
        put(store, "a", vec![1; LARGEST_VALUE]).await;
    }
    let told = store.watch("", 0).next().await;
    assert!(matches!(told, Err(StoreError::Compacted { .. })), "{told:?}");
    assert!(store.watch("", 10).next().await.is_ok());
}

async fn one_of_many_writers_wins(store: &dyn Store) {
    let version = put(store, "a", "0").await.revision;
    let change = || vec![Change::put("a", "x").expecting(Expect::Version(version))];
    let (one, two, three) =
        tokio::join!(store.transact(change()), store.transact(change()), store.transact(change()));
    assert_eq!([one.is_ok(), two.is_ok(), three.is_ok()].into_iter().filter(|won| *won).count(), 1);
    assert_eq!(store.stamp().await.unwrap().revision, version + 1);
}

/// Many transactions drawn by lot, each compared with what a map makes of it.
async fn does_what_a_map_does(store: &dyn Store) {
    let mut draw = fastrand::Rng::with_seed(20_261_121);
    let mut model: BTreeMap<String, (u64, Bytes)> = BTreeMap::new();
    let mut revision = 0;
    for _ in 0..300 {
        let mut changes: Vec<Change> = Vec::new();
        for _ in 0..draw.usize(0..4) {
            let key = format!("k{}", draw.u8(0..12));
            let expect = match draw.u8(0..4) {
                0 => Expect::Absent,
                1 => Expect::Version(model.get(&key).map_or(3, |(version, _)| *version)),
                _ => Expect::Anything,
            };
            let value = draw.bool().then(|| Bytes::from(vec![draw.u8(..); draw.usize(0..64)]));
            if changes.iter().all(|change| change.key != key) {
                changes.push(Change { key, expect, value });
            }
        }
        let version = |key: &str| model.get(key).map_or(0, |(version, _)| *version);
        let fits = changes.iter().all(|change| match change.expect {
            Expect::Anything => true,
            Expect::Absent => version(&change.key) == 0,
            Expect::Version(expected) => version(&change.key) == expected,
        });
        let touches = changes.iter().any(|change| change.value.is_some() || version(&change.key) != 0);
        let done = store.transact(changes.clone()).await;
        assert_eq!(done.is_ok(), fits, "{changes:?}: {done:?}");
        if fits && touches {
            revision += 1;
            for Change { key, value, .. } in changes {
                match value {
                    Some(value) => drop(model.insert(key, (revision, value))),
                    None => drop(model.remove(&key)),
                }
            }
        }
        assert_eq!(store.stamp().await.unwrap().revision, revision);
    }
    let listing = store.list("", None, usize::MAX).await.unwrap();
    let listed: BTreeMap<_, _> =
        listing.entries.into_iter().map(|entry| (entry.key, (entry.version, entry.value))).collect();
    assert_eq!(listed, model);
}

async fn put(store: &dyn Store, key: &str, value: impl Into<Bytes>) -> Stamp {
    store.transact(vec![Change::put(key, value)]).await.unwrap()
}

async fn keys(store: &dyn Store, prefix: &str) -> Vec<String> {
    let listing = store.list(prefix, None, 100).await.unwrap();
    listing.entries.into_iter().map(|entry| entry.key).collect()
}

/// The version expected and the one found.
async fn conflict(store: &dyn Store, change: Change) -> (u64, u64) {
    match store.transact(vec![change]).await {
        Err(StoreError::Conflict { expected, found, .. }) => (expected, found),
        other => panic!("{other:?}"),
    }
}
