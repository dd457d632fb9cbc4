//! TLS with who has no sidecar: every combination of versions, whom it is refused to, and files that change.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Version};
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use tempfile::TempDir;
use trama_tests::authority::{Authority, Issued};
use trama_tests::mesh::{
    Answer, Application, Client, EXPLICIT, Mesh, MeshBuilder, Payload, Pod, Speaks, until,
};
use trama_tests::tls;

const ORDERS: &str = "shop/orders";
const HOST: &str = "orders.partner.test";
const BOTH: &[&[u8]] = &[b"h2", b"http/1.1"];
const NEVER_AGAIN: &str = "retry: { attempts: 0 }";

/// The authority of endpoints outside the mesh, and the files that name it.
struct Partner {
    authority: Authority,
    folder: TempDir,
}

impl Partner {
    fn new() -> Self {
        let partner = Self { authority: Authority::new().unwrap(), folder: tempfile::tempdir().unwrap() };
        partner.put("authorities.pem", partner.authority.pem());
        partner
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file as a renewal does.
    fn put(&self, name: &str, text: &str) {
        let next = self.at("next");
        fs::write(&next, text).unwrap();
        fs::rename(next, self.at(name)).unwrap();
    }

    fn put_certificate(&self, name: &str, issued: &Issued) {
        self.put(&format!("{name}.key"), &issued.key);
        self.put(&format!("{name}.pem"), &issued.certificate);
    }

    fn issued(&self) -> Issued {
        self.authority.issue_for_host(HOST).unwrap()
    }

    fn server(&self, alpn: &[&[u8]]) -> Arc<ServerConfig> {
        tls::server(&self.issued(), alpn, None)
    }

    /// What names its files in a sidecar's configuration.
    fn entry(&self, more: &str) -> String {
        format!(
            "upstreamTls: [{{ name: partner, authorities: {}{more} }}]",
            self.at("authorities.pem").display()
        )
    }

    /// The entry with a client certificate.
    fn entry_with_client(&self) -> String {
        self.put_certificate("client", &self.authority.issue_for_host("storefront.test").unwrap());
        let (certificate, key) = (self.at("client.pem"), self.at("client.key"));
        self.entry(&format!(", certificate: {}, key: {}", certificate.display(), key.display()))
    }

    /// A TLS listener with its certificate `listener`.
    fn listener(&self) -> String {
        self.listener_with("")
    }

    /// The same, only for who shows a certificate of the partner's authority.
    fn listener_for_clients(&self) -> String {
        self.listener_with(&format!(", clientBundle: {}", self.at("authorities.pem").display()))
    }

    fn listener_with(&self, more: &str) -> String {
        self.put_certificate("listener", &self.issued());
        let (certificate, key) = (self.at("listener.pem"), self.at("listener.key"));
        let (certificate, key) = (certificate.display(), key.display());
        format!("protocol: HTTP, tls: {{ certificate: {certificate}, key: {key}{more} }}")
    }
}

fn outside(application: &Application, protocol: &str, fields: &str, config: &str) -> MeshBuilder {
    Mesh::builder()
        .pod("orders", |p| p.serves(ORDERS).application(application).plain())
        .pod("storefront", |p| p.config(config))
        .policy(|p| {
            p.protocol(ORDERS, protocol);
            p.tls(ORDERS, fields);
            p.service(ORDERS, "outlier: { consecutiveFailures: 0 }");
        })
}

fn partners_fields() -> String {
    format!("hostname: {HOST}, files: partner")
}

async fn asked(mesh: &Mesh, speaks: Speaks) -> Answer {
    mesh.pod("storefront").http(speaks, "orders.shop").await.post("/asked", "body").await
}

#[derive(Clone, Copy, Debug)]
enum Downstream {
    Plain(Speaks),
    Tls(Speaks),
}

#[derive(Clone, Copy, Debug)]
enum Upstream {
    Plain(Speaks),
    Tls(Speaks),
    Mesh,
}

async fn client(pod: &Pod, downstream: Downstream) -> Client {
    let speaks = match downstream {
        Downstream::Plain(speaks) => return pod.http(speaks, "orders.shop").await,
        Downstream::Tls(speaks) => speaks,
    };
    let alpn: &[u8] = if speaks == Speaks::Http2 { b"h2" } else { b"http/1.1" };
    let stream = pod.dial(pod.at(EXPLICIT + 1)).await.unwrap();
    let stream = tls::connect(stream, tls::client(None, &[alpn]), HOST).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn));
    Client::begin(stream, speaks, "orders.shop").await.unwrap()
}

