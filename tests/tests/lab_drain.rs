//! An inbound drain, asked for inside the pod as a container's hook does it: plain callers whose traffic is captured are
//! sent away as well.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::Command;

use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;
use trama_tests::frames::{ANY_STREAM, Frames, NO_ERROR, Said};
use trama_tests::mesh::{APPLICATION, Application, Mesh, PATIENCE, Payload, Where};
use trama_tests::programs;

#[tokio::test]
async fn captured_callers_are_asked_to_go_and_lose_nothing() {
    let ((go_on, may), (come, mut coming)) = (watch::channel(false), watch::channel(0));
    let application = Application::http(move |_| {
        let (mut may, come) = (may.clone(), come.clone());
        async move {
            come.send_modify(|count| *count += 1);
            may.wait_for(|may| *may).await.unwrap();
            Response::new(Payload::of("done"))
        }
    });
    let mesh = Mesh::builder()
        .at(Where::Namespaces)
        .pod("orders", |p| p.serves("shop/orders").application(&application))
        .pod("stranger", |p| p.plain());
    let mesh = mesh.start().await;
    let (orders, stranger) = (mesh.pod("orders"), mesh.pod("stranger"));
    let mut http1 = stranger.dial(orders.at(APPLICATION)).await.unwrap();
    http1.write_all(b"GET / HTTP/1.1\r\nhost: orders.shop\r\n\r\n").await.unwrap();
    let mut http2 = Frames::begin(stranger.dial(orders.at(APPLICATION)).await.unwrap()).await;
    let head = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "orders.shop")];
    http2.head(1, &head, true).await.unwrap();
    timeout(PATIENCE, coming.wait_for(|count| *count == 2)).await.unwrap().unwrap();

    let mut drain = Command::new(programs::built("trama-sidecar").unwrap());
    let asked = orders.place().run_to_end(drain.args(["drain", "--inbound"]), PATIENCE).unwrap();
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    assert_eq!(http2.hear().await, Said::GoAway(ANY_STREAM, NO_ERROR));
    assert_eq!(http2.hear().await, Said::GoAway(1, NO_ERROR));
    go_on.send(true).unwrap();
    assert_eq!(http2.hear().await, Said::Head(1, 200));
    assert_eq!(http2.hear().await, Said::End);
    let mut answer = String::new();
    timeout(PATIENCE, http1.read_to_string(&mut answer)).await.expect("the connection ends").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\ndone"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}
