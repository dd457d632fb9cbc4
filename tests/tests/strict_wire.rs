//! What smugglers send, over a real socket to a whole sidecar: each is refused by the name of the rule that it breaks,
//! its connection is closed, it is counted, and nothing of it reaches the application.
//!
//! The guard's own tests know every rule in every split (`sidecar/src/http/guard/tests`); here is what only the whole
//! way can show.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use http::Response;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use trama_tests::authority::Authority;
use trama_tests::mesh::{Application, EXPLICIT, Mesh, PATIENCE, Payload, Pod, Record};
use trama_tests::smuggling::{
    LIMITS, are_refused, assert_refused, chunked, chunks, encodings, exchange, lengths, rest,
};
use trama_tests::tls;

/// A mesh with one application without a sidecar, behind one sidecar, and what arrives at it.
async fn mesh() -> (Mesh, Record) {
    let (application, seen) = Application::recording("orders");
    (mesh_of(&application).await, seen)
}

async fn mesh_of(application: &Application) -> Mesh {
    let builder = Mesh::builder()
        .pod("orders", |p| p.serves("shop/orders").plain().application(application))
        .pod("storefront", |p| p.config(LIMITS));
    builder.start().await
}

async fn dial(client: &Pod) -> TcpStream {
    client.dial(client.at(EXPLICIT)).await.unwrap()
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_is_refused_counted_and_never_forwarded() {
    let (mesh, seen) = mesh().await;
    let client = mesh.pod("storefront");
    are_refused(client, &seen, async || dial(client).await).await;
}

#[tokio::test]
async fn a_port_whose_protocol_is_found_out_is_no_way_round_it() {
    let (application, seen) = Application::recording("orders");
    let listener = "protocol: AUTO, service: \"shop/orders:80\"";
    let mesh = Mesh::builder()
        .pod("orders", |p| p.serves("shop/orders").plain().application(&application))
        .pod("storefront", |p| p.config(LIMITS).listener("auto", listener));
    let mesh = mesh.start().await;
    let client = mesh.pod("storefront");
    are_refused(client, &seen, async || client.dial(client.at(EXPLICIT + 1)).await.unwrap()).await;
}

#[tokio::test]
async fn tls_is_no_way_round_it() {
    let (application, seen) = Application::recording("orders");
    let folder = tempfile::tempdir().unwrap();
    let issued = Authority::new().unwrap().issue_for_host("storefront.test").unwrap();
    let put = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (certificate, key) = (put("listener.pem", &issued.certificate), put("listener.key", &issued.key));
    let listener = format!("protocol: HTTP, tls: {{ certificate: {certificate}, key: {key} }}");
    let mesh = Mesh::builder()
        .pod("orders", |p| p.serves("shop/orders").plain().application(&application))
        .pod("storefront", |p| p.config(LIMITS).listener("tls", &listener));
    let mesh = mesh.start().await;
    let client = mesh.pod("storefront");
    let config = tls::client(None, &[b"http/1.1"]);
    let connect = async || {
        let stream = client.dial(client.at(EXPLICIT + 1)).await.unwrap();
        tls::connect(stream, Arc::clone(&config), "storefront.test").await.unwrap()
    };
    are_refused(client, &seen, connect).await;
}

#[tokio::test]
async fn within_the_limits_a_request_arrives() {
    let (mesh, seen) = mesh().await;
    let client = mesh.pod("storefront");
    let path = format!("/{}", "p".repeat(1024 - "GET / HTTP/1.1\r\n".len()));
    let fields: String = (0..17).map(|n| format!("X-{n}: {}\r\n", "v".repeat(300))).collect();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: orders.shop\r\nConnection: close\r\n{fields}X-Last: 1\r\n\r\n");
    let answer = exchange(dial(client).await, &request).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(seen.of(&path).len(), 1);
}

#[tokio::test]
async fn a_request_that_hides_behind_an_honest_one_is_refused_after_its_answer() {
    let (mesh, seen) = mesh().await;
    let client = mesh.pod("storefront");
    let honest = "POST /honest HTTP/1.1\r\nHost: orders.shop\r\nContent-Length: 7\r\n\r\nhonest!";
    for (rule, bytes) in [lengths(), encodings(), chunks()].concat() {
        let before = seen.all().len();
        let answers = exchange(dial(client).await, &format!("{honest}{bytes}")).await;
        let (first, second) = answers.split_once("honest!").unwrap();
        assert!(first.starts_with("HTTP/1.1 200 "), "{rule}: {answers}");
        assert_refused(rule, &bytes, second);
        let after = seen.all().split_off(before);
        assert!(matches!(&after[..], [only] if only.uri.path() == "/honest"), "{rule}: {after:?}");
    }
}

#[tokio::test]
async fn a_body_that_turns_bad_later_never_ends_well_for_the_application() {
    let (heads, mut head_came) = mpsc::unbounded_channel();
    let (bodies, mut body_ended) = mpsc::unbounded_channel();
    let application = Application::http(move |request| {
        let (heads, bodies) = (heads.clone(), bodies.clone());
        async move {
            heads.send(()).unwrap();
            bodies.send(request.into_body().collect().await.is_ok()).unwrap();
            Response::new(Payload::empty())
        }
    });
    let mesh = mesh_of(&application).await;
    let client = mesh.pod("storefront");
    let mut stream = dial(client).await;
    stream.write_all(chunked("2\r\nab\r\n").as_bytes()).await.unwrap();
    assert!(timeout(PATIENCE, head_came.recv()).await.unwrap().is_some());
    stream.write_all(b"zz\r\n0\r\n\r\n").await.unwrap();
    let answer = rest(&mut stream, "a bad chunk").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(timeout(PATIENCE, body_ended.recv()).await.unwrap(), Some(false));
    client.metric_reaches("trama_guard_refusals_total", &[("kind", "malformed_chunk_size")], 1.0).await;
}