const VERSIONS: [Speaks; 2] = [Speaks::Http1, Speaks::Http2];

#[tokio::test]
async fn every_combination_of_versions_carries_a_request_both_ways() {
    let upstreams = VERSIONS.map(Upstream::Plain).into_iter().chain(VERSIONS.map(Upstream::Tls));
    for upstream in upstreams.chain([Upstream::Mesh]) {
        let partner = Partner::new();
        let (application, seen) = Application::recording("orders");
        let (application, protocol) = match upstream {
            Upstream::Plain(Speaks::Http1) => (application, "HTTP"),
            Upstream::Plain(Speaks::Http2) => (application, "HTTP2"),
            // Policy leaves it open: ALPN tells.
            Upstream::Tls(Speaks::Http1) => (application.in_tls(partner.server(&[b"http/1.1"])), "AUTO"),
            Upstream::Tls(Speaks::Http2) => (application.in_tls(partner.server(BOTH)), "AUTO"),
            Upstream::Mesh => (application, "AUTO"),
        };
        let (meshed, sealed) = (matches!(upstream, Upstream::Mesh), matches!(upstream, Upstream::Tls(_)));
        let mesh = Mesh::builder()
            .pod("orders", |p| {
                let p = p.serves(ORDERS).application(&application);
                if meshed { p } else { p.plain() }
            })
            .pod("storefront", |p| p.config(&partner.entry("")).listener("tls", &partner.listener()))
            .policy(|p| {
                p.protocol(ORDERS, protocol);
                // An endpoint with a mesh record is reached by mTLS all the same.
                if sealed || meshed {
                    p.tls(ORDERS, &partners_fields());
                }
            });
        let mesh = mesh.start().await;
        for downstream in VERSIONS.map(Downstream::Plain).into_iter().chain(VERSIONS.map(Downstream::Tls)) {
            let name = format!("{downstream:?} to {upstream:?}");
            let path = format!("/{}", name.replace(|c: char| !c.is_ascii_alphanumeric(), ""));
            let mut client = client(mesh.pod("storefront"), downstream).await;
            let trailers =
                HeaderMap::from_iter([("x-sum".try_into().unwrap(), HeaderValue::from_static("42"))]);
            let request = client.request("PUT", &path).header("x-asked", "one").header("trailer", "x-sum");
            let request = request.header("te", "trailers");
            let body = Payload::with_trailers("the body", Some(trailers.clone()));
            let answer = client.call(request.body(body).unwrap()).await.unwrap();
            assert_eq!((answer.status.as_u16(), answer.reason()), (200, ""), "{name}");
            assert_eq!(
                (&answer.body[..], answer.header("x-served-by")),
                (&b"the body"[..], "orders"),
                "{name}"
            );
            assert_eq!(answer.trailers.as_ref(), Some(&trailers), "{name}: the answer's trailers");
            let [seen] = &seen.of(&path)[..] else { panic!("{name}: it did not arrive once") };
            assert_eq!((&seen.body[..], seen.values("x-asked")), (&b"the body"[..], vec!["one"]), "{name}");
            assert_eq!(seen.trailers.as_ref(), Some(&trailers), "{name}: the request's trailers");
            let (Downstream::Plain(client) | Downstream::Tls(client)) = downstream;
            let (spoken, tls) = match upstream {
                Upstream::Plain(spoken) => (spoken, "none"),
                Upstream::Tls(spoken) => (spoken, "tls"),
                Upstream::Mesh => (client, "mutual"),
            };
            let version = if spoken == Speaks::Http2 { Version::HTTP_2 } else { Version::HTTP_11 };
            assert_eq!(seen.version, version, "{name}");
            if sealed && version == Version::HTTP_2 {
                assert_eq!(seen.uri.scheme_str(), Some("https"), "{name}");
            }
            let entry = mesh.pod("storefront").logged(&path).await;
            assert_eq!(entry["tls"], tls, "{name}: {entry}");
        }
    }
}

