//! Bodies whose reader stalls and then reads slowly, in both directions at once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a harness makes its test fail by panicking")]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::watch;

use crate::mesh::{Application, Client, Mesh, Payload, Where};

/// More than anything here takes.
pub const LONG: Duration = Duration::from_secs(120);

const GIB: u64 = 1 << 30;
/// What a sidecar may hold more while a reader stalls.
const MORE: u64 = 8 << 20;

/// So much of a body is read slowly: after each piece of it the reader rests.
const SLOWLY: u64 = 4 << 20;
const PIECE: u64 = 64 << 10;
const REST: Duration = Duration::from_millis(2);

/// A whole request's body, or answer's, between a client and an application that both belong to the test.
#[derive(Debug)]
pub struct Stalled {
    /// Pods `orders` and `storefront`.
    pub mesh: Mesh,
    /// Bytes of uploads that the application has read.
    pub arrived: Arc<AtomicU64>,
    /// Bytes that writers have got rid of, upwards (the client's to count) and downwards.
    pub taken: [Arc<AtomicU64>; 2],
    /// Lets readers go on.
    pub go_on: watch::Sender<bool>,
    /// Whether readers may.
    pub may: watch::Receiver<bool>,
}

impl Stalled {
    /// `/download` is of this length, in such chunks; `/upload` is read when readers may; all else is echoed.
    pub async fn start(place: Where, chunk: Bytes, length: u64) -> Self {
        let (go_on, may) = watch::channel(false);
        let arrived = Arc::new(AtomicU64::new(0));
        let taken = <[Arc<AtomicU64>; 2]>::default();
        let (count, reader, written) = (Arc::clone(&arrived), may.clone(), Arc::clone(&taken[1]));
        let application = Application::http(move |request| {
            let (count, reader, chunk) = (Arc::clone(&count), reader.clone(), chunk.clone());
            let written = Arc::clone(&written);
            async move {
                match request.uri().path() {
                    "/download" => Response::new(Payload::counted(chunk, length, written)),
                    "/upload" => {
                        let whole = read(request.into_body(), reader, count).await;
                        Response::new(Payload::of(if whole { "whole" } else { "broken" }))
                    }
                    _ => Response::new(Payload::relayed(request.into_body())),
                }
            }
        });
        let mesh = Mesh::builder()
            .at(place)
            .pod("orders", |p| p.serves("shop/orders").application(&application))
            .pod("storefront", |p| p);
        Self { mesh: mesh.start().await, arrived, taken, go_on, may }
    }
}

/// Reads a body to its end, but not before it may, and slowly at first; counts as it goes.
pub async fn read(mut body: Incoming, mut may: watch::Receiver<bool>, counted: Arc<AtomicU64>) -> bool {
    may.wait_for(|may| *may).await.unwrap();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        let length = frame.data_ref().map_or(0, |d| d.len() as u64);
        let before = counted.fetch_add(length, Ordering::Relaxed);
        if before < SLOWLY && before / PIECE < (before + length) / PIECE {
            tokio::time::sleep(REST).await;
        }
    }
    true
}

/// Waits until the writers have begun, and nobody takes a byte of theirs any more: all windows are full. Gives how many
/// bytes those hold.
pub async fn at_a_halt(taken: &[Arc<AtomicU64>], mut look: impl FnMut()) -> u64 {
    const STILL: Duration = Duration::from_millis(500);
    let deadline = Instant::now() + LONG;
    let count = || taken.iter().map(|way| way.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let (mut last, mut since) = (count(), Instant::now());
    while last.contains(&0) || since.elapsed() < STILL {
        assert!(Instant::now() < deadline, "no halt: {last:?} bytes were taken");
        look();
        let now = count();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    last.iter().sum()
}

/// A gibibyte up and one down at the same time, each past a reader that stalls and then is slow: both arrive whole, and no
/// sidecar needs more memory for it than it may.
pub async fn a_gibibyte_each_way(place: Where, connect: impl AsyncFn(&Mesh) -> Client) {
    let length = GIB;
    let chunk = Bytes::from(vec![7; 64 << 10]);
    let Stalled { mut mesh, arrived, taken, go_on, may } = Stalled::start(place, chunk.clone(), length).await;
    let pids = ["orders", "storefront"].map(|name| mesh.pod_mut(name).process().pid());
    let (mut upload, mut download) = (connect(&mesh).await, connect(&mesh).await);
    // Pools, TLS and allocator are warm before it is measured.
    for _ in 0..3 {
        for client in [&mut upload, &mut download] {
            let body = Payload::repeated(chunk.clone(), 4 << 20);
            let request = client.request("POST", "/echo").body(body).unwrap();
            assert_eq!(client.call(request).await.unwrap().body.len(), 4 << 20);
        }
    }
    let before = pids.map(resident);

    let body = Payload::counted(chunk, length, Arc::clone(&taken[0]));
    let request = upload.request("POST", "/upload").body(body).unwrap();
    let mut uploading = tokio::spawn(async move { upload.call(request).await });
    let request = download.request("GET", "/download").body(Payload::empty()).unwrap();
    let answer = download.send(request).await.unwrap().into_body();
    let received = Arc::new(AtomicU64::new(0));
    let mut downloading = tokio::spawn(read(answer, may, Arc::clone(&received)));

    let mut most = before;
    let mut look = || {
        for (most, pid) in most.iter_mut().zip(pids) {
            *most = resident(pid).max(*most);
        }
    };
    // Nobody reads.
    let held = at_a_halt(&taken, &mut look).await;
    assert!(held < length, "{held} bytes were taken, and nobody read one");
    assert_eq!((arrived.load(Ordering::Relaxed), received.load(Ordering::Relaxed)), (0, 0));
    go_on.send(true).unwrap();
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let (mut up, mut down) = (None, None);
    while up.is_none() || down.is_none() {
        tokio::select! {
            answer = &mut uploading, if up.is_none() => up = Some(answer.unwrap()),
            whole = &mut downloading, if down.is_none() => down = Some(whole.unwrap()),
            _ = ticks.tick() => look(),
        }
    }
    assert_eq!(&up.unwrap().unwrap().body[..], b"whole");
    assert_eq!(down, Some(true));
    assert_eq!((arrived.load(Ordering::Relaxed), received.load(Ordering::Relaxed)), (length, length));
    for (most, before) in most.into_iter().zip(before) {
        let grown = most.saturating_sub(before);
        eprintln!("{place:?}: {} KiB before, {} KiB more", before >> 10, grown >> 10);
        assert!(grown <= MORE, "{place:?}: {} KiB more", grown >> 10);
    }
}

/// Resident memory of a process.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
