//! What a push must change at once and what it must leave alone, while connections are open and requests under way.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use http::Response;
use tokio::sync::watch;
use tokio::task::JoinSet;
use trama_tests::mesh::{Application, Client, MESH, Mesh, Payload, Speaks, until};

const ORDERS: &str = "shop/orders";
const OPENED: &str = "trama_connections_opened_total";

/// Holds what comes until it is told to answer.
fn holding() -> (Application, Arc<AtomicUsize>, watch::Sender<bool>) {
    let (go_on, may) = watch::channel(false);
    let arrived = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&arrived);
    let application = Application::http(move |_| {
        let mut may = may.clone();
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            may.wait_for(|may| *may).await.unwrap();
            Response::new(Payload::of("done"))
        }
    });
    (application, arrived, go_on)
}

async fn arrive(arrived: &AtomicUsize, how_many: usize) {
    let there = || async { (arrived.load(Ordering::Relaxed) == how_many).then_some(()) };
    until("the requests at the application", there).await;
}

/// The orders' endpoint, with a record of its sidecar or without.
fn endpoint(mesh: &Mesh, meshed: bool) -> String {
    let pod = mesh.pod("orders");
    let record = format!(", identity: \"{}\", mesh: {{ address: \"{}\" }}", pod.identity(), pod.mesh());
    format!(
        "kind: EndpointSet\nmetadata: {{ name: joins, namespace: shop }}\n\
         spec: {{ service: orders, endpoints: [{{ address: {}{} }}] }}\n",
        pod.at(MESH).ip(),
        if meshed { &record } else { "" }
    )
}

#[tokio::test]
async fn an_endpoint_that_joins_the_mesh_gets_nothing_more_over_its_plain_connections() {
    const CLIENTS: usize = 3;
    for (protocol, speaks) in [("HTTP", Speaks::Http1), ("HTTP2", Speaks::Http2), ("AUTO", Speaks::Http2)] {
        let (application, arrived, go_on) = holding();
        let mut mesh = Mesh::builder()
            .pod("orders", |p| p.application(&application))
            .pod("storefront", |p| p)
            .policy(|p| p.protocol(ORDERS, protocol))
            .start()
            .await;
        let plainly = endpoint(&mesh, false);
        mesh.publish(|p| p.more(&plainly));
        let storefront = mesh.pod("storefront");
        storefront.metric_reaches("trama_policy_revision", &[], 2.0).await;
        // At once, so that an HTTP/1 pool has a connection for each.
        let mut under_way = JoinSet::new();
        for _ in 0..CLIENTS {
            let mut client: Client = storefront.http(speaks, "orders.shop").await;
            under_way.spawn(async move { (client.get("/plain").await.status, client) });
        }
        arrive(&arrived, CLIENTS).await;
        go_on.send_replace(true);
        let clients = under_way.join_all().await;
        let plain = [("direction", "outbound"), ("peer", "upstream"), ("tls", "none")];
        let opened = storefront.metric(OPENED, &plain).await;
        assert!(opened >= 1.0, "{protocol}: {opened}");
        let open = storefront.metric("trama_connections_active", &plain).await;
        assert!(open >= 1.0, "{protocol}: plain connections lie in their pool: {open}");

        let meshed = endpoint(&mesh, true);
        mesh.publish(|p| p.more(&meshed));
        let (storefront, orders) = (mesh.pod("storefront"), mesh.pod("orders"));
        storefront.metric_reaches("trama_policy_revision", &[], 3.0).await;
        for (n, (status, mut client)) in clients.into_iter().enumerate() {
            assert_eq!(status, 200, "{protocol}");
            let path = format!("/sealed/{n}");
            assert_eq!(client.post(&path, "an order").await.status, 200, "{protocol}");
            // What comes over a plain connection does not pass the called sidecar.
            let entry = orders.logged(&path).await;
            assert_eq!(entry["peer_identity"], storefront.identity(), "{protocol}: {entry}");
        }
        let mutual = [("direction", "outbound"), ("peer", "upstream"), ("tls", "mutual")];
        assert!(storefront.metric(OPENED, &mutual).await >= 1.0, "{protocol}");
        let after = storefront.metric(OPENED, &plain).await;
        assert!((after - opened).abs() < 0.5, "{protocol}: plain connections: {opened}, then {after}");
    }
}

