//! What the parts of a mesh have agreed on. A change here breaks meshes that are half upgraded.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::client::TlsStream;
use trama_sidecar::config::bootstrap::Config;
use trama_tests::authority::{Authority, Issued};
use trama_tests::mesh::{
    APPLICATION, Application, Certificate, EXPLICIT, Mesh, MeshBuilder, PATIENCE, Payload, Pod, Speaks, until,
};
use trama_tests::tls;

const ORDERS: &str = "shop/orders";
const HANDSHAKES: &str = "trama_tls_handshakes_total";
const HTTP2: &[u8] = b"trama-h2/1";
const TCP: &[u8] = b"trama-tcp/1";

fn pair(application: &Application) -> MeshBuilder {
    Mesh::builder().pod("orders", |p| p.serves(ORDERS).application(application)).pod("storefront", |p| p)
}

#[test]
fn the_ports_are_these() {
    let config = Config::parse("empty", "", []).unwrap();
    let ports = config.ports;
    assert_eq!(
        (ports.outbound, ports.inbound, ports.mesh, ports.metrics, ports.health, config.admin.port),
        (15001, 15006, 15008, 15020, 15021, 15000)
    );
    assert!(config.admin.address.is_loopback());
}

/// What a sidecar's client hello said: name and ALPN.
type Hello = (Option<String>, Vec<Vec<u8>>);

/// A mesh port that hears the hello and then breaks off.
async fn hears_hello(listener: TcpListener, heard: Arc<Mutex<Vec<Hello>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let start = tokio_rustls::LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
        if let Ok(start) = start.await {
            let hello = start.client_hello();
            let alpn = hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect();
            heard.lock().unwrap().push((hello.server_name().map(str::to_owned), alpn));
        }
    }
}

#[tokio::test]
async fn a_hello_names_port_service_and_namespace_and_there_is_no_plain_attempt() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let fields = "protocol: TCP, service: \"shop/orders:80\"";
    let (application, plain) = Application::recording("orders");
    // A pod without a sidecar, whose record says that it has one.
    let mut mesh = Mesh::builder()
        .pod("orders", |p| p.application(&application).plain())
        .pod("storefront", |p| p.listener("tcp", fields))
        .policy(|p| p.service("shop/another", ""))
        .start()
        .await;
    let ip = mesh.pod("orders").at(0).ip();
    let listener = TcpListener::bind((ip, 15008)).await.unwrap();
    tokio::spawn(hears_hello(listener, Arc::clone(&seen)));
    mesh.publish(|p| {
        p.more(&format!(
            "kind: Service\nmetadata: {{ name: orders, namespace: shop }}\n\
             spec: {{ ports: [{{ port: 80, targetPort: 8080 }}] }}\n---\n\
             kind: EndpointSet\nmetadata: {{ name: orders, namespace: shop }}\n\
             spec:\n  service: orders\n  endpoints:\n    - {{ address: {ip}, identity: \"spiffe://mesh.test/ns/shop/sa/orders\", \
             mesh: {{ address: \"{ip}:15008\" }} }}\n"
        ));
    });
    mesh.pod("storefront").metric_reaches("trama_policy_revision", &[], 2.0).await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    let answer = client.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, "tls_failed"));
    let mut stream = mesh.pod("storefront").dial(mesh.pod("storefront").at(EXPLICIT + 1)).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.ok();
    assert!(plain.all().is_empty(), "a downgrade: {:?}", plain.all());
    let heard = seen.lock().unwrap().clone();
    assert!(heard.len() >= 2, "{heard:?}");
    for (name, alpn) in &heard {
        assert_eq!(name.as_deref(), Some("8080.orders.shop"));
        assert!(alpn == &[HTTP2.to_vec()] || alpn == &[TCP.to_vec()], "{alpn:?}");
    }
    let carried: BTreeSet<_> = heard.into_iter().map(|(_, alpn)| alpn).collect();
    assert_eq!(carried.len(), 2, "HTTP/2 and TCP have a name each");
}

/// Knocks at a mesh port and tries to be served; whether it was.
async fn served(pod: &Pod, certificate: Option<&Issued>, alpn: &[u8], name: &str) -> bool {
    let stream = pod.dial(pod.mesh()).await.unwrap();
    let Ok(stream) = tls::connect(stream, tls::client(certificate, &[alpn]), name).await else {
        return false;
    };
    answered(stream, alpn == HTTP2).await
}