#[tokio::test]
async fn a_real_server_is_spoken_to_in_what_it_chooses_or_in_what_policy_says() {
    let partner = Partner::new();
    partner.put_certificate("server", &partner.issued());
    partner.put("clients.pem", partner.authority.pem());
    for (protocol, spoken) in [("AUTO", "HTTP/2.0"), ("GRPC", "HTTP/2.0"), ("HTTP", "HTTP/1.1")] {
        let application = Application::go_tls(partner.folder.path());
        let mesh = outside(&application, protocol, &partners_fields(), &partner.entry_with_client());
        let mesh = mesh.start().await;
        for speaks in VERSIONS {
            let mut client = mesh.pod("storefront").http(speaks, "orders.shop").await;
            let answer = client.get("/headers").await;
            let told: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(told["protocol"], spoken, "{speaks:?} where policy says {protocol}");
            let answer = client.post("/trailers", "x").await;
            assert_eq!(answer.status.as_u16(), 200, "{speaks:?} where policy says {protocol}");
            // Go gives a length as well, and with one HTTP/1.1 has no place for trailers.
            if speaks == Speaks::Http2 {
                assert_eq!(answer.trailers.unwrap()["x-last"], "yes", "where policy says {protocol}");
            }
        }
    }
    // The same server, and no certificate to show.
    let application = Application::go_tls(partner.folder.path());
    for protocol in ["HTTP", "HTTP2"] {
        let mesh = outside(&application, protocol, &partners_fields(), &partner.entry(""));
        let mesh = mesh.policy(|p| p.route(ORDERS, NEVER_AGAIN)).start().await;
        for _ in 0..20 {
            let answer = asked(&mesh, Speaks::Http1).await;
            assert_eq!((answer.status.as_u16(), answer.reason()), (503, "tls_failed"), "{protocol}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_trusted_is_refused_by_name_and_gets_nothing() {
    let partner = Partner::new();
    let stranger = Authority::new().unwrap();
    let good = partner.issued();
    let expired = partner.authority.issue_expired_for_host(HOST).unwrap();
    let other = partner.authority.issue_for_host("other.partner.test").unwrap();
    let foreign = stranger.issue_for_host(HOST).unwrap();
    let any = partners_fields();
    let unknown = format!("hostname: {HOST}, files: nobody");
    let uri = format!("{any}, subjectAltNames: [{{ uri: \"spiffe://partner.test/orders\" }}]");
    for (what, certificate, alpn, fields, reason, handshake) in [
        ("another authority", &foreign, BOTH, &any, "tls_failed", "unknown_issuer"),
        ("out of its time", &expired, BOTH, &any, "tls_failed", "expired"),
        ("another name", &other, BOTH, &any, "identity_mismatch", "wrong_identity"),
        ("not the names that policy says", &good, BOTH, &uri, "identity_mismatch", "wrong_identity"),
        ("no protocol in common", &good, &[&b"other"[..]][..], &any, "tls_failed", "refused_by_peer"),
        ("no files", &good, BOTH, &unknown, "tls_not_configured", ""),
    ] {
        for protocol in ["AUTO", "HTTP", "HTTP2"] {
            let (application, seen) = Application::recording("orders");
            let application = application.in_tls(tls::server(certificate, alpn, None));
            let mesh = outside(&application, protocol, fields, &partner.entry(""));
            let mesh = mesh.policy(|p| p.route(ORDERS, NEVER_AGAIN)).start().await;
            for speaks in VERSIONS {
                let answer = asked(&mesh, speaks).await;
                assert_eq!((answer.status.as_u16(), answer.reason()), (503, reason), "{what}, {protocol}");
            }
            assert!(seen.all().is_empty(), "{what}, {protocol}: it was sent");
            let pod = mesh.pod("storefront");
            pod.metric_reaches("trama_requests_total", &[("reason", reason), ("tls", "tls")], 2.0).await;
            let labels = [("peer", "upstream"), ("result", "failed"), ("reason", handshake)];
            if !handshake.is_empty() {
                pod.metric_reaches("trama_tls_handshakes_total", &labels, 2.0).await;
            }
        }
    }
}

#[tokio::test]
async fn http2_is_not_spoken_to_who_did_not_agree_to_it() {
    let partner = Partner::new();
    let (application, seen) = Application::recording("orders");
    // It knows no ALPN: over TLS that means HTTP/1.1.
    let application = application.in_tls(partner.server(&[]));
    for (protocol, status, reason) in [("HTTP2", 503, "tls_failed"), ("AUTO", 200, ""), ("HTTP", 200, "")] {
        let mesh = outside(&application, protocol, &partners_fields(), &partner.entry(""));
        let mesh = mesh.policy(|p| p.route(ORDERS, NEVER_AGAIN)).start().await;
        let answer = asked(&mesh, Speaks::Http2).await;
        assert_eq!((answer.status.as_u16(), answer.reason()), (status, reason), "{protocol}");
    }
    assert!(seen.all().iter().all(|seen| seen.version == Version::HTTP_11));
}

#[tokio::test]
async fn a_certificate_may_carry_one_of_several_names() {
    let partner = Partner::new();
    let workload = partner.authority.issue("spiffe://partner.test/orders").unwrap();
    let names = "[{ hostname: other.test }, { uri: \"spiffe://partner.test/orders\" }]";
    let fields = format!("{}, subjectAltNames: {names}", partners_fields());
    let application =
        Application::echo("orders").in_tls(tls::server(&workload, BOTH, Some(&partner.authority)));
    let mesh = outside(&application, "AUTO", &fields, &partner.entry_with_client()).start().await;
    assert_eq!(asked(&mesh, Speaks::Http1).await.status.as_u16(), 200);
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_trusted_is_left_for_another_whatever_the_method() {
    let partner = Partner::new();
    let expired = partner.authority.issue_expired_for_host(HOST).unwrap();
    let bad = Application::echo("bad").in_tls(tls::server(&expired, BOTH, None));
    let good = Application::echo("good").in_tls(partner.server(BOTH));
    let mesh = Mesh::builder()
        .pod("bad", |p| p.serves(ORDERS).application(&bad).plain())
        .pod("good", |p| p.serves(ORDERS).application(&good).plain())
        .pod("storefront", |p| p.config(&partner.entry("")))
        .policy(|p| p.tls(ORDERS, &partners_fields()));
    let mesh = mesh.start().await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    for n in 0..30 {
        let answer = client.post(&format!("/{n}"), "once").await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("x-served-by")),
            (200, "good"),
            "{n}: {}",
            answer.reason()
        );
    }
    let failed = [("peer", "upstream"), ("result", "failed"), ("reason", "expired")];
    mesh.pod("storefront").metric_reaches("trama_tls_handshakes_total", &failed, 1.0).await;
}

#[tokio::test]
async fn connections_are_kept_and_a_server_may_change_what_it_speaks() {
    let partner = Partner::new();
    let (application, seen) = Application::recording("orders");
    let both = application.in_tls(partner.server(BOTH));
    let mut mesh = outside(&both, "AUTO", &partners_fields(), &partner.entry("")).start().await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    for _ in 0..20 {
        assert_eq!(client.get("/first").await.status.as_u16(), 200);
    }
    let handshakes = [("peer", "upstream"), ("result", "ok")];
    let made = mesh.pod("storefront").metric("trama_tls_handshakes_total", &handshakes).await;
    assert!((made - 1.0).abs() < f64::EPSILON, "one connection for all, not {made}");
    mesh.pod_mut("orders").kill_application().await;
    mesh.pod_mut("orders").start_application(&application.in_tls(partner.server(&[b"http/1.1"])));
    for n in 0..20 {
        let answer = client.post("/second", "x").await;
        assert_eq!(answer.status.as_u16(), 200, "{n}: {}", answer.reason());
    }
    assert!(seen.of("/first").iter().all(|seen| seen.version == Version::HTTP_2));
    assert!(seen.of("/second").iter().all(|seen| seen.version == Version::HTTP_11));
}

#[tokio::test]
async fn opaque_bytes_go_to_an_endpoint_in_tls() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let partner = Partner::new();
    let acceptor = tokio_rustls::TlsAcceptor::from(partner.server(&[]));
    let application = Application::raw(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut read = [0; 4];
            stream.read_exact(&mut read).await.unwrap();
            stream.write_all(&read).await.unwrap();
            stream.shutdown().await.ok();
        }
    });
    let builder = Mesh::builder()
        .pod("orders", |p| p.serves(ORDERS).application(&application).plain())
        .pod("storefront", |p| {
            p.config(&partner.entry("")).listener("database", "protocol: TCP, service: \"shop/orders:80\"")
        })
        .policy(|p| {
            p.protocol(ORDERS, "TCP");
            p.tls(ORDERS, &partners_fields());
        });
    let mesh = builder.start().await;
    let pod = mesh.pod("storefront");
    let mut stream = pod.dial(pod.at(EXPLICIT + 1)).await.unwrap();
    stream.write_all(b"ping").await.unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).await.unwrap();
    assert_eq!(back, b"ping");
}

