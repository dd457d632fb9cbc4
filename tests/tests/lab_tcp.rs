//! What is not HTTP, captured: servers that speak first, bytes that nobody reads, ends that each side says for itself.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use trama_tests::mesh::{APPLICATION, Application, Mesh, MeshBuilder, PATIENCE, Pod, Where};

const MAIL: &str = "shop/mail";
/// Longer than any test may take: who waits for it is late.
const NEVER: &str = "timeouts: { detect: 300s }";

/// A service, and a server that no policy knows.
fn mesh(application: &Application, ipv6: bool, storefront: &str) -> MeshBuilder {
    Mesh::builder()
        .at(Where::Namespaces)
        .ipv6(ipv6)
        .pod("mail", |p| p.serves(MAIL).application(application).config(NEVER))
        .pod("stranger", |p| p.application(application).plain())
        .pod("storefront", |p| p.config(storefront))
}

/// Through the pair, to an endpoint's own address, and to who is in no policy.
fn destinations(mesh: &Mesh) -> [(&'static str, SocketAddr); 3] {
    let [mail, stranger] = ["mail", "stranger"].map(|name| mesh.pod(name).at(APPLICATION));
    [("mail", mesh.service(MAIL)), ("mail", mail), ("stranger", stranger)]
}

async fn line(stream: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    timeout(PATIENCE, stream.read_line(&mut line)).await.expect("a line").unwrap();
    line
}

async fn streams(pod: &Pod, how_many: usize) -> Vec<Value> {
    let there = || async {
        let entries = pod.log();
        (entries.len() >= how_many).then_some(entries)
    };
    trama_tests::mesh::until("the streams in the log", there).await
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_at_once_where_it_is_declared() {
    for ipv6 in [false, true] {
        let builder = mesh(&Application::banner(), ipv6, NEVER);
        let mesh = builder.policy(|p| p.protocol(MAIL, "TCP")).start().await;
        for (name, at) in destinations(&mesh) {
            let stream = mesh.pod("storefront").dial(at).await.unwrap();
            let mut stream = BufReader::new(stream);
            assert_eq!(line(&mut stream).await, format!("220 {name} ready\r\n"), "{at}");
            stream.write_all(b"HELO me\r\n").await.unwrap();
            assert_eq!(line(&mut stream).await, "250 HELO me\r\n", "{at}");
            stream.write_all(b"QUIT\r\n").await.unwrap();
            assert_eq!(line(&mut stream).await, format!("221 {name} bye\r\n"), "{at}");
            assert_eq!(line(&mut stream).await, "", "{at}: the server's end");
        }
        let entries = streams(mesh.pod("storefront"), 3).await;
        let told = |field: &str| entries.iter().map(|e| e[field].as_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(told("service"), [MAIL, MAIL, "external"]);
        assert_eq!(told("tls"), ["mutual", "mutual", "none"]);
        assert_eq!(told("protocol"), ["tcp"; 3]);
        let caller = mesh.pod("storefront").identity();
        let entries = streams(mesh.pod("mail"), 2).await;
        assert!(entries.iter().all(|e| e["peer_identity"] == caller), "{entries:#?}");
    }
}

#[tokio::test]
async fn one_that_is_not_declared_is_waited_for_once() {
    let wait = Duration::from_millis(1500);
    let mesh = mesh(&Application::banner(), false, "timeouts: { detect: 1500ms }").start().await;
    for first in [true, false] {
        let began = Instant::now();
        let stream = mesh.pod("storefront").dial(mesh.service(MAIL)).await.unwrap();
        assert_eq!(line(&mut BufReader::new(stream)).await, "220 mail ready\r\n");
        // The called sidecar, whose own wait is for ever, was told by the handshake and does not wait.
        assert_eq!(began.elapsed() >= wait, first, "{:?}", began.elapsed());
    }
}

/// Bytes that repeat themselves only after a prime number.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

#[tokio::test]
async fn large_transfers_go_both_ways_at_once_and_arrive_whole() {
    const LENGTH: usize = 32 << 20;
    for ipv6 in [false, true] {
        let builder = mesh(&Application::tcp_echo(), ipv6, NEVER);
        let mesh = builder.policy(|p| p.protocol(MAIL, "TCP")).start().await;
        let sent = bytes(LENGTH);
        for (_, at) in destinations(&mesh) {
            let mut stream = mesh.pod("storefront").dial(at).await.unwrap();
            let (mut read, mut write) = stream.split();
            let send = async {
                write.write_all(&sent).await.unwrap();
                // The echo says its end only after it has heard ours.
                write.shutdown().await.unwrap();
            };
            let mut back = Vec::with_capacity(LENGTH);
            let (_, received) = tokio::join!(send, timeout(PATIENCE, read.read_to_end(&mut back)));
            received.expect("the end comes back").unwrap();
            assert!(back == sent, "{at}: {} bytes, or others", back.len());
        }
        for entry in streams(mesh.pod("storefront"), 3).await {
            let moved = (&entry["bytes_received"], &entry["bytes_sent"]);
            assert_eq!(moved, (&LENGTH.into(), &LENGTH.into()), "{entry}");
            assert!(entry.get("reason").is_none(), "{entry}");
        }
    }
}

/// Says all that it has to say and its end, and only then listens; answers with how much it heard.
fn speaks_then_listens() -> Application {
    Application::raw(|mut stream| async move {
        stream.write_all(&bytes(1 << 20)).await.ok();
        stream.shutdown().await.ok();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.ok();
        assert_eq!(heard, b"after your end");
    })
}

#[tokio::test]
async fn a_server_may_say_its_end_first_and_still_listen() {
    let builder = mesh(&speaks_then_listens(), false, NEVER).policy(|p| p.protocol(MAIL, "TCP"));
    let mesh = builder.start().await;
    for (_, at) in destinations(&mesh) {
        let mut stream = mesh.pod("storefront").dial(at).await.unwrap();
        let mut heard = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("the server's end").unwrap();
        assert!(heard == bytes(1 << 20), "{at}: {} bytes, or others", heard.len());
        stream.write_all(b"after your end").await.unwrap();
        stream.shutdown().await.unwrap();
    }
    for entry in streams(mesh.pod("storefront"), 3).await {
        let moved = (&entry["bytes_received"], &entry["bytes_sent"]);
        assert_eq!(moved, (&14.into(), &(1 << 20).into()), "{entry}");
        assert!(entry.get("reason").is_none(), "{entry}");
    }
}

/// Breaks off when it is told to, by `!`; else tells the test how the client ended.
fn breaks_off_when_told(ends: UnboundedSender<Result<u8, ErrorKind>>) -> Application {
    Application::raw(move |mut stream| {
        let ends = ends.clone();
        async move {
            stream.write_all(b"hello\r\n").await.ok();
            match stream.read_u8().await {
                Ok(b'!') => break_off(stream),
                end => ends.send(end.map_err(|error| error.kind())).unwrap(),
            }
        }
    })
}

fn break_off(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[tokio::test]
async fn who_breaks_off_does_so_at_the_other_end_too() {
    let (ends, mut ended) = unbounded_channel();
    let builder = mesh(&breaks_off_when_told(ends), false, NEVER).policy(|p| p.protocol(MAIL, "TCP"));
    let mesh = builder.start().await;
    for (_, at) in destinations(&mesh) {
        let mut stream = BufReader::new(mesh.pod("storefront").dial(at).await.unwrap());
        assert_eq!(line(&mut stream).await, "hello\r\n");
        stream.write_all(b"!").await.unwrap();
        let mut rest = Vec::new();
        let end = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("an end");
        assert_eq!(end.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset), "{at}: {rest:?}");

        let mut stream = BufReader::new(mesh.pod("storefront").dial(at).await.unwrap());
        assert_eq!(line(&mut stream).await, "hello\r\n");
        break_off(stream.into_inner());
        let end = timeout(PATIENCE, ended.recv()).await.expect("an end");
        assert_eq!(end, Some(Err(ErrorKind::ConnectionReset)), "{at}");
    }
    let entries = streams(mesh.pod("storefront"), 6).await;
    let reasons: Vec<_> = entries.iter().map(|e| e["reason"].as_str().unwrap_or_default()).collect();
    assert_eq!(reasons, ["upstream_closed", "downstream_closed"].repeat(3), "{entries:#?}");
}
