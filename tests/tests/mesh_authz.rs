//! Who may call what: decided where the application is, for every way in which a call comes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use trama_tests::mesh::{Application, EXPLICIT, Mesh, MeshBuilder, PATIENCE, Payload, Speaks};

const ORDERS: &str = "shop/orders";

/// A policy of the namespace's services, `orders` alone of them.
fn policy(name: &str, spec: &str) -> String {
    format!(
        "kind: AuthzPolicy\nmetadata: {{ name: {name}, namespace: shop }}\nspec: {{ service: orders, {spec} }}\n"
    )
}

fn mesh(application: &Application) -> MeshBuilder {
    Mesh::builder()
        .pod("orders", |p| p.serves(ORDERS).application(application))
        .pod("storefront", |p| p)
        .pod("stock", |p| p)
}

/// The identity of a pod, which the harness gives it.
fn identity(mesh: &Mesh, pod: &str) -> String {
    mesh.pod(pod).identity().to_string()
}

async fn revision(mesh: &Mesh, pod: &str, number: f64) {
    mesh.pod(pod).metric_reaches("trama_policy_revision", &[], number).await;
}

#[tokio::test]
async fn a_caller_is_judged_by_identity_method_and_path_over_both_versions() {
    let (application, seen) = Application::recording("orders");
    let mut mesh = mesh(&application).start().await;
    let storefront = identity(&mesh, "storefront");
    let allow = format!(
        "action: ALLOW, rules: [{{ identities: ['{storefront}'], methods: [GET, POST], paths: [/orders/*] }}]"
    );
    let deny = "action: DENY, rules: [{ methods: [POST], paths: [/orders/closed] }]";
    mesh.publish(|p| p.more(&[policy("allow", &allow), policy("deny", deny)].join("---\n")));
    revision(&mesh, "orders", 2.0).await;
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let prices = format!("/prices/{speaks:?}");
        for (pod, method, path, status) in [
            ("storefront", "GET", "/orders/1", 200),
            ("storefront", "POST", "/orders/open", 200),
            ("storefront", "POST", "/orders/closed", 403),
            ("storefront", "POST", "/orders/%63losed", 403),
            ("storefront", "POST", "/orders/x/..%2Fclosed", 403),
            ("storefront", "DELETE", "/orders/1", 403),
            ("storefront", "GET", &prices, 403),
            ("storefront", "GET", "/orders/../prices", 403),
            ("stock", "GET", "/orders/1", 403),
        ] {
            let name = format!("{pod} {method} {path} {speaks:?}");
            let mut client = mesh.pod(pod).http(speaks, "orders.shop").await;
            let request = client.request(method, path).body(Payload::empty()).unwrap();
            let answer = client.call(request).await.unwrap();
            assert_eq!(answer.status, status, "{name}");
            assert_eq!(answer.reason(), if status == 403 { "authz_denied" } else { "" }, "{name}");
            assert!(!client.is_closed(), "{name}: the connection is gone");
        }
    }
    let reached = seen.all();
    assert_eq!(reached.len(), 4, "the application saw more than was allowed: {reached:?}");
    let entry = mesh.pod("orders").logged("/prices/Http1").await;
    assert_eq!(entry["reason"], "authz_denied", "{entry}");
    assert_eq!(entry["detail"], "not_allowed by AuthzPolicy shop/allow", "{entry}");
    assert_eq!(entry["peer_identity"], storefront, "{entry}");
    let denied = [("policy", "shop/deny"), ("kind", "denied"), ("result", "denied")];
    mesh.pod("orders").metric_reaches("trama_authz_refusals_total", &denied, 6.0).await;
}

#[tokio::test]
async fn audit_refuses_nothing_and_tells_what_it_would() {
    let mut mesh = mesh(&Application::echo("orders")).start().await;
    let audit = "action: DENY, enforcement: AUDIT, rules: [{ methods: [DELETE] }]";
    mesh.publish(|p| p.more(&policy("no-deletes", audit)));
    revision(&mesh, "orders", 2.0).await;
    let mut client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
    assert_eq!(client.get("/kept").await.status, 200);
    let request = client.request("DELETE", "/gone").body(Payload::empty()).unwrap();
    assert_eq!(client.call(request).await.unwrap().status, 200);
    let orders = mesh.pod("orders");
    let entry = orders.logged("/gone").await;
    assert_eq!((&entry["would_deny"], &entry["status"]), (&"shop/no-deletes".into(), &200.into()), "{entry}");
    assert!(orders.logged("/kept").await.get("would_deny").is_none());
    let labels = [("policy", "shop/no-deletes"), ("kind", "denied"), ("result", "would_deny")];
    orders.metric_reaches("trama_authz_refusals_total", &labels, 1.0).await;
}

#[tokio::test]
async fn a_live_connection_of_a_caller_that_is_denied_since_gets_no_further() {
    let mut mesh = mesh(&Application::echo("orders")).start().await;
    let mut client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
    assert_eq!(client.get("/before").await.status, 200);
    let deny = format!("action: DENY, rules: [{{ identities: ['{}'] }}]", identity(&mesh, "storefront"));
    mesh.publish(|p| p.more(&policy("deny", &deny)));
    revision(&mesh, "orders", 2.0).await;
    let answer = client.post("/after", "an order").await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (403, "authz_denied"));
    mesh.publish(|p| p.more(""));
    revision(&mesh, "orders", 3.0).await;
    assert_eq!(client.get("/again").await.status, 200);
}

#[tokio::test]
async fn an_opaque_connection_of_a_caller_that_is_denied_is_closed_also_when_it_was_there_before() {
    let mut mesh = Mesh::builder()
        .pod("orders", |p| p.serves(ORDERS).application(&Application::tcp_echo()))
        .pod("storefront", |p| p.listener("orders", "protocol: TCP, service: \"shop/orders:80\""))
        .policy(|p| p.protocol(ORDERS, "TCP"))
        .start()
        .await;
    let storefront = mesh.pod("storefront");
    let mut stream = storefront.dial(storefront.at(EXPLICIT + 1)).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(timeout(PATIENCE, stream.read_u8()).await.expect("an echo").unwrap(), b'x');
    let deny = format!("action: DENY, rules: [{{ identities: ['{}'] }}]", identity(&mesh, "storefront"));
    mesh.publish(|p| p.more(&policy("deny", &deny)));
    timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("it is closed").ok();
    let entry = mesh.pod("orders").logged_where("the denial", |e| e["reason"] == "authz_denied").await;
    assert_eq!((&entry["protocol"], &entry["bytes_received"]), (&"tcp".into(), &1.into()), "{entry}");
    let storefront = mesh.pod("storefront");
    let mut stream = storefront.dial(storefront.at(EXPLICIT + 1)).await.unwrap();
    stream.write_all(b"x").await.ok();
    let mut read = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut read)).await.expect("it is closed").ok();
    assert_eq!(read, b"", "a new one gets no further");
}