/// Whether a request gets an answer. TLS 1.3 refuses a client's certificate after the client thinks that all is well.
async fn answered(mut stream: TlsStream<TcpStream>, http2: bool) -> bool {
    if http2 {
        let Ok((mut sender, connection)) = h2::client::handshake(stream).await else { return false };
        tokio::spawn(connection);
        let request = http::Request::get("http://orders.shop/served").body(()).unwrap();
        let Ok((answer, _)) = sender.send_request(request, true) else { return false };
        let answer = tokio::time::timeout(PATIENCE, answer).await.expect("an answer, or the end");
        return answer.is_ok_and(|answer| answer.status() == 200);
    }
    stream.write_all(b"GET /served HTTP/1.1\r\nhost: orders.shop\r\nconnection: close\r\n\r\n").await.ok();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the end").ok();
    answer.starts_with(b"\0HTTP/1.1 200")
}

#[tokio::test]
async fn the_mesh_port_serves_only_workloads_of_its_own_domain() {
    let (application, seen) = Application::recording("orders");
    let mesh = pair(&application).start().await;
    let pod = mesh.pod("orders");
    let (own, other) = (mesh.authority(), Authority::new().unwrap());
    let id = "spiffe://mesh.test/ns/shop/sa/anyone";
    let good = own.issue(id).unwrap();
    let name = "8080.orders.shop";
    assert!(served(pod, Some(&good), HTTP2, name).await, "a good certificate, over HTTP/2");
    assert!(served(pod, Some(&good), TCP, name).await, "a good certificate, over opaque TCP");
    let known = seen.all().len();
    let bad = [
        (Some(own.issue_expired(id).unwrap()), "expired"),
        (Some(other.issue(id).unwrap()), "unknown_issuer"),
        (None, "missing"),
        (Some(own.issue("spiffe://elsewhere.test/ns/shop/sa/anyone").unwrap()), "wrong_identity"),
        (Some(own.issue_for_host("orders.shop").unwrap()), "wrong_identity"),
    ];
    for (certificate, reason) in &bad {
        let labels = [("peer", "downstream"), ("result", "failed"), ("reason", *reason)];
        let before = pod.metric(HANDSHAKES, &labels).await;
        assert!(!served(pod, certificate.as_ref(), HTTP2, name).await, "{reason}: it was served");
        pod.metric_reaches(HANDSHAKES, &labels, before + 1.0).await;
    }
    // No ALPN of ours, no TLS at all.
    assert!(!served(pod, Some(&good), b"h2", name).await);
    let mut plain = pod.dial(pod.mesh()).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: orders.shop\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, plain.read_to_end(&mut answer)).await.expect("the end").ok();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    // Names that are none, and ports that are the sidecar's own: the mesh port is no way into the pod.
    for name in
        ["orders.shop", "15000.orders.shop", "15008.orders.shop", "15020.orders.shop", "15080.orders.shop"]
    {
        for alpn in [HTTP2, TCP] {
            assert!(!served(pod, Some(&good), alpn, name).await, "{name}");
        }
    }
    assert_eq!(seen.all().len(), known, "something got through");
    let refused = || async {
        let count = pod.log().iter().filter(|entry| entry["reason"] == "port_refused").count();
        (count == 10).then_some(())
    };
    until("ten refusals in the log", refused).await;
}

#[tokio::test]
async fn the_mesh_port_speaks_tls_1_3_and_what_was_agreed_on_alone() {
    let (application, seen) = Application::recording("orders");
    let mesh = pair(&application).start().await;
    let pod = mesh.pod("orders");
    let good = mesh.authority().issue("spiffe://mesh.test/ns/shop/sa/anyone").unwrap();
    let name = "8080.orders.shop";
    let failed = [("peer", "downstream"), ("result", "failed")];
    assert!(served(pod, Some(&good), HTTP2, name).await, "a good one is served");
    let known = seen.all().len();
    for alpn in [HTTP2, TCP] {
        let before = pod.metric(HANDSHAKES, &failed).await;
        let old = tls::old_client(Some(&good), &[alpn]);
        let refused = tls::connect(pod.dial(pod.mesh()).await.unwrap(), old, name).await;
        let said = refused.map(drop).expect_err("TLS 1.2 is refused").to_string();
        assert!(said.to_lowercase().contains("version"), "{said}");
        pod.metric_reaches(HANDSHAKES, &failed, before + 1.0).await;
    }
    // A hello without ALPN agrees on nothing, whatever is spoken after it.
    for http2 in [true, false] {
        let stream = pod.dial(pod.mesh()).await.unwrap();
        if let Ok(stream) = tls::connect(stream, tls::client(Some(&good), &[]), name).await {
            assert!(!answered(stream, http2).await, "HTTP/2: {http2}");
        }
    }
    assert_eq!(seen.all().len(), known, "something got through");
}

