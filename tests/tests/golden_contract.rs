//! What others rely on and nobody may change by chance: ports, the handshake between sidecars, the names in metrics, in
//! the access log and of failures, and who is whose parent in a trace. Each is looked at from outside, where it is one.
//!
//! A change here is a change of the contract: it belongs into CHANGELOG.md.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use rustls::server::{Acceptor, ResolvesServerCertUsingSni};
use rustls::{NamedGroup, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use trama_sidecar::config::bootstrap::Config;
use trama_sidecar::error::Reason;
use trama_tests::mesh::{Application, EXPLICIT, Mesh, PATIENCE, Payload, Pod, Record, Speaks};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

#[test]
fn ports() {
    let config = Config::parse("nothing", "", []).unwrap();
    let ports = config.ports;
    let listed = [ports.outbound, ports.inbound, ports.mesh, config.admin.port, ports.metrics, ports.health];
    assert_eq!(listed, [15001, 15006, 15008, 15000, 15020, 15021]);
    assert!(config.admin.address.is_loopback());
}

#[test]
fn ports_of_the_control_plane() {
    let ports = trama_control_plane::config::Config::parse("nothing", "", []).unwrap().ports;
    assert_eq!([ports.sidecars, ports.metrics, ports.health], [15010, 15011, 15012]);
}

/// What a sidecar says first on a mesh connection.
#[derive(Debug, PartialEq)]
struct Hello {
    alpn: Vec<String>,
    server_name: Option<String>,
    groups: Vec<NamedGroup>,
    /// Why a server that knows nothing above TLS 1.2 cannot answer it.
    tls12: String,
}

async fn hello(listener: &TcpListener) -> Hello {
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await.unwrap();
    let hello = start.client_hello();
    let alpn = hello.alpn().into_iter().flatten();
    let alpn = alpn.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let server_name = hello.server_name().map(str::to_owned);
    let groups = hello.named_groups().unwrap_or_default().to_vec();
    let tls12 = start.into_stream(tls12_only()).await.map(|_| ()).unwrap_err().to_string();
    Hello { alpn, server_name, groups, tls12 }
}

fn tls12_only() -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS12]).unwrap();
    Arc::new(builder.with_no_client_auth().with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new())))
}

/// A service whose only endpoint has its mesh port where the test listens.
fn watched(name: &str, address: &str, port: u16, protocol: &str, listener: &TcpListener) -> String {
    let mesh = listener.local_addr().unwrap();
    format!(
        "kind: Service\nmetadata: {{ name: {name}, namespace: shop }}\nspec:\n  \
         ports: [{{ port: {port}, targetPort: 8080, appProtocol: {protocol} }}]\n---\n\
         kind: EndpointSet\nmetadata: {{ name: {name}, namespace: shop }}\nspec:\n  service: {name}\n  endpoints:\n    \
         - {{ address: {address}, identity: \"spiffe://mesh.test/ns/shop/sa/{name}\", mesh: {{ address: \"{mesh}\" }} }}\n"
    )
}