#[tokio::test]
async fn requests_under_way_count_against_the_limit_of_the_policies_that_follow() {
    let (application, arrived, go_on) = holding();
    let limit = |most: u32| format!("circuitLimits: {{ maxRequests: {most} }}");
    let mut mesh = Mesh::builder()
        .pod("orders", |p| p.serves(ORDERS).application(&application))
        .pod("storefront", |p| p)
        .policy(|p| p.service(ORDERS, &limit(2)))
        .start()
        .await;
    let client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
    let mut held = JoinSet::new();
    let mut hold = |n: usize| {
        let mut client = client.share();
        held.spawn(async move { client.call("GET", &format!("/held/{n}"), Payload::empty()).await.unwrap() });
    };
    (0..2).for_each(&mut hold);
    arrive(&arrived, 2).await;
    // The same limit again, then one more: the two under way are counted each time.
    for (revision, most, passes) in [(2.0, 2, false), (3.0, 3, true), (4.0, 3, false)] {
        mesh.publish(|p| {
            p.service(ORDERS, &limit(most));
            p.route(ORDERS, &format!("timeouts: {{ request: {revision}0s }}"));
        });
        mesh.pod("storefront").metric_reaches("trama_policy_revision", &[], revision).await;
        if passes {
            hold(2);
            arrive(&arrived, 3).await;
        }
        let refused = client.share().call("GET", "/more", Payload::empty()).await.unwrap();
        assert_eq!((refused.status.as_u16(), refused.reason()), (503, "circuit_open"), "at most {most}");
    }
    go_on.send_replace(true);
    for answer in held.join_all().await {
        assert_eq!(&answer.body[..], b"done");
    }
    assert_eq!(client.share().call("GET", "/after", Payload::empty()).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_retry_budget_that_is_spent_is_not_filled_by_a_push() {
    const PUSHES: usize = 6;
    // A fresh budget holds what ten seconds give.
    const FRESH: usize = 10;
    let arrived = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&arrived);
    let failing = Application::http(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        async { Response::builder().status(503).body(Payload::empty()).unwrap() }
    });
    let budget = "kind: MeshSettings\nmetadata: { name: mesh }\nspec: { retryBudget: { percent: 0, minPerSecond: 1 } }\n";
    let route = |n: usize| {
        format!("timeouts: {{ request: {n}s }}\nretry: {{ attempts: 1, codes: [503], backoff: 0.001s }}")
    };
    let mut mesh = Mesh::builder()
        .pod("orders", |p| p.serves(ORDERS).application(&failing))
        .pod("storefront", |p| p)
        .policy(|p| {
            p.service(ORDERS, "outlier: { consecutiveFailures: 0 }");
            p.route(ORDERS, &route(100));
            p.more(budget);
        })
        .start()
        .await;
    let began = Instant::now();
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    let mut requests = 0;
    for push in 0..=PUSHES {
        if push > 0 {
            mesh.publish(|p| p.route(ORDERS, &route(100 + push)));
            mesh.pod("storefront").metric_reaches("trama_policy_revision", &[], 1.0 + push as f64).await;
        }
        for _ in 0..2 * FRESH {
            assert_eq!(client.get("/").await.status, 503);
            requests += 1;
        }
        let retries = arrived.load(Ordering::Relaxed) - requests;
        assert!(retries >= FRESH, "the budget is there and is spent: {retries}");
    }
    let (retries, seconds) = (arrived.load(Ordering::Relaxed) - requests, began.elapsed().as_secs_f64());
    let most = FRESH as f64 + seconds + 1.0;
    assert!(retries as f64 <= most, "{retries} retries in {seconds:.1} s, of {most:.1} at most");
}

#[tokio::test]
async fn what_is_known_of_an_endpoints_pace_is_known_after_a_push() {
    let arrived = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&arrived);
    let (go_on, may) = watch::channel(false);
    let slow = Application::http(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        let mut may = may.clone();
        async move {
            may.wait_for(|may| *may).await.unwrap();
            Response::new(Payload::of("slow"))
        }
    });
    let mut mesh = Mesh::builder()
        .pod("slow", |p| p.serves(ORDERS).application(&slow))
        .pod("fast", |p| p.serves(ORDERS).application(&Application::echo("fast")))
        .pod("storefront", |p| p)
        .start()
        .await;
    let client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
    let mut met = JoinSet::new();
    while arrived.load(Ordering::Relaxed) == 0 {
        let (mut client, done) = (client.share(), Arc::<AtomicUsize>::default());
        let tells = Arc::clone(&done);
        met.spawn(async move {
            let answer = client.call("GET", "/first", Payload::empty()).await.unwrap();
            tells.store(1, Ordering::Relaxed);
            answer
        });
        let told = || async {
            let told = arrived.load(Ordering::Relaxed) + done.load(Ordering::Relaxed);
            (told > 0).then_some(())
        };
        until("it is answered, or held", told).await;
    }
    // While that one is held the other is asked, or it would be taken to be as slow.
    let answer = client.share().call("GET", "/second", Payload::empty()).await.unwrap();
    assert_eq!(answer.header("x-served-by"), "fast");
    let began = Instant::now();
    let slow_enough = || async { (began.elapsed().as_millis() > 1500).then_some(()) };
    until("it was slow", slow_enough).await;
    go_on.send_replace(true);
    assert!(met.join_all().await.iter().all(|answer| answer.status == 200));
    // From now on it is as fast as the other; that it was not is what the choice goes by.
    let before = arrived.load(Ordering::Relaxed);
    for revision in [2.0, 3.0, 4.0] {
        for n in 0..20 {
            let answer = client.share().call("GET", "/", Payload::empty()).await.unwrap();
            assert_eq!(answer.status, 200);
            assert_eq!(arrived.load(Ordering::Relaxed), before, "{n} before revision {revision}");
        }
        mesh.publish(|p| p.route(ORDERS, &format!("timeouts: {{ request: {revision}0s }}")));
        mesh.pod("storefront").metric_reaches("trama_policy_revision", &[], revision).await;
    }
}