#[tokio::test]
async fn who_agrees_on_http_2_and_does_not_begin_it_is_not_waited_for() {
    let application = Application::echo("orders");
    let mesh = Mesh::builder().pod("orders", |p| {
        p.serves(ORDERS).application(&application).config("timeouts: { requestHeader: 300ms }")
    });
    let mesh = mesh.start().await;
    let pod = mesh.pod("orders");
    let good = mesh.authority().issue("spiffe://mesh.test/ns/shop/sa/anyone").unwrap();
    for begun in [&b""[..], b"PRI * HTTP/2.0\r\n"] {
        let stream = pod.dial(pod.mesh()).await.unwrap();
        let client = tls::client(Some(&good), &[HTTP2]);
        let mut stream = tls::connect(stream, client, "8080.orders.shop").await.unwrap();
        stream.write_all(begun).await.unwrap();
        let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
        end.expect("the connection ends").ok();
    }
}

#[tokio::test]
async fn a_callers_own_bad_certificate_fails_its_requests_by_name() {
    for certificate in [Certificate::Expired, Certificate::Foreign] {
        let mesh = Mesh::builder()
            .pod("orders", |p| p.serves(ORDERS).application(&Application::echo("orders")))
            .pod("storefront", |p| p.certificate(certificate))
            .policy(|p| p.route(ORDERS, "retry: { attempts: 0 }"));
        let mesh = mesh.start().await;
        let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
        // Each makes a connection of its own. By TLS 1.3 its refusal comes after the caller's handshake, sooner or later.
        for n in 0..20 {
            let answer = client.post(&format!("/{n}"), "x").await;
            assert_eq!(
                (answer.status.as_u16(), answer.reason()),
                (503, "tls_failed"),
                "{certificate:?}, {n}"
            );
        }
        let entry = mesh.pod("storefront").logged("/19").await;
        assert_eq!(entry["reason"], "tls_failed", "{certificate:?}: {entry}");
    }
}

#[tokio::test]
async fn a_server_must_be_whom_its_record_names() {
    for (certificate, record, reason) in [
        (Certificate::Good, "spiffe://mesh.test/ns/shop/sa/payments", "identity_mismatch"),
        (Certificate::Expired, "spiffe://mesh.test/ns/shop/sa/orders", "tls_failed"),
        (Certificate::Foreign, "spiffe://mesh.test/ns/shop/sa/orders", "tls_failed"),
    ] {
        let (application, seen) = Application::recording("orders");
        let describe = |p: trama_tests::mesh::PodSpec| {
            p.serves(ORDERS).application(&application).certificate(certificate).recorded_as(record)
        };
        let mesh = Mesh::builder().pod("orders", describe).pod("storefront", |p| p).start().await;
        let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
        let answer = client.post("/", "secret").await;
        assert_eq!((answer.status.as_u16(), answer.reason()), (503, reason), "{certificate:?}");
        assert!(seen.all().is_empty(), "{certificate:?}: it was sent");
    }
}

#[tokio::test]
async fn every_leg_makes_its_own_span_of_one_trace() {
    let (application, seen) = Application::recording("orders");
    let sampled = "kind: Telemetry\nmetadata: { name: mesh }\nspec: { tracing: { samplingPercent: 100 } }\n";
    let mesh = pair(&application).policy(|p| p.more(sampled)).start().await;
    let mut client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let request = client
        .request("GET", "/traced")
        .header("traceparent", format!("00-{trace}-{parent}-01"))
        .header("tracestate", "vendor=value");
    client.call(request.body(Payload::empty()).unwrap()).await.unwrap();
    let arrived = &seen.of("/traced")[0];
    let [traceparent] = arrived.values("traceparent")[..] else { panic!("{:?}", arrived.headers) };
    let parts: Vec<_> = traceparent.split('-').collect();
    assert_eq!((parts[0], parts[1], parts[3]), ("00", trace, "01"), "{traceparent}");
    assert_eq!(arrived.values("tracestate"), ["vendor=value"]);
    let (out, inside) =
        (mesh.pod("storefront").logged("/traced").await, mesh.pod("orders").logged("/traced").await);
    assert_eq!((&out["trace_id"], &inside["trace_id"]), (&trace.into(), &trace.into()));
    let spans: BTreeSet<_> =
        [parent, out["span_id"].as_str().unwrap(), inside["span_id"].as_str().unwrap()].into();
    assert_eq!(spans.len(), 3, "one span for each leg: {spans:?}");
    assert_eq!(inside["span_id"], parts[2], "the application's parent is the inbound span");

    // Without a trace one is begun.
    client.get("/untraced").await;
    let begun = seen.of("/untraced")[0].values("traceparent").len();
    assert_eq!(begun, 1);
}