#[tokio::test]
async fn authorities_that_change_are_used_by_new_connections_and_bad_ones_are_not() {
    let partner = Partner::new();
    let next = Authority::new().unwrap();
    let application = Application::echo("orders");
    let certificate = next.issue_for_host(HOST).unwrap();
    let mesh = outside(
        &application.in_tls(tls::server(&certificate, BOTH, None)),
        "AUTO",
        &partners_fields(),
        &partner.entry(""),
    );
    let mesh = mesh.start().await;
    assert_eq!(asked(&mesh, Speaks::Http1).await.reason(), "tls_failed");
    partner.put("authorities.pem", next.pem());
    let served = || async { (asked(&mesh, Speaks::Http1).await.status == 200).then_some(()) };
    until("the new authority is trusted", served).await;
    // What cannot be used leaves the old one in force, and is counted.
    partner.put("authorities.pem", "no certificate at all");
    let refused = [("kind", "upstream"), ("result", "refused")];
    mesh.pod("storefront").metric_reaches("trama_certificate_updates_total", &refused, 1.0).await;
    assert_eq!(asked(&mesh, Speaks::Http2).await.status, 200);
    // The authority from before is trusted no longer, on connections that are open neither.
    partner.put("authorities.pem", partner.authority.pem());
    let gone = || async { (asked(&mesh, Speaks::Http1).await.reason() == "tls_failed").then_some(()) };
    until("the old authority is trusted no longer", gone).await;
}

