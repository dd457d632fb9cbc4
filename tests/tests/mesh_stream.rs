//! Bodies stream: a slow reader slows the writer down, nothing gathers in a sidecar, and small frames are no attack.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use trama_tests::frames::Frames;
use trama_tests::mesh::{Application, EXPLICIT, Mesh, PATIENCE, Payload, Speaks, Where, until};
use trama_tests::stalled::{self, LONG, Stalled, at_a_halt, read};

#[tokio::test]
async fn a_hundred_thousand_small_frames_past_a_stalled_reader_are_no_attack() {
    const FRAME: &[u8] = &[7; 64];
    const LENGTH: u64 = 100_000 * 64;
    let Stalled { mesh, arrived, taken, go_on, may } =
        Stalled::start(Where::InProcess, Bytes::from_static(FRAME), LENGTH).await;
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
        let connect = async |mesh: &Mesh| mesh.pod("storefront").http(speaks, "orders.shop").await;
        stalled::a_gibibyte_each_way(Where::Processes, connect).await;
    }
}

#[tokio::test]
async fn a_stalled_reader_stops_the_writer() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let Stalled { mesh, go_on, .. } = Stalled::start(Where::InProcess, Bytes::new(), 0).await;
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

/// The client grants windows wider than any buffer, and then reads nothing, not even its socket.
#[tokio::test]
async fn what_a_sidecar_holds_for_a_stream_is_as_much_as_the_limit_says() {
    const SMALL: u64 = 16 << 10;
    const LARGE: u64 = 16 << 20;
    let mut held = Vec::new();
    for limit in [SMALL, LARGE] {
        let chunk = Bytes::from(vec![7; 16 << 10]);
        let taken = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&taken);
        let application = Application::http(move |_| {
            let body = Payload::counted(chunk.clone(), 1 << 30, Arc::clone(&count));
            async move { http::Response::new(body) }
        });
        let mesh = Mesh::builder()
            .pod("orders", |p| p.serves("shop/orders").application(&application).plain())
            .pod("storefront", |p| p.config(&format!("limits: {{ bufferBytes: {limit} }}")))
            .start()
            .await;
        let storefront = mesh.pod("storefront");
        let mut client = Frames::begin(storefront.dial(storefront.at(EXPLICIT)).await.unwrap()).await;
        client.widen(1 << 30).await.unwrap();
        let get = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "orders.shop")];
        client.head(1, &get, true).await.unwrap();
        held.push(at_a_halt(&[taken], || ()).await);
    }
    // What kernels buffer is in both.
    let more = held[1].saturating_sub(held[0]);
    assert!((LARGE * 3 / 4..LARGE * 5 / 4).contains(&more), "{held:?} bytes are held at {SMALL} and {LARGE}");
}
