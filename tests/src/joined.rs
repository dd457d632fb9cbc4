//! Sidecars as processes that have joined a real control plane, and what their suites ask of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a harness makes its test fail by panicking")]

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::control_plane::ControlPlane;
use crate::mesh::{Application, EXPLICIT, Mesh, Pod, Speaks, Where, until};
use crate::programs;

/// The service of [`pair`].
pub const ORDERS: &str = "shop/orders";
/// Counts the certificates that a sidecar asked for.
pub const REQUESTS: &str = "trama_identity_requests_total";

/// `orders`, which serves, and `storefront`, which calls. Nothing is tried twice.
pub async fn pair(control: &ControlPlane) -> Mesh {
    pair_by(control, &programs::built("trama-sidecar").unwrap()).await
}

/// The same with another program for `storefront`.
pub async fn pair_by(control: &ControlPlane, storefront: &Path) -> Mesh {
    Mesh::builder()
        .at(Where::Processes)
        .pod("orders", |p| p.serves(ORDERS).application(&Application::echo("orders")))
        .pod("storefront", |p| {
            p.program(storefront).listener("raw", "protocol: TCP, service: \"shop/orders:80\"")
        })
        .policy(|p| p.route(ORDERS, "retry: { attempts: 0 }"))
        .start_in(control)
        .await
}

/// How many certificates it was given, by `join` or `renew`.
pub async fn given(pod: &Pod, request: &str) -> f64 {
    pod.metric(REQUESTS, &[("kind", request), ("result", "ok")]).await
}

/// How often it was given none when it wanted to join, for this reason.
pub async fn not_joined(pod: &Pod, reason: &str) -> f64 {
    pod.metric(REQUESTS, &[("kind", "join"), ("result", "failed"), ("reason", reason)]).await
}

/// Whether its identity is in this state.
pub async fn is_identity(pod: &Pod, state: &str) -> bool {
    pod.metric("trama_identity_state", &[("kind", state)]).await == 1.0
}

/// Status and reason of a request to `orders`, over a new connection.
pub async fn call(pod: &Pod, path: &str) -> (u16, String) {
    let mut client = pod.http(Speaks::Http1, "orders.shop").await;
    let answer = client.get(path).await;
    (answer.status.as_u16(), answer.reason().to_owned())
}

/// Waits until the endpoints of `orders` are on a sidecar's disk: the first request has asked for them.
pub async fn kept_whole(pod: &Pod) {
    kept(pod, "127.").await;
}

/// Waits until policy with these words is on a sidecar's disk.
pub async fn kept(pod: &Pod, words: &str) {
    let state = pod.folder().join("state");
    let kept = || async {
        let slots = ["policy.0", "policy.1"].iter().filter_map(|name| fs::read(state.join(name)).ok());
        let has = |slot: Vec<u8>| slot.windows(words.len()).any(|bytes| bytes == words.as_bytes());
        slots.into_iter().any(has).then_some(())
    };
    until("it is kept", kept).await;
}

/// Requests to `orders` over connections old and new, until `done`. None may fail. Gives how many there were.
///
/// # Panics
/// When one fails.
pub async fn load_until(pod: &Pod, done: impl Future<Output = ()>) -> usize {
    let (over, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let requests = async {
        let mut old = pod.http(Speaks::Http2, "orders.shop").await;
        while !over.load(Ordering::Relaxed) {
            let posted = old.post("/kept", "an order").await;
            assert_eq!((posted.status.as_u16(), posted.reason()), (200, ""));
            assert_eq!(call(pod, "/new").await, (200, String::new()));
            // An opaque connection has a handshake of its own.
            let mut raw = pod.http_to(pod.at(EXPLICIT + 1), Speaks::Http1, "orders.shop").await;
            assert_eq!(raw.get("/raw").await.status, 200);
            count.fetch_add(3, Ordering::Relaxed);
        }
    };
    let ending = async {
        done.await;
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(requests, ending);
    count.into_inner()
}