#[tokio::test]
async fn a_listeners_certificate_is_read_again() {
    let partner = Partner::new();
    let mesh = Mesh::builder()
        .pod("orders", |p| p.serves(ORDERS).application(&Application::echo("orders")))
        .pod("storefront", |p| p.listener("tls", &partner.listener()));
    let mesh = mesh.start().await;
    let pod = mesh.pod("storefront");
    let shown = || shown(pod, pod.at(EXPLICIT + 1));
    let first = shown().await;
    assert_eq!(first, der(&partner.at("listener.pem")));
    partner.put_certificate("listener", &partner.issued());
    let second = der(&partner.at("listener.pem"));
    until("the new certificate is shown", || async { (shown().await == second).then_some(()) }).await;
    partner.put("listener.key", &partner.issued().key);
    let refused = [("kind", "listener"), ("result", "refused")];
    pod.metric_reaches("trama_certificate_updates_total", &refused, 1.0).await;
    assert_eq!(shown().await, second, "a key that does not fit was taken");
    let accepted = [("kind", "listener"), ("result", "accepted")];
    pod.metric_reaches("trama_certificate_updates_total", &accepted, 1.0).await;
}

#[tokio::test]
async fn a_client_that_says_no_protocol_is_served_http_1_1() {
    let partner = Partner::new();
    let mesh = Mesh::builder()
        .pod("orders", |p| p.serves(ORDERS).application(&Application::echo("orders")))
        .pod("storefront", |p| p.listener("tls", &partner.listener()));
    let mesh = mesh.start().await;
    let pod = mesh.pod("storefront");
    let stream = pod.dial(pod.at(EXPLICIT + 1)).await.unwrap();
    let stream = tls::connect(stream, tls::client(None, &[]), HOST).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), None);
    let mut client = Client::begin(stream, Speaks::Http1, "orders.shop").await.unwrap();
    let answer = client.post("/asked", "body").await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"body"[..]));
    assert_eq!(pod.logged("/asked").await["protocol"], "http/1.1");
}

