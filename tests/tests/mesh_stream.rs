//! Bodies stream: a slow reader slows the writer down, nothing gathers in a sidecar, and small frames are no attack.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::watch;
use trama_tests::mesh::{Application, Mesh, PATIENCE, Payload, Speaks, Where, until};

const GIB: u64 = 1 << 30;
/// What a sidecar may hold more while a reader stalls.
const MORE: u64 = 8 << 20;
const LONG: Duration = Duration::from_secs(120);

/// So much of a body is read slowly: after each piece of it the reader rests.
const SLOWLY: u64 = 4 << 20;
const PIECE: u64 = 64 << 10;
const REST: Duration = Duration::from_millis(2);

/// Reads a body to its end, but not before it may, and slowly at first; counts as it goes.
async fn read(mut body: Incoming, mut may: watch::Receiver<bool>, counted: Arc<AtomicU64>) -> bool {
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

/// Waits until the writers of both directions have begun, and nobody takes a byte of theirs any more: all windows are full. Gives
/// how many bytes those hold.
async fn at_a_halt(taken: &[Arc<AtomicU64>; 2], mut look: impl FnMut()) -> u64 {
    const STILL: Duration = Duration::from_millis(500);
    let deadline = Instant::now() + LONG;
    let (mut last, mut since) = ([0; 2], Instant::now());
    while last.contains(&0) || since.elapsed() < STILL {
        assert!(Instant::now() < deadline, "no halt: {last:?} bytes were taken up and down");
        look();
        let now = [0, 1].map(|way| taken[way].load(Ordering::Relaxed));
        if now != last {
            (last, since) = (now, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    last.iter().sum()
}

/// Resident memory of a process.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// A whole request's body, or answer's, between a client and an application that both belong to the test.
struct Stalled {
    mesh: Mesh,
    arrived: Arc<AtomicU64>,
    /// Bytes that writers have got rid of, upwards (the client's to count) and downwards.
    taken: [Arc<AtomicU64>; 2],
    go_on: watch::Sender<bool>,
    may: watch::Receiver<bool>,
}

async fn stalled(place: Where, chunk: Bytes, length: u64) -> Stalled {
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
    Stalled { mesh: mesh.start().await, arrived, taken, go_on, may }
}

#[tokio::test]
async fn a_hundred_thousand_small_frames_past_a_stalled_reader_are_no_attack() {
    const FRAME: &[u8] = &[7; 64];
    const LENGTH: u64 = 100_000 * 64;
    let Stalled { mesh, arrived, taken, go_on, may } =
        stalled(Where::InProcess, Bytes::from_static(FRAME), LENGTH).await;
    let mut client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
    let body = Payload::counted(Bytes::from_static(FRAME), LENGTH, Arc::clone(&taken[0]));
    let upload = client.request("POST", "/upload").body(body).unwrap();
    let mut other = client.share();
    let uploading = tokio::spawn(async move { client.call(upload).await });

    // Downwards, on the same connections, while the upload stalls.
    let received = Arc::new(AtomicU64::new(0));
    let download = other.send("GET", "/download", Payload::empty()).await.unwrap().into_body();
    let downloading = tokio::spawn(read(download, may, Arc::clone(&received)));
    // A stalled stream stalls no other.
    let echo = other.call("POST", "/echo", Payload::of("hello")).await.unwrap();
    assert_eq!(&echo.body[..], b"hello");
    // What is on its way has come to a halt before anybody reads.
    at_a_halt(&taken, || ()).await;
    assert_eq!((arrived.load(Ordering::Relaxed), received.load(Ordering::Relaxed)), (0, 0));
    go_on.send(true).unwrap();

    let answer = tokio::time::timeout(LONG, uploading).await.expect("the upload ends").unwrap();
    assert_eq!(&answer.expect("the upload was not killed").body[..], b"whole");
    assert_eq!(arrived.load(Ordering::Relaxed), LENGTH);
    assert!(tokio::time::timeout(LONG, downloading).await.expect("the download ends").unwrap());
    assert_eq!(received.load(Ordering::Relaxed), LENGTH);
}

#[tokio::test]
async fn a_gibibyte_each_way_past_a_slow_reader_needs_no_memory() {
    for speaks in [Speaks::Http2, Speaks::Http1] {
        let length = GIB;
        let chunk = Bytes::from(vec![7; 64 << 10]);
        let Stalled { mut mesh, arrived, taken, go_on, may } =
            stalled(Where::Processes, chunk.clone(), length).await;
        let pids = ["orders", "storefront"].map(|name| mesh.pod_mut(name).process().pid());
        let mut upload = mesh.pod("storefront").http(speaks, "orders.shop").await;
        let mut download = mesh.pod("storefront").http(speaks, "orders.shop").await;
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
        assert!(held < length, "{speaks:?}: {held} bytes were taken, and nobody read one");
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
            eprintln!("{speaks:?}: {} KiB before, {} KiB more", before >> 10, grown >> 10);
            assert!(grown <= MORE, "{speaks:?}: {} KiB more", grown >> 10);
        }
    }
}

#[tokio::test]
async fn a_stalled_reader_stops_the_writer() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let Stalled { mesh, go_on, .. } = stalled(Where::InProcess, Bytes::new(), 0).await;
        let mut client = mesh.pod("storefront").http(speaks, "orders.shop").await;
        let (feed, body) = Payload::stream();
        let request = client.request("POST", "/upload").body(body).unwrap();
        let uploading = tokio::spawn(async move { client.call(request).await });
        let chunk = Bytes::from(vec![7; 64 << 10]);
        let mut taken = 0_u64;
        while let Ok(true) = tokio::time::timeout(Duration::from_millis(500), feed.data(chunk.clone())).await
        {
            taken += chunk.len() as u64;
            // Windows of three connections, and what kernels buffer.
            assert!(taken < 64 << 20, "{speaks:?}: {taken} bytes were taken, and nobody read one");
        }
        go_on.send(true).unwrap();
        until("the writer goes on", || async {
            tokio::time::timeout(PATIENCE, feed.data(chunk.clone())).await.ok().filter(|taken| *taken)
        })
        .await;
        drop(feed);
        assert_eq!(&uploading.await.unwrap().unwrap().body[..], b"whole");
    }
}
