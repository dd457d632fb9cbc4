//! Where requests go among endpoints that all answer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::Response;
use tokio::task::JoinSet;
use trama_tests::mesh::{Application, Mesh, Payload, Speaks};

const ORDERS: &str = "shop/orders";

/// Takes this long for each answer, and counts them.
fn taking(time: Duration) -> (Application, Arc<AtomicU32>) {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let application = Application::http(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            tokio::time::sleep(time).await;
            Response::new(Payload::of("done"))
        }
    });
    (application, asked)
}

/// Without the choice by load and latency each would get a half.
#[tokio::test]
async fn a_slow_endpoint_gets_clearly_less_than_a_fast_one() {
    for meshed in [true, false] {
        let (fast, by_fast) = taking(Duration::ZERO);
        let (slow, by_slow) = taking(Duration::from_millis(300));
        let endpoint = |p: trama_tests::mesh::PodSpec, application| {
            let p = p.serves(ORDERS).application(application);
            if meshed { p } else { p.plain() }
        };
        let mesh = Mesh::builder()
            .pod("fast", |p| endpoint(p, &fast))
            .pod("slow", |p| endpoint(p, &slow))
            .pod("storefront", |p| p)
            .start()
            .await;
        let client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
        let mut callers = JoinSet::new();
        for _ in 0..8 {
            let mut client = client.share();
            callers.spawn(async move {
                for _ in 0..50 {
                    let answer = client.call("GET", "/", Payload::empty()).await.unwrap();
                    assert_eq!(answer.status.as_u16(), 200);
                }
            });
        }
        while let Some(done) = callers.join_next().await {
            done.unwrap();
        }
        let (fast, slow) = (by_fast.load(Ordering::Relaxed), by_slow.load(Ordering::Relaxed));
        println!("meshed: {meshed}: the fast one {fast}, the slow one {slow}");
        assert_eq!(fast + slow, 400, "meshed: {meshed}");
        // Eight callers may meet it before anybody knows that it is slow.
        assert!((1..=100).contains(&slow), "meshed: {meshed}: the slow one got {slow} of 400");
    }
}