#[tokio::test]
async fn a_listener_that_wants_client_certificates_serves_nobody_without_a_good_one() {
    let partner = Partner::new();
    let (application, seen) = Application::recording("orders");
    let mesh = Mesh::builder()
        .pod("orders", |p| p.serves(ORDERS).application(&application))
        .pod("storefront", |p| p.listener("tls", &partner.listener_for_clients()));
    let mesh = mesh.start().await;
    let pod = mesh.pod("storefront");
    let ends = |result, reason| [("peer", "downstream"), ("result", result), ("reason", reason)];
    // Whoever the authority vouches for may call: this listener names nobody.
    for good in [partner.issued(), partner.authority.issue("spiffe://partner.test/anyone").unwrap()] {
        for speaks in VERSIONS {
            assert!(called(pod, Some(&good), speaks).await, "{speaks:?}");
        }
    }
    pod.metric_reaches("trama_tls_handshakes_total", &ends("ok", ""), 4.0).await;
    let known = seen.all().len();
    let (host, stranger) = ("client.partner.test", Authority::new().unwrap());
    for (certificate, reason) in [
        (None, "missing"),
        (Some(partner.authority.issue_expired_for_host(host).unwrap()), "expired"),
        (Some(stranger.issue_for_host(host).unwrap()), "unknown_issuer"),
        // The mesh's own authority is not the listener's.
        (Some(mesh.authority().issue("spiffe://mesh.test/ns/shop/sa/orders").unwrap()), "unknown_issuer"),
    ] {
        let before = pod.metric("trama_tls_handshakes_total", &ends("failed", reason)).await;
        for (speaks, count) in VERSIONS.into_iter().zip([1.0, 2.0]) {
            assert!(!called(pod, certificate.as_ref(), speaks).await, "{reason}, {speaks:?}: it was served");
            pod.metric_reaches("trama_tls_handshakes_total", &ends("failed", reason), before + count).await;
        }
    }
    assert_eq!(seen.all().len(), known, "something got through");
}

