//! The filters of a service and of a rule, on a request's or connection's whole way through the mesh.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::Response;
use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;
use trama_tests::mesh::{Application, EXPLICIT, Mesh, MeshBuilder, PATIENCE, Payload, Pod, Speaks, until};

const FILTERS: &str = "
filters:
  - urlRewrite: { path: { replacePrefixMatch: /v2 } }
  - requestHeaderModifier:
      set: [{ name: x-set, value: policy }]
      add: [{ name: x-added, value: policy }]
      remove: [x-removed]
  - responseHeaderModifier:
      set: [{ name: x-order, value: first }, { name: x-served-by, value: policy }]
  - responseHeaderModifier:
      add: [{ name: x-order, value: second }]
";

#[tokio::test]
async fn a_rules_filters_change_headers_both_ways() {
    for (speaks, meshed) in
        [(Speaks::Http1, true), (Speaks::Http2, true), (Speaks::Http1, false), (Speaks::Http2, false)]
    {
        let name = format!("{speaks:?}, meshed: {meshed}");
        let (application, seen) = Application::recording("orders");
        let mesh = Mesh::builder()
            .pod("orders", |p| {
                let p = p.serves("shop/orders").application(&application);
                if meshed { p } else { p.plain() }
            })
            .pod("storefront", |p| p)
            .policy(|p| p.route("shop/orders", FILTERS))
            .start()
            .await;
        let mut client = mesh.pod("storefront").http(speaks, "orders.shop").await;
        for _ in 0..2 {
            let request = client.request("POST", "/orders").header("x-set", "client");
            let request = request.header("x-added", "client").header("x-removed", "client");
            let answer = client.call(request.body(Payload::of("the body")).unwrap()).await.unwrap();
            assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"the body"[..]), "{name}");
            assert_eq!(answer.header("x-served-by"), "policy", "{name}");
            // The answer goes back through the filters: the last one comes first, and the first one sets over it.
            let order: Vec<_> = answer.headers.get_all("x-order").iter().collect();
            assert_eq!(order, ["first"], "{name}");
        }
        let all = seen.of("/v2/orders");
        assert_eq!(all.len(), 2, "{name}: {:?}", seen.all());
        for seen in all {
            assert_eq!(seen.values("x-set"), ["policy"], "{name}");
            assert_eq!(seen.values("x-added"), ["client", "policy"], "{name}");
            assert!(seen.values("x-removed").is_empty(), "{name}");
            assert_eq!(seen.values("content-length"), ["8"], "{name}");
        }
    }
}

/// A chain of `shop/orders`.
fn chain(direction: &str, filters: &str) -> String {
    let name = direction.to_lowercase();
    format!(
        "kind: PluginChain\nmetadata: {{ name: {name}, namespace: shop }}\n\
         spec: {{ service: orders, direction: {direction}, filters: [{filters}] }}\n"
    )
}

/// Filters that leave their name on requests and answers.
fn names(name: &str) -> String {
    ["requestHeaderModifier", "responseHeaderModifier"]
        .map(|filter| format!("{{ {filter}: {{ add: [{{ name: x-way, value: {name} }}] }} }}"))
        .join(", ")
}

const NOBODY: &str = "{ sources: { allow: [192.0.2.0/24] } }";
const ALL_BUT_NOBODY: &str = "{ sources: { deny: [192.0.2.0/24] } }";

fn orders(application: &Application) -> MeshBuilder {
    Mesh::builder()
        .pod("orders", |p| p.serves("shop/orders").application(application))
        .pod("storefront", |p| p)
}

#[tokio::test]
async fn a_request_passes_the_services_chain_then_the_rules_then_the_inbound_one() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let (application, seen) = Application::recording("orders");
        // What the outbound chain has set decides about the rule.
        let rule = format!(
            "matches: [{{ headers: [{{ name: x-way, value: outbound }}] }}]\nfilters: [{}]",
            names("rule")
        );
        let chains = [chain("OUTBOUND", &names("outbound")), chain("INBOUND", &names("inbound"))];
        let mesh = orders(&application).policy(|p| {
            p.route("shop/orders", &rule);
            p.more(&chains.join("---\n"));
        });
        let mesh = mesh.start().await;
        let mut client = mesh.pod("storefront").http(speaks, "orders.shop").await;
        for _ in 0..2 {
            let answer = client.post("/orders", "the body").await;
            assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"the body"[..]), "{speaks:?}");
            let back: Vec<_> = answer.headers.get_all("x-way").iter().collect();
            assert_eq!(back, ["inbound", "rule", "outbound"], "{speaks:?}");
        }
        for seen in seen.of("/orders") {
            assert_eq!(seen.values("x-way"), ["outbound", "rule", "inbound"], "{speaks:?}");
        }
    }
}

