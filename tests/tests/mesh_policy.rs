//! Policy and identities change while traffic flows, and no request notices.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use http::Response;
use tokio::task::JoinHandle;
use trama_tests::mesh::{Application, Mesh, MeshBuilder, Payload, Pod, Speaks, until};

const ORDERS: &str = "shop/orders";

/// Requests one after the other until it is told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU32>,
    task: JoinHandle<Vec<String>>,
}

impl Load {
    async fn on(pod: &Pod, speaks: Speaks) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let mut client = pod.http(speaks, "orders.shop").await;
        let (until, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let task = tokio::spawn(async move {
            let mut wrong = Vec::new();
            while !until.load(Ordering::Relaxed) {
                let request = client.request("POST", "/load").body(Payload::of("x")).unwrap();
                match client.call(request).await {
                    Ok(answer) if answer.status.is_success() => {}
                    Ok(answer) => wrong.push(format!("{} {}", answer.status, answer.reason())),
                    Err(error) => wrong.push(error.to_string()),
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
            wrong
        });
        Self { stop, sent, task }
    }

    /// So many more requests have passed.
    async fn passes(&self, more: u32) {
        let goal = self.sent.load(Ordering::Relaxed) + more;
        until("requests", || async { (self.sent.load(Ordering::Relaxed) >= goal).then_some(()) }).await;
    }

    async fn ends_well(self) {
        self.stop.store(true, Ordering::Relaxed);
        let wrong = self.task.await.unwrap();
        assert!(wrong.is_empty(), "{} requests failed: {wrong:?}", wrong.len());
    }
}

fn two_services() -> MeshBuilder {
    Mesh::builder()
        .pod("orders", |p| p.serves(ORDERS).application(&Application::echo("orders")))
        .pod("other", |p| p.serves("shop/other").application(&Application::echo("other")))
        .pod("storefront", |p| p)
}

#[tokio::test]
async fn a_new_route_is_in_force_and_no_request_fails() {
    let mut mesh = two_services().start().await;
    let loads = [
        Load::on(mesh.pod("storefront"), Speaks::Http1).await,
        Load::on(mesh.pod("storefront"), Speaks::Http2).await,
    ];
    let mut client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
    assert_eq!(client.get("/before").await.header("x-served-by"), "orders");
    for to in ["other", "orders", "other"] {
        for load in &loads {
            load.passes(20).await;
        }
        mesh.publish(|p| p.route(ORDERS, &format!("backendRefs: [{{ service: {to}, port: 80 }}]")));
        let mut served = async || client.get("/during").await.header("x-served-by") == to;
        let deadline = std::time::Instant::now() + trama_tests::mesh::PATIENCE;
        while !served().await {
            assert!(std::time::Instant::now() < deadline, "the new route is never in force");
        }
    }
    for load in loads {
        load.passes(20).await;
        load.ends_well().await;
    }
    client.get("/after").await;
    let pod = mesh.pod("storefront");
    let revision = |entry: &serde_json::Value| entry["policy_revision"].as_str().unwrap().to_owned();
    assert!(revision(&pod.logged("/before").await).starts_with("1-"));
    assert!(revision(&pod.logged("/after").await).starts_with("4-"));
    assert_eq!(pod.metric("trama_policy_revision", &[]).await, 4.0);
    assert_eq!(pod.metric("trama_policy_updates_total", &[("result", "accepted")]).await, 4.0);
}

#[tokio::test]
async fn a_wrong_policy_is_refused_and_the_old_one_stays() {
    let mut mesh = two_services().start().await;
    let load = Load::on(mesh.pod("storefront"), Speaks::Http2).await;
    let refused = [("result", "refused")];
    let service =
        "kind: Service\nmetadata: { name: orders, namespace: shop }\nspec: { ports: [{ port: 80 }] }\n";
    let route = |name: &str, to: &str| {
        format!(
            "---\nkind: Route\nmetadata: {{ name: {name}, namespace: shop }}\nspec:\n  parentRefs: [{{ service: orders }}]\n  \
             rules: [{{ matches: [{{ path: {{ value: /v1 }} }}], backendRefs: [{{ service: {to}, port: 80 }}] }}]\n"
        )
    };
    let wrong = [
        ("an unknown field", "kind: Service\nmetadata: { name: a }\nspec: { prots: [] }\n".to_owned()),
        ("no YAML", "{ not yaml".to_owned()),
        ("a wrong type", service.replace("port: 80", "port: eighty")),
        ("a reference to nobody", service.to_owned() + &route("a", "nobody")),
        ("equal routes", service.to_owned() + &route("a", "orders") + &route("b", "orders")),
    ];
    let (mut count, pod) = (0.0, mesh.pod("storefront"));
    for (what, text) in &wrong {
        mesh.publish_text(text);
        count += 1.0;
        pod.metric_reaches("trama_policy_updates_total", &refused, count).await;
        load.passes(20).await;
        assert_eq!(pod.metric("trama_policy_revision", &[]).await, 1.0, "{what}");
        assert_eq!(pod.metric("trama_policy_updates_total", &refused).await, count, "{what}");
    }
    load.ends_well().await;
    // Without what was wrong with each, they would have been a policy. And the next good ones are taken.
    mesh.publish_text(&(service.to_owned() + &route("a", "orders")));
    mesh.pod("storefront").metric_reaches("trama_policy_revision", &[], 2.0).await;
    mesh.publish(|p| p.route(ORDERS, "backendRefs: [{ service: other, port: 80 }]"));
    mesh.pod("storefront").metric_reaches("trama_policy_revision", &[], 3.0).await;
    let mut client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
    assert_eq!(client.get("/").await.header("x-served-by"), "other");
}

#[tokio::test]
async fn connections_and_ejections_outlive_a_new_policy() {
    let hits = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&hits);
    let bad = Application::http(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        async { Response::builder().status(503).body(Payload::empty()).unwrap() }
    });
    let mut mesh = Mesh::builder()
        .pod("bad", |p| p.serves(ORDERS).region("sao-paulo").application(&bad))
        .pod("good", |p| p.serves(ORDERS).region("rio").application(&Application::echo("good")))
        .pod("storefront", |p| p.region("sao-paulo"))
        .policy(|p| {
            p.order(&["sao-paulo", "rio"]);
            p.service(ORDERS, "outlier: { consecutiveFailures: 2, baseEjection: 300s }");
            p.route(ORDERS, "retry: { attempts: 0 }");
        })
        .start()
        .await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    for _ in 0..20 {
        client.get("/").await;
    }
    assert_eq!(hits.load(Ordering::Relaxed), 2, "ejected");
    // A connection to each has been opened by now, and is kept.
    let mesh_connections = [("direction", "inbound"), ("peer", "downstream"), ("tls", "mutual")];
    let opened = "trama_connections_opened_total";
    let before = mesh.pod("good").metric(opened, &mesh_connections).await;
    assert!(before >= 1.0, "{before}");
    mesh.publish(|p| p.route(ORDERS, "timeouts: { request: 60s }\nretry: { attempts: 0 }"));
    mesh.pod("storefront").metric_reaches("trama_policy_revision", &[], 2.0).await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.header("x-served-by"), "good");
    }
    assert_eq!(hits.load(Ordering::Relaxed), 2, "the ejection was forgotten");
    let after = mesh.pod("good").metric(opened, &mesh_connections).await;
    assert!((after - before).abs() < 0.5, "a new connection: {before}, then {after}");
}

#[tokio::test]
async fn a_new_certificate_is_used_and_no_request_fails() {
    let mesh = two_services().start().await;
    let loads = [
        Load::on(mesh.pod("storefront"), Speaks::Http1).await,
        Load::on(mesh.pod("storefront"), Speaks::Http2).await,
    ];
    let handshakes = [("peer", "downstream"), ("result", "ok")];
    for name in ["orders", "storefront", "orders", "storefront"] {
        let name_of = "trama_tls_handshakes_total";
        let before = mesh.pod("orders").metric(name_of, &handshakes).await;
        mesh.renew(name);
        if name == "storefront" {
            // The caller's connections are keyed by its certificate: a new one makes a new handshake.
            mesh.pod("orders").metric_reaches(name_of, &handshakes, before + 1.0).await;
        }
        for load in &loads {
            load.passes(200).await;
        }
    }
    for load in loads {
        load.ends_well().await;
    }
}
