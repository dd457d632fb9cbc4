//! Who opens a stream and does not read it, over real connections: it costs one push, is ended by name and counted, and
//! nobody else notices.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tonic::Streaming;
use tonic_types::StatusExt;
use trama_proto::admin::v1::{WatchEvent, WatchRequest};
use trama_tests::control_plane::{ControlPlane, Deafness, Stream, names};
use trama_tests::mesh::until;

/// How many do not read.
const DEAF: usize = 8;
const CHANGES: usize = 12;
/// Bytes of what changes.
const SIZE: usize = 256 << 10;
const SLOW: &str = "trama_control_streams_ended_total{reason=\"slow\"}";

/// The heap of the process, of which a test sees whether it grows: one at a time.
static HELD: AtomicI64 = AtomicI64::new(0);
static ALONE: Mutex<()> = Mutex::const_new(());

struct Counting;

#[allow(unsafe_code, reason = "an allocator can only be watched by being one")]
// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller keeps `dealloc`'s contract, and `at` came from `System`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn held() -> i64 {
    HELD.load(Ordering::Relaxed)
}

/// A service of some size, different for each value.
fn service(value: usize, size: usize) -> String {
    let label = format!("{value}{}", "x".repeat(size));
    format!(
        "kind: Service\nmetadata: {{ name: orders, namespace: shop, labels: {{ x: '{label}' }} }}\n\
         spec: {{ ports: [{{ port: 80 }}] }}\n"
    )
}

/// Makes changes that somebody takes. How much the heap has grown, and how long each took to get there.
async fn change(control: &ControlPlane, quick: &mut Stream, from: usize) -> (i64, Duration) {
    let before = held();
    let mut times = Vec::new();
    for value in from..from + CHANGES {
        let began = Instant::now();
        control.apply(&service(value, SIZE)).await.unwrap();
        assert_eq!(names(&quick.take().await), ["Service shop/orders"]);
        times.push(began.elapsed());
    }
    times.sort();
    // The machine may be busy with others at any one moment.
    (held() - before, times[CHANGES / 2])
}

async fn counted(control: &ControlPlane, sample: &str, number: f64) {
    until(sample, || async { (control.metric(sample).await == number).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_without_a_window_cost_a_push_each_and_are_cut_and_the_others_hear_everything() {
    let _alone = ALONE.lock().await;
    let more = format!("timeouts: {{ acknowledge: 5s }}\nlimits: {{ streams: {} }}\n", DEAF + 1);
    let control = ControlPlane::start_with(&more).await;
    control.apply(&service(0, SIZE)).await.unwrap();
    let mut quick = control.stream(&control.joined("shop", "quick").await).await;
    quick.subscribe(&[]);
    quick.take().await;
    // What the store remembers of the changes is the same with and without.
    let (without, _) = change(&control, &mut quick, 1).await;

    let slow = control.joined("shop", "slow").await;
    let before = held();
    let mut deaf = Vec::new();
    for _ in 0..DEAF {
        deaf.push(control.deaf(&slow, Deafness::Window).await);
    }
    counted(&control, "trama_control_streams", DEAF as f64 + 1.0).await;
    let (with, took) = change(&control, &mut quick, 100).await;
    let each = (with - without) / DEAF as i64;
    assert!(each < 2 * SIZE as i64, "{each} bytes for each of them after {CHANGES} changes of {SIZE}");
    assert!(took < Duration::from_secs(1), "{took:?}");

    counted(&control, SLOW, DEAF as f64).await;
    for deaf in deaf {
        deaf.cut().await;
    }
    counted(&control, "trama_control_streams", 1.0).await;
    // What was meant for them is gone with their connections.
    let most = before + without + (DEAF * SIZE / 2) as i64;
    until("their memory", || async { (held() < most).then_some(()) }).await;
    // And so are their places.
    for _ in 0..DEAF {
        let mut again = control.stream(&slow).await;
        again.subscribe(&[]);
        again.take().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_that_reads_at_last_finds_out_why_its_stream_ended() {
    let _alone = ALONE.lock().await;
    let control = ControlPlane::start_with("timeouts: { acknowledge: 1s }\n").await;
    control.apply(&service(0, SIZE)).await.unwrap();
    let slow = control.joined("shop", "slow").await;
    let deaf = control.deaf(&slow, Deafness::Socket).await;
    counted(&control, SLOW, 1.0).await;
    let (bytes, status) = deaf.read().await;
    assert!(bytes > SIZE, "{bytes}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("SLOW_CONSUMER", "trama.dev"), "{status}");
    assert_eq!(info.metadata["limit"], "timeouts.acknowledge");
}

/// Makes changes that somebody watches. How much the heap has grown.
async fn watched(control: &ControlPlane, quick: &mut Streaming<WatchEvent>, from: usize) -> i64 {
    let before = held();
    for value in from..from + CHANGES {
        let stamp = control.apply(&service(value, SIZE)).await.unwrap().stamp;
        assert_eq!(quick.message().await.unwrap().unwrap().stamp, stamp);
    }
    held() - before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_are_not_read_hold_two_events_and_are_cut_and_the_others_tell_everything() {
    let _alone = ALONE.lock().await;
    let control = ControlPlane::start_with("timeouts: { acknowledge: 5s }\n").await;
    let mut quick = control.admin().await.watch(WatchRequest::default()).await.unwrap().into_inner();
    // What the store remembers of the changes is the same with and without.
    let without = watched(&control, &mut quick, 1).await;
    let mut deaf = Vec::new();
    for _ in 0..DEAF {
        deaf.push(control.deaf_watch(Deafness::Window).await);
    }
    let with = watched(&control, &mut quick, 100).await;
    let each = (with - without) / DEAF as i64;
    assert!(each < 4 * SIZE as i64, "{each} bytes for each of them after {CHANGES} changes of {SIZE}");

    counted(&control, "trama_control_watches_ended_total{reason=\"slow\"}", DEAF as f64).await;
    for deaf in deaf {
        deaf.cut().await;
    }
    let stamp = control.apply(&service(0, 1)).await.unwrap().stamp;
    assert_eq!(quick.message().await.unwrap().unwrap().stamp, stamp);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_is_read_at_last_says_why_it_ended() {
    let _alone = ALONE.lock().await;
    let control = ControlPlane::start_with("timeouts: { acknowledge: 1s }\n").await;
    let deaf = control.deaf_watch(Deafness::Socket).await;
    // More than the kernel keeps for a socket.
    for value in 0..CHANGES {
        control.apply(&service(value, SIZE)).await.unwrap();
    }
    counted(&control, "trama_control_watches_ended_total{reason=\"slow\"}", 1.0).await;
    let (_, status) = deaf.read().await;
    assert_eq!(status.get_details_error_info().unwrap().reason, "SLOW_CONSUMER", "{status}");
}
