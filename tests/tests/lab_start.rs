//! Captured traffic of a sidecar that has never had a policy.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trama_tests::mesh::{APPLICATION, Application, Mesh, PATIENCE, Pod, Speaks, Where, until};

/// A mesh whose pod `web` was started anew, with these lines of configuration and no policy file.
async fn without_policy(startup: &str) -> Mesh {
    let lines = format!("startup: {{ waitForPolicy: 100ms{startup} }}");
    let mut mesh = Mesh::builder()
        .at(Where::Namespaces)
        .pod("web", |p| p.serves("shop/web").application(&Application::echo("web")).config(&lines))
        .pod("caller", |p| p)
        .pod("stranger", |p| p.application(&Application::echo("stranger")).plain())
        .start()
        .await;
    mesh.stop_sidecar("web");
    mesh.spoil_policy(None);
    mesh.start_sidecar("web");
    let web = mesh.pod("web");
    let ready = || async { web.ask(15021, "/readyz").await.filter(|answer| answer.status == 200) };
    until("the wait's end", ready).await;
    mesh
}

/// Whether one pod's application is answered by another's over plain HTTP.
async fn answers(from: &Pod, to: &Pod, path: &str) -> bool {
    let mut stream = from.dial(to.at(APPLICATION)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end").ok();
    answer.starts_with(b"HTTP/1.1 200")
}

#[tokio::test]
async fn outbound_passes_plainly_and_plain_inbound_is_refused() {
    let mesh = without_policy("").await;
    let (web, stranger) = (mesh.pod("web"), mesh.pod("stranger"));
    assert!(answers(web, stranger, "/out").await, "outbound traffic does not pass");
    web.metric_reaches("trama_external_connections_total", &[("kind", "pending")], 1.0).await;
    assert!(!answers(stranger, web, "/in").await, "a port that may be strict took a plain connection");
    let entry = web.logged_where("the refusal", |entry| entry["reason"] == "policy_pending").await;
    assert_eq!(entry["direction"], "inbound", "{entry}");
    // Who proves who it is comes in.
    let mut client = mesh.pod("caller").http_to(mesh.service("shop/web"), Speaks::Http1, "web.shop").await;
    assert_eq!(client.get("/meshed").await.status.as_u16(), 200);
}

#[tokio::test]
async fn the_configuration_can_have_it_the_other_way_round() {
    let mesh = without_policy(", withoutPolicy: REFUSE, plainInbound: PASS_THROUGH").await;
    let (web, stranger) = (mesh.pod("web"), mesh.pod("stranger"));
    assert!(answers(stranger, web, "/in").await, "plain inbound traffic does not pass");
    assert!(!answers(web, stranger, "/out").await, "outbound traffic passed");
    let entry = web.logged_where("the refusal", |entry| entry["reason"] == "policy_pending").await;
    assert_eq!(entry["direction"], "outbound", "{entry}");
    web.metric_reaches("trama_external_connections_total", &[("kind", "refused")], 1.0).await;
}