#[tokio::test]
async fn metrics_have_these_labels_and_no_others() {
    let mesh = pair(&Application::echo("orders")).start().await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    let request = client.request("BREW", "/secret?token=1").body(Payload::empty()).unwrap();
    assert_eq!(client.call(request).await.unwrap().status.as_u16(), 200);
    let expected = [
        "direction",
        "service",
        "peer_service",
        "route",
        "method",
        "status",
        "protocol",
        "peer_region",
        "tls",
        "reason",
    ];
    for (name, direction, peer) in [
        ("storefront", "outbound", ORDERS),
        ("orders", "inbound", "spiffe://mesh.test/ns/shop/sa/storefront"),
    ] {
        let pod = mesh.pod(name);
        pod.metric_reaches("trama_requests_total", &[("direction", direction)], 1.0).await;
        let series = pod.series("trama_requests_total").await;
        let [(labels, value)] = &series[..] else { panic!("{series:?}") };
        assert!((value - 1.0).abs() < f64::EPSILON);
        assert_eq!(labels.keys().map(String::as_str).collect::<BTreeSet<_>>(), expected.into(), "{name}");
        for (label, value) in [
            ("direction", direction),
            ("service", ORDERS),
            ("peer_service", peer),
            ("method", "_OTHER"),
            ("status", "200"),
            ("tls", "mutual"),
            ("reason", ""),
        ] {
            assert_eq!(labels[label], value, "{name}: {label}");
        }
    }
    let timed = mesh.pod("storefront").series("http_client_request_duration_seconds_count").await;
    let labels: BTreeSet<_> = timed[0].0.keys().map(String::as_str).collect();
    assert_eq!(labels, ["direction", "service", "peer_service", "route", "status_class"].into());
}

#[tokio::test]
async fn an_authority_that_no_service_has_is_refused_by_name() {
    let mesh = pair(&Application::echo("orders")).start().await;
    for authority in
        ["orders", "orders.shop", "orders.shop.svc", "orders.shop.svc.cluster.local", "orders.shop:80"]
    {
        let mut client = mesh.pod("storefront").http(Speaks::Http2, authority).await;
        assert_eq!(client.get("/").await.status.as_u16(), 200, "{authority}");
    }
    for authority in ["payments.shop", "orders.bank", "orders.shop:81", "example.org"] {
        let mut client = mesh.pod("storefront").http(Speaks::Http1, authority).await;
        let answer = client.get("/").await;
        assert_eq!((answer.status.as_u16(), answer.reason()), (404, "unknown_authority"), "{authority}");
    }
}

#[tokio::test]
async fn a_broken_mesh_port_is_tried_elsewhere_but_never_plainly() {
    // An endpoint whose mesh port speaks another TLS: it has no client certificate to ask for and no ALPN of ours.
    let (application, seen) = Application::recording("orders");
    let mut mesh = Mesh::builder()
        .pod("orders", |p| p.serves(ORDERS).application(&application))
        .pod("odd", |p| p.plain())
        .pod("storefront", |p| p)
        .start()
        .await;
    let odd = mesh.pod("odd").at(15008);
    let issued = mesh.authority().issue("spiffe://mesh.test/ns/shop/sa/orders").unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(odd).await.unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            acceptor.accept(stream).await.ok();
        }
    });
    let (ip, orders) = (odd.ip(), mesh.pod("orders").at(APPLICATION).ip());
    mesh.publish(|p| {
        p.more(&format!(
            "kind: EndpointSet\nmetadata: {{ name: odd, namespace: shop }}\n\
             spec:\n  service: orders\n  endpoints:\n    - {{ address: {ip}, identity: \"spiffe://mesh.test/ns/shop/sa/orders\", \
             mesh: {{ address: \"{odd}\" }} }}\n"
        ));
    });
    mesh.pod("storefront").metric_reaches("trama_policy_revision", &[], 2.0).await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    for n in 0..30 {
        let answer = client.post(&format!("/{n}"), "x").await;
        assert_eq!(answer.status.as_u16(), 200, "request {n} of {orders}: {}", answer.reason());
    }
    assert_eq!(seen.all().len(), 30);
}
