//! Several workers in one sidecar: what is said to hold for the sidecar holds for all of them together.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Response;
use tokio::sync::watch;
use tokio::task::JoinSet;
use trama_sidecar::drain::Stage;
use trama_tests::mesh::{Answer, Application, Client, Mesh, MeshBuilder, PATIENCE, Payload, Speaks, until};

const ORDERS: &str = "shop/orders";
const WORKERS: u16 = 3;
/// The kernel spreads connections by their ports: among so many, no worker goes without one.
const CROWD: usize = 60;

fn pair(application: &Application) -> MeshBuilder {
    Mesh::builder()
        .pod("orders", |p| p.serves(ORDERS).workers(WORKERS).application(application))
        .pod("storefront", |p| p.workers(WORKERS))
}

/// Connections to the storefront's sidecar, on each of which a request was answered.
async fn crowd(mesh: &Mesh, speaks: Speaks) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..CROWD {
        let mut client = mesh.pod("storefront").http(speaks, "orders.shop").await;
        assert_eq!(client.get("/first").await.status, 200);
        clients.push(client);
    }
    clients
}

/// All workers serve: each has a connection of its own to the one endpoint.
async fn all_serve(mesh: &Mesh) {
    let mutual = [("direction", "outbound"), ("peer", "upstream"), ("tls", "mutual")];
    let opened = mesh.pod("storefront").metric("trama_connections_opened_total", &mutual).await;
    assert_eq!(opened, f64::from(WORKERS), "not every worker serves");
}

#[tokio::test]
async fn a_push_reaches_all_and_what_they_count_is_one_sum() {
    let mut mesh = pair(&Application::echo("orders")).start().await;
    let mut clients = crowd(&mesh, Speaks::Http1).await;
    all_serve(&mesh).await;
    let rule = "filters: [{ responseHeaderModifier: { set: [{ name: x-policy, value: second }] } }]";
    mesh.publish(|p| p.route(ORDERS, rule));
    let storefront = mesh.pod("storefront");
    storefront.metric_reaches("trama_policy_revision", &[], 2.0).await;
    for client in &mut clients {
        assert_eq!(client.get("/second").await.header("x-policy"), "second");
    }
    // Everything is counted once, and in no more series than one worker would make: by rule, here none and `all`.
    for (pod, direction, series) in [("storefront", "outbound", 2), ("orders", "inbound", 1)] {
        let pod = mesh.pod(pod);
        let labels = [("direction", direction), ("status", "200")];
        pod.metric_reaches("trama_requests_total", &labels, 2.0 * CROWD as f64).await;
        assert_eq!(pod.metric("trama_requests_total", &[]).await, 2.0 * CROWD as f64);
        let found = pod.series("trama_requests_total").await;
        assert_eq!(found.len(), series, "{found:#?}");
    }
}

#[tokio::test]
async fn a_limit_of_the_service_holds_for_all_together() {
    const MOST: usize = 5;
    let (go_on, may) = watch::channel(false);
    let arrived = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&arrived);
    let slow = Application::http(move |request| {
        let (mut may, count) = (may.clone(), Arc::clone(&count));
        async move {
            if request.uri().path() == "/slow" {
                count.fetch_add(1, Ordering::Relaxed);
                may.wait_for(|may| *may).await.unwrap();
            }
            Response::new(Payload::empty())
        }
    });
    let limit = format!("circuitLimits: {{ maxRequests: {MOST} }}");
    let mesh = pair(&slow).policy(|p| p.service(ORDERS, &limit)).start().await;
    let clients = crowd(&mesh, Speaks::Http1).await;
    all_serve(&mesh).await;
    let mut under_way = JoinSet::new();
    for mut client in clients {
        under_way.spawn(async move {
            let answer = client.get("/slow").await;
            (client, answer)
        });
    }
    let mut free = Vec::new();
    while free.len() < CROWD - MOST {
        let (client, answer) = answered(&mut under_way).await;
        assert_eq!((answer.status.as_u16(), answer.reason()), (503, "circuit_open"));
        free.push(client);
    }
    let all = || async { (arrived.load(Ordering::Relaxed) == MOST).then_some(()) };
    until("as many as are allowed are under way", all).await;
    let open = [("reason", "circuit_open")];
    let refused = (CROWD - MOST) as f64;
    mesh.pod("storefront").metric_reaches("trama_requests_total", &open, refused).await;
    go_on.send(true).unwrap();
    while free.len() < CROWD {
        let (client, answer) = answered(&mut under_way).await;
        assert_eq!(answer.status, 200);
        free.push(client);
    }
    // Every place is free again, whichever worker took it.
    for client in &mut free {
        assert_eq!(client.get("/slow").await.status, 200);
    }
    assert_eq!(mesh.pod("storefront").metric("trama_requests_total", &open).await, refused);
}

async fn answered(under_way: &mut JoinSet<(Client, Answer)>) -> (Client, Answer) {
    let next = tokio::time::timeout(PATIENCE, under_way.join_next()).await;
    next.expect("more than are allowed are under way, or all hang").unwrap().unwrap()
}

#[tokio::test]
async fn a_drain_ends_all() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut mesh = pair(&Application::echo("orders")).start().await;
        let clients = crowd(&mesh, speaks).await;
        all_serve(&mesh).await;
        mesh.pod("storefront").drain(Stage::All);
        for mut client in clients {
            let ended = tokio::time::timeout(PATIENCE, client.ended()).await;
            ended.unwrap_or_else(|_| panic!("{speaks:?}: a connection stays")).ok();
        }
        assert!(mesh.pod_mut("storefront").stop().await, "{speaks:?}: something was cut off");
        let lines = mesh.pod("storefront").log();
        assert_eq!(lines.len(), CROWD, "{speaks:?}: what was served is logged, by all workers");
    }
}