/// Of those whom the authority vouches for, only who is named.
#[tokio::test]
async fn a_listener_that_names_its_clients_serves_no_other() {
    let partner = Partner::new();
    let bundle = partner.at("authorities.pem");
    let names = "[spiffe://partner.test/buyer, client.partner.test]";
    let listener =
        partner.listener_with(&format!(", clientBundle: {}, clientNames: {names}", bundle.display()));
    let (application, seen) = Application::recording("orders");
    let mesh = Mesh::builder()
        .pod("orders", |p| p.serves(ORDERS).application(&application))
        .pod("storefront", |p| p.listener("tls", &listener));
    let mesh = mesh.start().await;
    let pod = mesh.pod("storefront");
    let of = |id: &str| partner.authority.issue(id).unwrap();
    for good in
        [of("spiffe://partner.test/buyer"), partner.authority.issue_for_host("client.partner.test").unwrap()]
    {
        for speaks in VERSIONS {
            assert!(called(pod, Some(&good), speaks).await, "{speaks:?}");
        }
    }
    let known = seen.all().len();
    let others = [
        (of("spiffe://partner.test/buyer/2"), "wrong_identity"),
        (partner.issued(), "wrong_identity"),
        // The chain comes before the name.
        (Authority::new().unwrap().issue("spiffe://partner.test/buyer").unwrap(), "unknown_issuer"),
    ];
    for (certificate, reason) in &others {
        let labels = [("peer", "downstream"), ("result", "failed"), ("reason", *reason)];
        let before = pod.metric("trama_tls_handshakes_total", &labels).await;
        for (speaks, count) in VERSIONS.into_iter().zip([1.0, 2.0]) {
            assert!(!called(pod, Some(certificate), speaks).await, "{reason}, {speaks:?}: it was served");
            pod.metric_reaches("trama_tls_handshakes_total", &labels, before + count).await;
        }
    }
    assert_eq!(seen.all().len(), known, "something got through");
}

/// Whether a client with this certificate is served by the TLS listener.
async fn called(pod: &Pod, certificate: Option<&Issued>, speaks: Speaks) -> bool {
    let alpn: &[u8] = if speaks == Speaks::Http2 { b"h2" } else { b"http/1.1" };
    let stream = pod.dial(pod.at(EXPLICIT + 1)).await.unwrap();
    let Ok(stream) = tls::connect(stream, tls::client(certificate, &[alpn]), HOST).await else {
        return false;
    };
    // TLS 1.3 refuses a client's certificate after the client thinks that all is well.
    let Ok(mut client) = Client::begin(stream, speaks, "orders.shop").await else { return false };
    let request = client.request("GET", "/called").body(Payload::empty()).unwrap();
    client.call(request).await.is_ok_and(|answer| answer.status == 200)
}

#[tokio::test]
async fn a_session_with_a_client_certificate_is_never_resumed() {
    let partner = Partner::new();
    let mesh = Mesh::builder()
        .pod("storefront", |p| p.serves("shop/storefront").listener("tls", &partner.listener()))
        .start()
        .await;
    let pod = mesh.pod("storefront");
    let issued = mesh.authority().issue("spiffe://mesh.test/ns/shop/sa/orders").unwrap();
    let to_mesh = tls::client(Some(&issued), &[b"trama-h2/1"]);
    assert_eq!(
        second_handshake(pod, pod.mesh(), &to_mesh, "8080.storefront.shop").await,
        HandshakeKind::Full
    );
    // Where nobody looks at clients, it saves a round of signatures.
    let to_listener = tls::client(None, &[b"h2"]);
    let resumed = second_handshake(pod, pod.at(EXPLICIT + 1), &to_listener, HOST).await;
    assert_eq!(resumed, HandshakeKind::Resumed);
}

/// How the second of two connections was made, after the first has heard all that the server says of itself.
async fn second_handshake(
    pod: &Pod,
    at: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &str,
) -> HandshakeKind {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut kind = None;
    for _ in 0..2 {
        let stream = pod.dial(at).await.unwrap();
        let mut stream = tls::connect(stream, Arc::clone(config), name).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        stream.read_exact(&mut [0; 9]).await.unwrap();
        kind = stream.get_ref().1.handshake_kind();
    }
    kind.unwrap()
}

/// The certificate that a listener shows.
async fn shown(pod: &Pod, at: SocketAddr) -> Vec<u8> {
    let stream = pod.dial(at).await.unwrap();
    let stream = tls::connect(stream, tls::client(None, &[b"h2"]), HOST).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn der(path: &Path) -> Vec<u8> {
    use rustls_pki_types::{CertificateDer, pem::PemObject};
    CertificateDer::from_pem_file(path).unwrap().to_vec()
}
