//! A policy that refuses what the one before it let in: connections that are older than a denial do not outlive it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use trama_tests::mesh::{APPLICATION, Application, Mesh, MeshBuilder, PATIENCE, Pod, Speaks, Where, until};

const ORDERS: &str = "shop/orders";

fn mesh(application: &Application) -> MeshBuilder {
    Mesh::builder()
        .at(Where::Namespaces)
        .pod("orders", |p| p.serves(ORDERS).application(application))
        .pod("storefront", |p| p)
        .pod("stranger", |p| p.application(application).plain())
}

fn settings(spec: &str) -> String {
    format!("kind: MeshSettings\nmetadata: {{ name: mesh }}\nspec: {{ {spec} }}\n")
}

#[tokio::test]
async fn a_live_plain_connection_is_refused_once_its_port_is_strict() {
    let (application, seen) = Application::recording("orders");
    let mut mesh = mesh(&application).start().await;
    let at = mesh.pod("orders").at(APPLICATION);
    let mut plain = [
        mesh.pod("stranger").http_to(at, Speaks::Http1, "orders.shop").await,
        mesh.pod("stranger").http_to(at, Speaks::Http2, "orders.shop").await,
    ];
    let mut meshed = mesh.pod("storefront").http_to(mesh.service(ORDERS), Speaks::Http1, "orders.shop").await;
    let mut revision = 1.0;
    for (round, strict) in ["strictPorts: [8080]", "strict: true"].into_iter().enumerate() {
        for client in &mut plain {
            assert_eq!(client.post("/before", "an order").await.status, 200, "{strict}");
        }
        mesh.publish(|p| p.more(&settings(&format!("inbound: {{ {strict} }}"))));
        revision += 1.0;
        mesh.pod("orders").metric_reaches("trama_policy_revision", &[], revision).await;
        let path = format!("/refused/{round}");
        for client in &mut plain {
            let answer = client.post(&path, "an order").await;
            assert_eq!((answer.status.as_u16(), answer.reason()), (403, "plain_refused"), "{strict}");
        }
        assert!(seen.of(&path).is_empty(), "{strict}: the application got it");
        let refusals = || async {
            let log = mesh.pod("orders").log();
            let of = log.iter().filter(|e| e["path"] == *path && e["reason"] == "plain_refused");
            (of.count() == plain.len()).then_some(())
        };
        until("a line for each refusal", refusals).await;
        assert_eq!(meshed.post("/meshed", "an order").await.status, 200, "{strict}: mutual TLS is welcome");
        // And back: what the policy of the moment says, holds.
        mesh.publish(|p| p.more(""));
        revision += 1.0;
        mesh.pod("orders").metric_reaches("trama_policy_revision", &[], revision).await;
    }
    for client in &mut plain {
        assert_eq!(client.post("/after", "an order").await.status, 200);
    }
}

/// One byte there and back.
async fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"x").await.unwrap();
    assert_eq!(timeout(PATIENCE, stream.read_u8()).await.expect("an echo").unwrap(), b'x');
}

async fn ends(stream: &mut TcpStream) {
    timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("it is closed").ok();
}

async fn refused(pod: &Pod, reason: &str) {
    let entry = pod.logged_where(reason, |e| e["reason"] == reason).await;
    assert_eq!((&entry["protocol"], &entry["bytes_received"]), (&"tcp".into(), &1.into()), "{entry}");
}

#[tokio::test]
async fn a_live_opaque_connection_ends_when_policy_refuses_its_like() {
    let mut mesh = mesh(&Application::tcp_echo()).policy(|p| p.protocol(ORDERS, "TCP")).start().await;
    let (orders, stranger) = (mesh.pod("orders").at(APPLICATION), mesh.pod("stranger").at(APPLICATION));
    let mut plain = mesh.pod("stranger").dial(orders).await.unwrap();
    let mut meshed = mesh.pod("storefront").dial(orders).await.unwrap();
    let mut external = mesh.pod("storefront").dial(stranger).await.unwrap();
    for stream in [&mut plain, &mut meshed, &mut external] {
        echoes(stream).await;
    }
    mesh.publish(|p| p.more(&settings("inbound: { strictPorts: [8080] }, unknownDestination: REFUSE")));
    ends(&mut plain).await;
    refused(mesh.pod("orders"), "plain_refused").await;
    ends(&mut external).await;
    refused(mesh.pod("storefront"), "destination_refused").await;
    echoes(&mut meshed).await;

    // The filters of the application's service.
    let chain = "kind: PluginChain\nmetadata: { name: inbound, namespace: shop }\n\
                 spec: { service: orders, direction: INBOUND, filters: [{ sources: { allow: [192.0.2.0/24] } }] }\n";
    mesh.publish(|p| p.more(chain));
    ends(&mut meshed).await;
    let entry = mesh.pod("orders").logged_where("the denial", |e| e["reason"] == "denied").await;
    assert_eq!((&entry["protocol"], &entry["bytes_received"]), (&"tcp".into(), &2.into()), "{entry}");
}
