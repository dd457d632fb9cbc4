//! What is not HTTP: opaque bytes, both ways, each to its own end.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use trama_tests::mesh::{Application, EXPLICIT, Mesh, MeshBuilder, PATIENCE, Pod};

const DATABASE: &str = "shop/database";

fn mesh(application: &Application, meshed: bool, listener: &str) -> MeshBuilder {
    let fields = format!("protocol: {listener}, service: \"shop/database:80\"");
    Mesh::builder()
        .pod("database", |p| {
            let p = p.serves(DATABASE).application(application);
            if meshed { p } else { p.plain() }
        })
        .pod("storefront", |p| p.listener("database", &fields))
}

async fn dial(pod: &Pod) -> TcpStream {
    pod.dial(pod.at(EXPLICIT + 1)).await.unwrap()
}

/// A byte stream that repeats itself only after a prime number of bytes, so that nothing lost goes unnoticed.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_end_is_passed_on() {
    for meshed in [true, false] {
        let mesh = mesh(&Application::tcp_echo(), meshed, "TCP");
        let mesh = mesh.policy(|p| p.protocol(DATABASE, "TCP")).start().await;
        let mut stream = dial(mesh.pod("storefront")).await;
        let sent = bytes(3 << 20);
        let (mut read, mut write) = stream.split();
        let send = async {
            write.write_all(&sent).await.unwrap();
            // The echo ends only after this end has come to it.
            write.shutdown().await.unwrap();
        };
        let mut back = Vec::new();
        let (_, received) = tokio::join!(send, tokio::time::timeout(PATIENCE, read.read_to_end(&mut back)));
        received.expect("the end comes back").unwrap();
        assert!(back == sent, "meshed: {meshed}: {} bytes came back, or others", back.len());

        let entry = mesh.pod("storefront").logged_where("the stream", |e| e["protocol"] == "tcp").await;
        assert_eq!(entry["service"], DATABASE, "{entry}");
        assert_eq!(entry["tls"], if meshed { "mutual" } else { "none" }, "{entry}");
        assert_eq!(
            (&entry["bytes_received"], &entry["bytes_sent"]),
            (&sent.len().into(), &sent.len().into())
        );
        assert!(entry.get("reason").is_none(), "{entry}");
        if meshed {
            let entry = mesh.pod("database").logged_where("the stream", |e| e["protocol"] == "tcp").await;
            assert_eq!(entry["direction"], "inbound", "{entry}");
            assert_eq!(entry["peer_identity"], mesh.pod("storefront").identity(), "{entry}");
        }
    }
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard() {
    for meshed in [true, false] {
        // Told to be TCP, or found out.
        for protocol in ["TCP", "AUTO"] {
            let mesh = mesh(&Application::banner(), meshed, protocol);
            let mesh = mesh.policy(|p| p.protocol(DATABASE, protocol)).start().await;
            let mut stream = BufReader::new(dial(mesh.pod("storefront")).await);
            let mut line = String::new();
            let banner = tokio::time::timeout(PATIENCE, stream.read_line(&mut line)).await;
            banner.unwrap_or_else(|_| panic!("{protocol}, meshed: {meshed}: silence")).unwrap();
            assert_eq!(line, "220 database ready\r\n", "{protocol}, meshed: {meshed}");
            stream.write_all(b"HELO me\r\nQUIT\r\n").await.unwrap();
            line.clear();
            stream.read_to_string(&mut line).await.unwrap();
            assert_eq!(line, "250 HELO me\r\n221 database bye\r\n", "{protocol}, meshed: {meshed}");
        }
    }
}

