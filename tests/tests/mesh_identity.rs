//! Certificates and identities that change or end while connections live: what is open stays as long as it is what policy
//! wants, and nothing new comes about without a certificate that is good now.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use trama_tests::authority::Issued;
use trama_tests::mesh::{Application, EXPLICIT, Mesh, PATIENCE, Payload, Pod, Record, Speaks, until};

const ORDERS: &str = "shop/orders";
const CALLER: &str = "x-forwarded-client-cert";
const HANDSHAKES: &str = "trama_tls_handshakes_total";
const TO_SIDECARS: [(&str, &str); 3] = [("direction", "outbound"), ("peer", "upstream"), ("tls", "mutual")];

async fn pair() -> (Mesh, Record) {
    let (application, seen) = Application::recording("orders");
    let builder = Mesh::builder()
        .pod("orders", |p| p.serves(ORDERS).application(&application))
        .pod("storefront", |p| p.listener("raw", "protocol: TCP, service: \"shop/orders:80\""))
        .policy(|p| p.route(ORDERS, "retry: { attempts: 0 }"));
    (builder.start().await, seen)
}

/// Gives a pod a certificate, and waits until its sidecar uses it.
async fn give(mesh: &Mesh, name: &str, issued: &Issued) {
    let taken = [("kind", "identity"), ("result", "accepted")];
    let before = mesh.pod(name).metric("trama_certificate_updates_total", &taken).await;
    mesh.give(name, issued);
    mesh.pod(name).metric_reaches("trama_certificate_updates_total", &taken, before + 1.0).await;
}

/// Whether a new connection between the sidecars comes about: an opaque one has one of its own.
async fn connects(pod: &Pod) -> bool {
    let mut stream = pod.dial(pod.at(EXPLICIT + 1)).await.unwrap();
    stream.write_all(b"GET /raw HTTP/1.1\r\nhost: orders.shop\r\nconnection: close\r\n\r\n").await.ok();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed").ok();
    answer.starts_with(b"HTTP/1.1 200")
}

#[tokio::test]
async fn a_certificate_that_ends_lets_live_connections_stay_and_no_new_ones_begin() {
    /// Long enough for a busy machine to connect in.
    const TIME: Duration = Duration::from_secs(8);
    let (mesh, seen) = pair().await;
    let (storefront, orders) = (mesh.pod("storefront"), mesh.pod("orders"));
    for name in ["storefront", "orders"] {
        give(&mesh, name, &mesh.authority().issue_for(mesh.pod(name).identity(), TIME).unwrap()).await;
    }
    let over = SystemTime::now() + TIME;
    let mut client = storefront.http(Speaks::Http1, "orders.shop").await;
    assert_eq!(client.get("/before").await.status, 200);
    assert!(connects(storefront).await, "the certificates are still good");
    let opened = storefront.metric("trama_connections_opened_total", &TO_SIDECARS).await;
    until("the certificates' end", || async { (SystemTime::now() > over).then_some(()) }).await;

    // Over the connection that is there, and no other.
    for _ in 0..10 {
        assert_eq!(client.post("/after", "an order").await.status, 200);
    }
    assert_eq!(storefront.metric("trama_connections_opened_total", &TO_SIDECARS).await, opened);
    assert_eq!(seen.of("/after").len(), 10);

    // The caller refuses the called one's certificate, and the called one the caller's.
    let failed = |peer| [("peer", peer), ("result", "failed"), ("reason", "expired")];
    assert!(!connects(storefront).await, "a certificate whose time is over was taken");
    storefront.metric_reaches(HANDSHAKES, &failed("upstream"), 1.0).await;
    let entry = storefront.logged_where("the refusal", |e| e["reason"] == "tls_failed").await;
    assert_eq!(entry["protocol"], "tcp", "{entry}");
    assert_eq!(entry.get("peer_identity"), None, "nobody has proved one: {entry}");
    give(&mesh, "orders", &mesh.authority().issue(orders.identity()).unwrap()).await;
    assert!(!connects(storefront).await, "a caller whose certificate's time is over was served");
    orders.metric_reaches(HANDSHAKES, &failed("downstream"), 1.0).await;

    give(&mesh, "storefront", &mesh.authority().issue(storefront.identity()).unwrap()).await;
    assert!(connects(storefront).await, "both certificates are good again");
}

#[tokio::test]
async fn the_application_is_told_who_calls_whatever_the_caller_says() {
    let (mesh, seen) = pair().await;
    let told = format!("By={};URI={}", mesh.pod("orders").identity(), mesh.pod("storefront").identity());
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut client = mesh.pod("storefront").http(speaks, "orders.shop").await;
        let path = format!("/{speaks:?}");
        assert_eq!(client.get(&path).await.status, 200);
        for forged in ["URI=spiffe://mesh.test/ns/shop/sa/admin", ""] {
            let request = client.request("GET", &path).header(CALLER, forged).header(CALLER, forged);
            assert_eq!(client.call(request.body(Payload::empty()).unwrap()).await.unwrap().status, 200);
        }
        let arrived = seen.of(&path);
        assert_eq!(arrived.len(), 3);
        for arrived in arrived {
            assert_eq!(arrived.values(CALLER), [&told], "{speaks:?}");
        }
    }
}

#[tokio::test]
async fn a_pooled_connection_is_not_used_for_another_identity() {
    const PAYMENTS: &str = "spiffe://mesh.test/ns/shop/sa/payments";
    let (mut mesh, seen) = pair().await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    assert_eq!(client.get("/before").await.status, 200);
    // The same address, and by policy somebody else: who is connected there is not whom the request is for.
    mesh.publish(|p| p.identity(ORDERS, PAYMENTS));
    mesh.pod("storefront").metric_reaches("trama_policy_revision", &[], 2.0).await;
    let answer = client.post("/secret", "for payments alone").await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, "identity_mismatch"));
    assert!(seen.of("/secret").is_empty(), "it was sent over the old connection");
    let entry = mesh.pod("storefront").logged_where("the refusal", |e| e["path"] == "/secret").await;
    assert_eq!(entry["reason"], "identity_mismatch", "{entry}");
    let detail = entry["detail"].as_str().unwrap();
    let told = format!("the peer is {}; policy names {PAYMENTS}", mesh.pod("orders").identity());
    assert!(detail.ends_with(&told), "{detail}");
    assert_eq!(entry.get("peer_identity"), None, "nobody has proved one: {entry}");

    // It is whom policy names once it can prove that.
    give(&mesh, "orders", &mesh.authority().issue(PAYMENTS).unwrap()).await;
    assert_eq!(client.post("/secret", "for payments alone").await.status, 200);
    let entry =
        mesh.pod("storefront").logged_where("the answer", |e| e["path"] == "/secret" && e["status"] == 200);
    assert_eq!(entry.await["peer_identity"], PAYMENTS);

    // Back again: the connections that are open are no longer those of whom policy names.
    mesh.publish(|p| p.identity(ORDERS, "spiffe://mesh.test/ns/shop/sa/orders"));
    mesh.pod("storefront").metric_reaches("trama_policy_revision", &[], 3.0).await;
    let answer = client.post("/back", "for orders alone").await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, "identity_mismatch"));
    assert!(seen.of("/back").is_empty());
}