#[tokio::test]
async fn the_handshake_between_sidecars() {
    let listeners =
        [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
    let services = [
        watched("web", "10.0.0.1", 80, "HTTP", &listeners[0]),
        watched("database", "10.0.0.2", 5432, "TCP", &listeners[1]),
    ];
    let builder = Mesh::builder()
        .pod("storefront", |p| p.listener("database", "protocol: TCP, service: \"shop/database:5432\""))
        .policy(|p| p.more(&services.join("---\n")));
    let mesh = builder.start().await;
    let client = mesh.pod("storefront");

    let request = async {
        let mut http = client.http(Speaks::Http1, "web.shop").await;
        assert_eq!(http.get("/").await.status, 503, "the handshake is not answered");
    };
    let (web, ()) = tokio::join!(hello(&listeners[0]), request);
    assert_eq!(web.alpn, ["trama-h2/1"]);
    // The application's own port, not the service's.
    assert_eq!(web.server_name.as_deref(), Some("8080.web.shop"));
    assert_eq!(web.groups.first(), Some(&NamedGroup::X25519MLKEM768));
    assert!(web.tls12.contains("Tls12NotOffered"), "TLS 1.3 only: {}", web.tls12);

    let _stream: TcpStream = client.dial(client.at(EXPLICIT + 1)).await.unwrap();
    let database = hello(&listeners[1]).await;
    assert_eq!(database.alpn, ["trama-tcp/1"]);
    assert_eq!(database.server_name.as_deref(), Some("8080.database.shop"));
}

/// A client and an application, both with a sidecar or only the client, after one traced request.
async fn traced(meshed: bool) -> (Mesh, Record) {
    let (application, seen) = Application::recording("orders");
    let builder = Mesh::builder()
        .pod("orders", |p| {
            let p = p.serves("shop/orders").region("sao-paulo").application(&application);
            if meshed { p } else { p.plain() }
        })
        .pod("storefront", |p| p.region("sao-paulo"))
        .policy(|p| p.route("shop/orders", "backendRefs: [{ service: orders }]"));
    let mesh = builder.start().await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    let request = client.request("POST", "/traced").header("traceparent", format!("00-{TRACE}-{PARENT}-01"));
    assert_eq!(client.call(request.body(Payload::of("order")).unwrap()).await.unwrap().status, 200);
    (mesh, seen)
}

async fn span(pod: &Pod) -> String {
    let entry = pod.logged("/traced").await;
    assert_eq!(entry["trace_id"], TRACE, "{entry}");
    entry["span_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_sidecar_is_a_parent_to_what_follows_it() {
    let (mesh, seen) = traced(false).await;
    let outbound = span(mesh.pod("storefront")).await;
    assert_ne!(outbound, PARENT);
    assert_eq!(seen.all()[0].values("traceparent"), [format!("00-{TRACE}-{outbound}-01")]);

    let (mesh, seen) = traced(true).await;
    let (outbound, inbound) = (span(mesh.pod("storefront")).await, span(mesh.pod("orders")).await);
    assert_ne!(outbound, inbound);
    assert_eq!(seen.all()[0].values("traceparent"), [format!("00-{TRACE}-{inbound}-01")]);
}

#[tokio::test]
async fn the_fields_of_the_access_log() {
    let (mesh, _) = traced(true).await;
    let outbound = "attempts authority bytes_received bytes_sent direction downstream duration_ms method path \
                peer_identity peer_region peer_service policy_revision protocol route service span_id status \
                timestamp tls trace_id ttfb_ms upstream upstream_protocol";
    // Inbound knows neither the rule by which the request was sent nor the region it came from.
    let inbound = outbound.replace(" peer_region", "").replace(" route", "");
    for (pod, fields) in [("storefront", outbound), ("orders", &inbound)] {
        let entry = mesh.pod(pod).logged("/traced").await;
        let names: Vec<&str> = entry.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names.join(" "), fields, "{pod}");
    }
}

#[tokio::test]
async fn the_labels_of_the_metrics() {
    let (mesh, _) = traced(true).await;
    let requests = "direction method peer_region peer_service protocol reason route service status tls";
    let durations = "direction peer_service route service status_class";
    for (pod, name, labels) in [
        ("storefront", "trama_requests_total", requests),
        ("orders", "trama_requests_total", requests),
        ("storefront", "trama_request_body_bytes_total", requests),
        ("storefront", "trama_response_body_bytes_total", requests),
        ("storefront", "http_client_request_duration_seconds_count", durations),
        ("orders", "http_server_request_duration_seconds_count", durations),
        ("storefront", "trama_attempts_total", "peer_region peer_service reason route service status_class"),
        ("storefront", "trama_connections_opened_total", "direction peer tls"),
        ("orders", "trama_tls_handshakes_total", "peer reason result"),
        ("orders", "trama_build_info", "version"),
    ] {
        mesh.pod(pod).metric_reaches(name, &[], 1.0).await;
        for (found, _) in mesh.pod(pod).series(name).await {
            assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>().join(" "), labels, "{name}");
        }
    }
}

#[tokio::test]
async fn a_failure_has_one_name_in_answer_log_and_metric() {
    let (mesh, _) = traced(false).await;
    let pod = mesh.pod("storefront");
    let mut client = pod.http(Speaks::Http1, "nobody.shop").await;
    let answer = client.get("/lost").await;
    assert_eq!((answer.status.as_u16(), answer.header("trama-reason")), (404, "unknown_authority"));
    assert_eq!(pod.logged("/lost").await["reason"], "unknown_authority");
    pod.metric_reaches("trama_requests_total", &[("reason", "unknown_authority")], 1.0).await;
}

#[test]
fn the_named_reasons() {
    let names: Vec<String> =
        Reason::ALL.iter().map(|r| format!("{} {}", r.status().as_u16(), r.name())).collect();
    let golden = include_str!("golden/reasons.txt");
    assert_eq!(names, golden.lines().collect::<Vec<_>>(), "names stay, new ones are added");
}