#[tokio::test]
async fn a_source_that_may_not_connect_gets_403_and_others_pass() {
    for (direction, by) in [("INBOUND", "orders"), ("OUTBOUND", "storefront")] {
        for speaks in [Speaks::Http1, Speaks::Http2] {
            let name = format!("{direction}, {speaks:?}");
            let (application, seen) = Application::recording("orders");
            let mut mesh =
                orders(&application).policy(|p| p.more(&chain(direction, ALL_BUT_NOBODY))).start().await;
            let mut client = mesh.pod("storefront").http(speaks, "orders.shop").await;
            assert_eq!(client.get("/before").await.status, 200, "{name}");
            // A connection that was let through is asked anew by the new chain.
            mesh.publish(|p| p.more(&chain(direction, NOBODY)));
            until("the chain that denies", || async {
                let mut other = mesh.pod("storefront").http(speaks, "orders.shop").await;
                (other.get("/meanwhile").await.status == 403).then_some(())
            })
            .await;
            let answer = client.post("/denied", "the body").await;
            assert_eq!((answer.status.as_u16(), answer.reason()), (403, "denied"), "{name}");
            assert!(seen.of("/denied").is_empty(), "{name}");
            let entry = mesh.pod(by).logged("/denied").await;
            assert_eq!(
                (&entry["reason"], &entry["service"]),
                (&"denied".into(), &"shop/orders".into()),
                "{entry}"
            );
            mesh.pod(by).metric_reaches("trama_requests_total", &[("reason", "denied")], 1.0).await;
            // Who called says so too, whoever has denied it.
            let entry = mesh.pod("storefront").logged("/denied").await;
            assert_eq!((&entry["status"], &entry["reason"]), (&403.into(), &"denied".into()), "{entry}");
        }
    }
}

/// Speaks first, and counts who came.
fn counting() -> (Application, Arc<AtomicU32>) {
    let came = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&came);
    let application = Application::raw(move |mut stream| {
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"hello").await.ok();
        }
    });
    (application, came)
}

async fn read_all(pod: &Pod) -> Vec<u8> {
    let mut stream = pod.dial(pod.at(EXPLICIT + 1)).await.unwrap();
    let mut read = Vec::new();
    // A reset is an end too.
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read)).await.expect("it is closed").ok();
    read
}

#[tokio::test]
async fn an_opaque_connection_that_is_denied_is_closed_before_the_application_is_dialled() {
    // Told to be TCP, or found out by the server that speaks first.
    for (direction, by, protocol) in
        [("INBOUND", "orders", "TCP"), ("OUTBOUND", "storefront", "TCP"), ("OUTBOUND", "storefront", "AUTO")]
    {
        let name = format!("{direction}, {protocol}");
        for (filters, heard, connections) in [(NOBODY, &b""[..], 0), (ALL_BUT_NOBODY, b"hello", 1)] {
            let (application, came) = counting();
            let listener = format!("protocol: {protocol}, service: \"shop/orders:80\"");
            let mesh = Mesh::builder()
                .pod("orders", |p| p.serves("shop/orders").application(&application))
                .pod("storefront", |p| p.listener("orders", &listener))
                .policy(|p| {
                    p.protocol("shop/orders", protocol);
                    p.more(&chain(direction, filters));
                })
                .start()
                .await;
            assert_eq!(read_all(mesh.pod("storefront")).await, heard, "{name}");
            let entry = mesh.pod(by).logged_where("the stream", |e| e["protocol"] == "tcp").await;
            assert_eq!(entry["service"], "shop/orders", "{entry}");
            let reason = entry.get("reason").cloned().unwrap_or_default();
            assert_eq!(reason == "denied", connections == 0, "{name}: {entry}");
            assert_eq!(came.load(Ordering::Relaxed), connections, "{name}");
        }
    }
}

#[tokio::test]
async fn a_new_chain_is_for_new_requests_and_one_under_way_keeps_its_own() {
    let (gate, waiting) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
    let (opened, came) = (Arc::clone(&gate), Arc::clone(&waiting));
    let application = Application::http(move |request| {
        let (opened, came) = (Arc::clone(&opened), Arc::clone(&came));
        async move {
            if request.uri().path() == "/slow" {
                came.fetch_add(1, Ordering::Relaxed);
                drop(opened.acquire().await);
            }
            Response::new(Payload::of("served"))
        }
    });
    let mut mesh = orders(&application).policy(|p| p.more(&chain("INBOUND", &names("old")))).start().await;
    let mut slow = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
    let slow = tokio::spawn(async move { slow.get("/slow").await });
    until("the slow request", || async { (waiting.load(Ordering::Relaxed) == 1).then_some(()) }).await;
    mesh.publish(|p| p.more(&chain("INBOUND", &names("new"))));
    let mut client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
    let deadline = std::time::Instant::now() + PATIENCE;
    while client.get("/quick").await.header("x-way") != "new" {
        assert!(std::time::Instant::now() < deadline, "the new chain is never in force");
    }
    gate.add_permits(1);
    assert_eq!(slow.await.unwrap().header("x-way"), "old");
}
