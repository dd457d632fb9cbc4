//! A small fleet that has joined one control plane: what a change takes to reach everybody, and what nobody notices when the
//! control plane and a sidecar are killed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use trama_tests::control_plane::ControlPlane;
use trama_tests::joined::{ORDERS, REQUESTS, call, kept, load_until};
use trama_tests::mesh::{Application, Mesh, Pod, Where, until};

const FLEET: [&str; 3] = ["orders", "prices", "storefront"];
/// What was sent in pushes since the control plane was started.
const SENT: &str = "trama_control_pushed_resources_total";

async fn fleet(control: &ControlPlane) -> Mesh {
    Mesh::builder()
        .at(Where::Processes)
        .pod("orders", |p| p.serves(ORDERS).application(&Application::echo("orders")))
        .pod("prices", |p| p)
        .pod("storefront", |p| p.listener("raw", "protocol: TCP, service: \"shop/orders:80\""))
        .start_in(control)
        .await
}

/// A route that concerns all of them, different for each value.
fn route(value: u32) -> String {
    format!(
        "kind: Route\nmetadata: {{ name: orders, namespace: shop }}\nspec:\n  parentRefs: [{{ service: orders }}]\n  \
         rules:\n    - {{ name: all, filters: [{{ responseHeaderModifier: {{ set: [{{ name: x-rule, value: \"{value}\" }}] }} }}] }}\n"
    )
}

/// Waits until all have acknowledged a revision.
async fn acknowledged(control: &ControlPlane, revision: u64) {
    until(&format!("revision {revision} with all"), || async {
        let sidecars = control.sidecars().await;
        let all = sidecars.len() == FLEET.len() && sidecars.iter().all(|it| it.acknowledged >= revision);
        all.then_some(())
    })
    .await;
}

async fn apply(control: &ControlPlane, value: u32) -> (u64, Duration) {
    let began = Instant::now();
    let revision = control.apply(&route(value)).await.unwrap().stamp.unwrap().revision;
    acknowledged(control, revision).await;
    (revision, began.elapsed())
}

async fn is_connected(pod: &Pod, so: f64) {
    let connected = || async { (pod.metric("trama_control_plane_connected", &[]).await == so).then_some(()) };
    until("the stream", connected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_reaches_all_within_a_second() {
    let control = ControlPlane::spawn().await;
    let mesh = fleet(&control).await;
    for name in ["storefront", "prices"] {
        assert_eq!(call(mesh.pod(name), "/").await.0, 200);
    }
    let mut times = Vec::new();
    for value in 0..9 {
        times.push(apply(&control, value).await.1);
    }
    times.sort();
    // The machine may be busy with others at any one moment.
    assert!(times[4] < Duration::from_secs(1), "{times:?}");
    let mut client = mesh.pod("storefront").http(trama_tests::mesh::Speaks::Http1, "orders.shop").await;
    assert_eq!(client.get("/").await.headers["x-rule"], "8");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_control_plane_and_a_killed_sidecar_lose_no_request_and_nothing_is_sent_again() {
    let mut control = ControlPlane::spawn().await;
    let mut mesh = fleet(&control).await;
    for name in ["storefront", "prices"] {
        assert_eq!(call(mesh.pod(name), "/").await.0, 200);
    }
    let (revision, _) = apply(&control, 1).await;
    assert!(control.metric(SENT).await > 0.0);
    // Else it comes back with what was before.
    kept(mesh.pod("prices"), "x-rule").await;
    let storefront = mesh.take("storefront");

    let events = async {
        control.kill();
        is_connected(&storefront, 0.0).await;
        mesh.stop_sidecar("prices");
        mesh.start_sidecar("prices");
        let prices = mesh.pod("prices");
        until("readiness", || async { (prices.ask(15021, "/readyz").await?.status == 200).then_some(()) })
            .await;
        // It is whom it was, and knows what it knew.
        assert_eq!(call(prices, "/dark").await, (200, String::new()));
        assert_eq!(prices.metric("trama_policy_last_good", &[]).await, 1.0);

        control.respawn().await;
        acknowledged(&control, revision).await;
        assert_eq!(control.metric(SENT).await, 0.0, "what all had was sent again");
        let (_, took) = apply(&control, 2).await;
        assert!(control.metric(SENT).await <= 3.0, "one route to each");
        took
    };
    let mut took = Duration::MAX;
    let requests = Box::pin(load_until(&storefront, async { took = events.await })).await;
    assert!(requests > 100, "{requests} requests are no load");
    assert!(took < Duration::from_secs(5), "{took:?}");
    for pod in [&storefront, mesh.pod("prices"), mesh.pod("orders")] {
        assert_eq!(pod.metric(REQUESTS, &[("kind", "join"), ("result", "failed")]).await, 0.0);
    }
    assert_eq!(control.metric("trama_control_identities_total{how=\"join\"}").await, 0.0);
}
