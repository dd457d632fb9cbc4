//! The whole way over IPv6 alone: captured, to a service's address, to an endpoint's own, and to neither.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::Value;
use trama_tests::mesh::{APPLICATION, Application, Mesh, MeshBuilder, Speaks, Where};

const ORDERS: &str = "shop/orders";

fn pair(application: &Application) -> MeshBuilder {
    Mesh::builder()
        .at(Where::Namespaces)
        .ipv6(true)
        .pod("orders", |p| p.serves(ORDERS).application(application))
        .pod("storefront", |p| p)
}

fn is_v6(entry: &Value, field: &str) -> bool {
    entry[field].as_str().is_some_and(|address| address.starts_with("[fd91::"))
}

#[tokio::test]
async fn a_services_address_is_captured_and_balanced() {
    let mesh = pair(&Application::echo("orders"))
        .pod("second", |p| p.serves(ORDERS).application(&Application::echo("second")))
        .start()
        .await;
    let service = mesh.service(ORDERS);
    assert!(service.is_ipv6());
    let mut served = std::collections::BTreeSet::new();
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut client = mesh.pod("storefront").http_to(service, speaks, "orders.shop").await;
        for n in 0..20 {
            let answer = client.post(&format!("/{speaks:?}{n}"), vec![7; 100_000]).await;
            assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 100_000), "{}", answer.reason());
            served.insert(answer.header("x-served-by").to_owned());
        }
        let path = format!("/{speaks:?}0");
        let entry = mesh.pod("storefront").logged(&path).await;
        assert_eq!((&entry["tls"], &entry["service"]), (&"mutual".into(), &ORDERS.into()), "{entry}");
        assert!(is_v6(&entry, "upstream") && is_v6(&entry, "downstream"), "{entry}");
    }
    assert_eq!(served.len(), 2, "both endpoints: {served:?}");
}

#[tokio::test]
async fn an_endpoints_own_address_and_a_plain_caller_reach_the_application() {
    let (orders, seen) = Application::recording("orders");
    let mesh = pair(&orders).pod("stranger", |p| p.plain()).start().await;
    let own = mesh.pod("orders").at(APPLICATION);
    assert!(own.is_ipv6());
    for (caller, tls) in [("storefront", "mutual"), ("stranger", "none")] {
        let mut client = mesh.pod(caller).http_to(own, Speaks::Http1, "orders.shop").await;
        let path = format!("/{caller}");
        let answer = client.get(&path).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-served-by")), (200, "orders"), "{caller}");
        let entry = mesh.pod("orders").logged(&path).await;
        assert_eq!((&entry["direction"], &entry["tls"]), (&"inbound".into(), &tls.into()), "{entry}");
        assert_eq!(entry["service"], ORDERS, "{entry}");
        assert!(is_v6(&entry, "upstream") && is_v6(&entry, "downstream"), "{entry}");
    }
    assert_eq!(seen.all().len(), 2);
}

#[tokio::test]
async fn what_policy_does_not_know_passes_unchanged() {
    let mesh = pair(&Application::echo("orders"))
        .pod("stranger", |p| p.application(&Application::echo("stranger")).plain())
        .start()
        .await;
    let at = mesh.pod("stranger").at(APPLICATION);
    let mut client = mesh.pod("storefront").http_to(at, Speaks::Http2, "stranger").await;
    assert_eq!(client.get("/").await.header("x-served-by"), "stranger");
    drop(client);
    let entry = mesh.pod("storefront").logged_where("the stranger", |e| e["service"] == "external").await;
    assert_eq!((&entry["protocol"], &entry["tls"]), (&"tcp".into(), &"none".into()), "{entry}");
    assert!(is_v6(&entry, "upstream"), "{entry}");
}
