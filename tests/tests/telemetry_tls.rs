//! Spans in TLS, to a receiver that is not ours on OpenSSL: whom the sidecar trusts, whom the receiver does, and that nobody
//! else gets a span.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: helpers outside #[test] may panic")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;
use trama_tests::authority::{Authority, Issued};
use trama_tests::mesh::{Application, Mesh, Payload, Speaks, until};
use trama_tests::peers::{Here, OtlpReceiver};

const DROPPED: &str = "trama_spans_dropped_total";

/// A mesh whose client's sidecar sends its spans there, and finds what it needs for that in this folder.
async fn mesh(receiver: SocketAddr, files: &Path, shows: bool) -> Mesh {
    let path = |name: &str| files.join(name).display().to_string();
    let shown = format!(", certificate: {}, key: {}", path("client.pem"), path("client.key"));
    let shown = if shows { &shown } else { "" };
    let entry = format!("upstreamTls: [{{ name: collector, authorities: {}{shown} }}]", path("ca.pem"));
    Mesh::builder()
        .pod("orders", |p| p.serves("shop/orders").application(&Application::echo("orders")))
        .pod("storefront", |p| p.config(&entry).spans_sealed_to(receiver, "collector"))
        .start()
        .await
}

/// One request of a trace that is kept.
async fn traced(mesh: &Mesh) {
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = client.request("GET", "/").header("traceparent", parent).body(Payload::empty()).unwrap();
    assert_eq!(client.call(request).await.unwrap().status, 200);
}

async fn a_span_comes(receiver: &OtlpReceiver) {
    let span = until("the span", || async { receiver.spans().pop() }).await;
    assert_eq!(span["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736", "{span}");
}

/// A folder with the authority that the sidecar trusts, and a client certificate.
fn files(trusted: &Authority, client: &Issued) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in
        [("ca.pem", trusted.pem()), ("client.pem", &client.certificate), ("client.key", &client.key)]
    {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// A receiver that wants a client certificate, and a mesh whose client's sidecar has a good one.
struct Sealed {
    clients: Authority,
    receiver: OtlpReceiver,
    files: TempDir,
    mesh: Mesh,
    _place: Here,
}

impl Sealed {
    async fn start() -> Self {
        let (servers, clients) = (Authority::new().unwrap(), Authority::new().unwrap());
        let place = Here::new().unwrap();
        let own = servers.issue_for_host("127.0.0.1").unwrap();
        let receiver = OtlpReceiver::start_sealed(&place, &own, Some(&clients)).unwrap();
        let files = files(&servers, &clients.issue_for_host("storefront.shop").unwrap());
        let mesh = mesh(receiver.address, files.path(), true).await;
        Self { clients, receiver, files, mesh, _place: place }
    }
}

#[tokio::test]
async fn spans_reach_a_receiver_in_tls_that_wants_a_client_certificate() {
    let Sealed { receiver, mesh, files: _files, _place, .. } = Sealed::start().await;
    traced(&mesh).await;
    a_span_comes(&receiver).await;
    assert!(mesh.pod("storefront").metric(DROPPED, &[]).await < 0.5);
}

#[tokio::test]
async fn whoever_is_not_the_receiver_gets_no_span_and_who_shows_nothing_is_refused() {
    let (servers, others) = (Authority::new().unwrap(), Authority::new().unwrap());
    for (what, own, clients) in [
        ("another authority", others.issue_for_host("127.0.0.1"), None),
        ("another name", servers.issue_for_host("collector.example"), None),
        ("its time is over", servers.issue_expired_for_host("127.0.0.1"), None),
        ("it wants a certificate", servers.issue_for_host("127.0.0.1"), Some(&others)),
    ] {
        let place = Here::new().unwrap();
        let receiver = OtlpReceiver::start_sealed(&place, &own.unwrap(), clients).unwrap();
        let files = files(&servers, &others.issue_for_host("storefront.shop").unwrap());
        let mesh = mesh(receiver.address, files.path(), false).await;
        traced(&mesh).await;
        mesh.pod("storefront").metric_reaches(DROPPED, &[], 1.0).await;
        assert!(receiver.spans().is_empty(), "{what}");
    }
}

#[tokio::test]
async fn a_receiver_without_tls_gets_no_span_where_it_was_to_have_it() {
    let authority = Authority::new().unwrap();
    let place = Here::new().unwrap();
    let receiver = OtlpReceiver::start(&place).unwrap();
    let files = files(&authority, &authority.issue_for_host("storefront.shop").unwrap());
    let mesh = mesh(receiver.address, files.path(), true).await;
    traced(&mesh).await;
    mesh.pod("storefront").metric_reaches(DROPPED, &[], 1.0).await;
    assert!(receiver.spans().is_empty());
}

#[tokio::test]
async fn authorities_that_change_are_taken_without_a_start() {
    let (before, after) = (Authority::new().unwrap(), Authority::new().unwrap());
    let place = Here::new().unwrap();
    let own = after.issue_for_host("127.0.0.1").unwrap();
    let receiver = OtlpReceiver::start_sealed(&place, &own, None).unwrap();
    let files = files(&before, &before.issue_for_host("storefront.shop").unwrap());
    let mesh = mesh(receiver.address, files.path(), false).await;
    traced(&mesh).await;
    let storefront = mesh.pod("storefront");
    storefront.metric_reaches(DROPPED, &[], 1.0).await;
    let next = files.path().join("ca.next");
    fs::write(&next, after.pem()).unwrap();
    fs::rename(next, files.path().join("ca.pem")).unwrap();
    let taken = [("kind", "upstream"), ("result", "accepted")];
    storefront.metric_reaches("trama_certificate_updates_total", &taken, 1.0).await;
    traced(&mesh).await;
    a_span_comes(&receiver).await;
}

/// A connection may outlive the certificate that was shown when it was made.
#[tokio::test]
async fn a_client_certificate_that_changes_is_shown_on_a_connection_of_its_own() {
    let Sealed { clients, receiver, files, mesh, _place } = Sealed::start().await;
    for (updates, spans, connections) in [(0.0, 1, 1), (0.0, 2, 1), (1.0, 3, 2)] {
        if updates > 0.0 {
            let next = clients.issue_for_host("storefront.shop").unwrap();
            for (name, text) in [("client.key", &next.key), ("client.pem", &next.certificate)] {
                fs::write(files.path().join(name), text).unwrap();
            }
            let taken = [("kind", "upstream"), ("result", "accepted")];
            mesh.pod("storefront").metric_reaches("trama_certificate_updates_total", &taken, updates).await;
        }
        traced(&mesh).await;
        let come = || async { (receiver.spans().len() >= spans).then_some(()) };
        until(&format!("{spans} spans"), come).await;
        assert_eq!(receiver.connections(), connections, "after {spans} spans");
    }
}
