//! A real sidecar of a real control plane: what is applied is served, and a control plane that is killed is missed by
//! nobody.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use trama_tests::control_plane::{ControlPlane, application};
use trama_tests::mesh::until;
use trama_tests::ports::free_port;
use trama_tests::process::Process;
use trama_tests::programs;

const SERVICE: &str = "kind: Service\nmetadata: { name: orders, namespace: shop }\n\
                       spec: { ports: [{ port: 80, appProtocol: HTTP }] }\n";

fn endpoint(port: u16) -> String {
    format!(
        "kind: EndpointSet\nmetadata: {{ name: orders, namespace: shop }}\n\
         spec: {{ service: orders, endpoints: [{{ address: 127.0.0.1, port: {port} }}] }}\n"
    )
}

/// What the sidecar answers; `None`: nothing yet.
fn answer(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET / HTTP/1.1\r\nhost: orders.shop\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.rsplit("\r\n\r\n").next()?.to_owned())
}

async fn answers(port: u16, word: &str) {
    until(word, || async { answer(port).filter(|answer| answer == word) }).await;
}

#[tokio::test]
async fn what_is_applied_is_served_and_a_killed_control_plane_is_missed_by_nobody() {
    let mut control = ControlPlane::spawn().await;
    let (first, second) = (application("first"), application("second"));
    control.apply(&format!("{SERVICE}---\n{}", endpoint(first))).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().display();
    let storefront = control.joined("shop", "storefront").await;
    storefront.write_to(folder.path());
    let listener = free_port();
    let configuration = format!(
        "node: {{ name: storefront-1, namespace: shop }}\nbindAddress: 127.0.0.1\n\
         ports: {{ outbound: 0, inbound: 0, mesh: 0, metrics: 0, health: 0 }}\nadmin: {{ port: 0 }}\n\
         capture: {{ outbound: false, inbound: false }}\n\
         listeners: [{{ name: http, address: '127.0.0.1:{listener}' }}]\n\
         identity: {{ certificate: {own}/identity.pem, key: {own}/identity.key, bundle: {own}/ca.pem }}\n\
         controlPlane: {{ address: '{}', bundle: {own}/ca.pem }}\n",
        control.address()
    );
    fs::write(folder.path().join("sidecar.yaml"), configuration).unwrap();
    let mut command = Command::new(programs::built("trama-sidecar").unwrap());
    command.arg("--config").arg(folder.path().join("sidecar.yaml"));
    let _sidecar = Process::start("sidecar", &mut command, &folder.path().join("log")).unwrap();
    answers(listener, "first").await;

    let applied = control.apply(&endpoint(second)).await.unwrap().stamp.unwrap();
    answers(listener, "second").await;
    let shown = control.sidecar("the acknowledgement", |it| it.acknowledged == applied.revision).await;
    assert_eq!(shown.node.unwrap().name, "storefront-1");
    assert_eq!(shown.refusals, []);

    control.kill();
    assert_eq!(answer(listener).unwrap(), "second");
    control.respawn().await;
    control.apply(&endpoint(first)).await.unwrap();
    answers(listener, "first").await;
    assert_eq!(control.sidecars().await.len(), 1);
}