#[tokio::test]
async fn a_client_that_speaks_first_on_an_undeclared_port_is_carried() {
    for meshed in [true, false] {
        let mesh = mesh(&Application::tcp_echo(), meshed, "AUTO").start().await;
        let mut stream = dial(mesh.pod("storefront")).await;
        stream.write_all(b"*1\r\n$4\r\nPING\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut back)).await.unwrap().unwrap();
        assert_eq!(back, "*1\r\n$4\r\nPING\r\n", "meshed: {meshed}");
    }
}

#[tokio::test]
async fn what_was_begun_before_the_server_spoke_is_not_lost() {
    for meshed in [true, false] {
        let mesh = mesh(&Application::banner(), meshed, "AUTO").start().await;
        let mut stream = BufReader::new(dial(mesh.pod("storefront")).await);
        // It might still become a request.
        stream.write_all(b"HELO ").await.unwrap();
        let mut line = String::new();
        let banner = tokio::time::timeout(PATIENCE, stream.read_line(&mut line)).await;
        banner.unwrap_or_else(|_| panic!("meshed: {meshed}: silence")).unwrap();
        assert_eq!(line, "220 database ready\r\n", "meshed: {meshed}");
        stream.write_all(b"me\r\nQUIT\r\n").await.unwrap();
        line.clear();
        stream.read_to_string(&mut line).await.unwrap();
        assert_eq!(line, "250 HELO me\r\n221 database bye\r\n", "meshed: {meshed}");
    }
}

#[tokio::test]
async fn silence_ends_a_stream_after_its_time() {
    let fields = "protocol: TCP, service: \"shop/database:80\"";
    let mesh = Mesh::builder()
        .pod("database", |p| p.serves(DATABASE).application(&Application::tcp_echo()))
        .pod("storefront", |p| p.listener("database", fields).config("timeouts: { tcpIdle: 400ms }"))
        .policy(|p| p.protocol(DATABASE, "TCP"))
        .start()
        .await;
    let mut stream = dial(mesh.pod("storefront")).await;
    stream.write_all(b"one word").await.unwrap();
    let mut back = [0; 8];
    stream.read_exact(&mut back).await.unwrap();
    let end = tokio::time::timeout(PATIENCE, stream.read(&mut back)).await.expect("it ends");
    // A clean end would say that it has heard everything.
    assert_eq!(end.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
    let entry = mesh.pod("storefront").logged_where("the stream", |e| e["protocol"] == "tcp").await;
    assert_eq!(entry["reason"], "stream_idle", "{entry}");
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_stepped_over_and_none_at_all_closes() {
    for meshed in [true, false] {
        let describe = |p: trama_tests::mesh::PodSpec, region: &str| {
            let p = p.serves(DATABASE).region(region).application(&Application::tcp_echo());
            if meshed { p } else { p.plain() }
        };
        let fields = "protocol: TCP, service: \"shop/database:80\"";
        let mut mesh = Mesh::builder()
            .pod("first", |p| describe(p, "sao-paulo"))
            .pod("second", |p| describe(p, "rio"))
            .pod("storefront", |p| p.listener("database", fields))
            .policy(|p| {
                p.order(&["sao-paulo", "rio"]);
                p.protocol(DATABASE, "TCP");
            })
            .start()
            .await;
        mesh.pod_mut("first").kill_application().await;
        let mut stream = dial(mesh.pod("storefront")).await;
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut back)).await.unwrap().unwrap();
        assert_eq!(back, "hello", "meshed: {meshed}");
        let like = |e: &serde_json::Value| e["protocol"] == "tcp";
        let entry = mesh.pod("storefront").logged_where("the stream", like).await;
        assert_eq!((&entry["peer_region"], &entry["attempts"]), (&"rio".into(), &2.into()), "{entry}");

        mesh.pod_mut("second").kill_application().await;
        let mut stream = dial(mesh.pod("storefront")).await;
        stream.write_all(b"hello").await.unwrap();
        let end = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 1])).await.expect("it is closed");
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        let reason = if meshed { "application_unreachable" } else { "connect_failed" };
        let like = |e: &serde_json::Value| e["reason"] == reason;
        let entry = mesh.pod("storefront").logged_where("the failure", like).await;
        assert_eq!(entry["attempts"], 3, "{entry}");
    }
}

