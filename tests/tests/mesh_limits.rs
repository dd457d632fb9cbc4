//! What a service may cost its callers, and who is to blame when a connection is no more.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trama_tests::mesh::{Application, EXPLICIT, Mesh, Speaks, Where};

const ORDERS: &str = "shop/orders";

#[tokio::test]
async fn connections_to_others_are_counted_with_their_handshakes() {
    let mesh = Mesh::builder()
        .pod("orders", |p| p.serves(ORDERS).application(&Application::echo("orders")))
        .pod("storefront", |p| p)
        .start()
        .await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    assert_eq!(client.get("/").await.status.as_u16(), 200);
    let upstream = ("peer", "upstream");
    let (storefront, orders) = (mesh.pod("storefront"), mesh.pod("orders"));
    storefront.metric_reaches("trama_tls_handshakes_total", &[upstream, ("result", "ok")], 1.0).await;
    for name in ["trama_connections_opened_total", "trama_connections_active"] {
        storefront.metric_reaches(name, &[upstream, ("direction", "outbound"), ("tls", "mutual")], 1.0).await;
        orders.metric_reaches(name, &[upstream, ("direction", "inbound"), ("tls", "none")], 1.0).await;
    }
}

#[tokio::test]
async fn a_client_that_resets_its_opaque_connection_is_the_reason() {
    for meshed in [true, false] {
        let mesh = Mesh::builder()
            .pod("orders", |p| {
                let p = p.serves(ORDERS).application(&Application::tcp_echo());
                if meshed { p } else { p.plain() }
            })
            .pod("storefront", |p| p.listener("raw", "protocol: TCP, service: \"shop/orders:80\""))
            .policy(|p| p.protocol(ORDERS, "TCP"))
            .start()
            .await;
        let storefront = mesh.pod("storefront");
        let mut stream = storefront.dial(storefront.at(EXPLICIT + 1)).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        stream.read_u8().await.unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(stream);
        let entry = storefront.logged_where("the stream", |e| e["protocol"] == "tcp").await;
        assert_eq!(entry["reason"], "downstream_closed", "meshed: {meshed}: {entry}");
    }
}

#[tokio::test]
async fn a_sidecar_that_stops_is_left_although_its_kernel_goes_on() {
    let mut mesh = Mesh::builder()
        .at(Where::Processes)
        .pod("first", |p| p.serves(ORDERS).region("sao-paulo").application(&Application::echo("first")))
        .pod("second", |p| p.serves(ORDERS).region("rio").application(&Application::echo("second")))
        .pod("storefront", |p| {
            p.region("sao-paulo").config("timeouts: { keepalive: 200ms, deadPeer: 300ms, connect: 300ms }")
        })
        .policy(|p| p.order(&["sao-paulo", "rio"]))
        .start()
        .await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    assert_eq!(client.get("/").await.header("x-served-by"), "first");
    let first = i32::try_from(mesh.pod_mut("first").process().pid()).ok().and_then(Pid::from_raw).unwrap();
    kill_process(first, Signal::STOP).unwrap();
    let answer = client.get("/stopped").await;
    assert_eq!((answer.status.as_u16(), answer.header("x-served-by")), (200, "second"));
    let entry = mesh.pod("storefront").logged("/stopped").await;
    assert_eq!(entry["attempts"], 2, "{entry}");
}