/// A sidecar that knows of no application yet, or that refuses, has delivered nothing either; and what a policy of its own
/// says no to is not asked of the next.
#[tokio::test]
async fn what_an_endpoints_sidecar_refuses_is_told_by_name() {
    let fields = "protocol: TCP, service: \"shop/database:80\"";
    let describe = |p: trama_tests::mesh::PodSpec, region: &str| {
        p.serves(DATABASE).region(region).application(&Application::tcp_echo())
    };
    let denial = "kind: PluginChain\nmetadata: { name: inbound, namespace: shop }\n\
                  spec: { service: database, direction: INBOUND, filters: [{ sources: { deny: [0.0.0.0/0] } }] }\n";
    let mesh = Mesh::builder()
        .pod("first", |p| describe(p, "sao-paulo"))
        .pod("second", |p| describe(p, "rio"))
        .pod("storefront", |p| p.listener("database", fields))
        .policy(|p| {
            p.order(&["sao-paulo", "rio"]);
            p.protocol(DATABASE, "TCP");
            p.more(denial);
        })
        .start()
        .await;
    let mut stream = dial(mesh.pod("storefront")).await;
    let end = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 1])).await.expect("it is closed");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    for pod in ["storefront", "first"] {
        let entry = mesh.pod(pod).logged_where("the denial", |e| e["reason"] == "denied").await;
        assert_eq!(entry["protocol"], "tcp", "{entry}");
    }
    assert!(mesh.pod("second").log().is_empty(), "{:#?}", mesh.pod("second").log());
}

/// An endpoint with a mesh record is reached by mutual TLS as whom the record names, or not at all: who joins the mesh is
/// spoken to in the clear no more, and nobody in another's name.
#[tokio::test]
async fn a_live_stream_ends_when_its_endpoints_record_demands_more() {
    let fields = "protocol: TCP, service: \"shop/database:80\"";
    let mut mesh = Mesh::builder()
        .pod("database", |p| p.serves(DATABASE).application(&Application::tcp_echo()))
        .pod("other", |p| p.serves("shop/other").application(&Application::tcp_echo()))
        .pod("storefront", |p| p.listener("database", fields))
        .policy(|p| p.protocol(DATABASE, "TCP"))
        .start()
        .await;
    let mut revision = 1.0;
    let mut publish = async |mesh: &mut Mesh, change: &dyn Fn(&mut trama_tests::mesh::Policy)| {
        mesh.publish(change);
        revision += 1.0;
        mesh.pod("storefront").metric_reaches("trama_policy_revision", &[], revision).await;
    };
    publish(&mut mesh, &|p| p.meshed(DATABASE, false)).await;
    let mut clear = dial(mesh.pod("storefront")).await;
    echoes(&mut clear).await;
    // What has nothing to do with it leaves it alone.
    publish(&mut mesh, &|p| p.meshed("shop/other", false)).await;
    echoes(&mut clear).await;
    publish(&mut mesh, &|p| p.meshed(DATABASE, true)).await;
    ends(&mut clear).await;
    let entry = mesh.pod("storefront").logged_where("the end", |e| e["reason"] == "plain_refused").await;
    assert_eq!((&entry["tls"], &entry["bytes_received"]), (&"none".into(), &2.into()), "{entry}");

    let mut sealed = dial(mesh.pod("storefront")).await;
    echoes(&mut sealed).await;
    publish(&mut mesh, &|p| p.identity(DATABASE, "spiffe://mesh.test/ns/shop/sa/somebody-else")).await;
    ends(&mut sealed).await;
    let entry = mesh.pod("storefront").logged_where("the end", |e| e["reason"] == "identity_mismatch").await;
    assert_eq!((&entry["tls"], &entry["bytes_received"]), (&"mutual".into(), &1.into()), "{entry}");
}

/// One byte there and back.
async fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"x").await.unwrap();
    let back = tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("an echo");
    assert_eq!(back.unwrap(), b'x');
}

async fn ends(stream: &mut TcpStream) {
    let end = tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("it is closed");
    // A clean end would say that it has heard everything.
    assert_eq!(end.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
}
