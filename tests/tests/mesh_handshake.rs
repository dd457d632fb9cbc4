//! Sidecars that after the caller's handshake say nothing, or nothing that can be understood: each is one named failure of the
//! attempt that met it, and no request was on the way.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use trama_tests::mesh::{Application, EXPLICIT, MESH, Mesh, PATIENCE, Payload, Record, Speaks, until};
use trama_tests::tls;

const ORDERS: &str = "spiffe://mesh.test/ns/shop/sa/orders";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The type of the frame that begins a request.
const HEADERS: u8 = 1;

/// What breaks HTTP/2 (RFC 9113): a length above all limits, DATA on stream 0, another protocol, SETTINGS of a length that
/// is no multiple of six, and good SETTINGS that such follow.
const NONSENSE: [&[u8]; 5] = [
    &[0xff; 64],
    &[0; 64],
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"\0\0\x05\x04\0\0\0\0\0\0\0\0\0\0",
    b"\0\0\0\x04\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
];

/// How a connection goes.
#[derive(Clone, Copy, Debug)]
enum Goes {
    EndsAtOnce,
    IsReset,
    EndsAfterThePreface,
    /// This is said, and no more; it stays open.
    Says(&'static [u8]),
}

/// Everything that callers said, connection by connection.
type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

/// A mesh port with a good certificate and connections that all go so.
async fn wordless(mesh: &Mesh, goes: Goes) -> Heard {
    let issued = mesh.authority().issue(ORDERS).unwrap();
    let protocols: &[&[u8]] = &[b"trama-h2/1", b"trama-tcp/1"];
    let acceptor = TlsAcceptor::from(tls::server(&issued, protocols, Some(mesh.authority())));
    let listener = TcpListener::bind(mesh.pod("wordless").at(MESH)).await.unwrap();
    let heard = Heard::default();
    let hears = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let number = {
                let mut heard = hears.lock().unwrap();
                heard.push(Vec::new());
                heard.len() - 1
            };
            tokio::spawn(go(stream, goes, Arc::clone(&hears), number));
        }
    });
    heard
}

async fn go(mut stream: TlsStream<TcpStream>, goes: Goes, heard: Heard, number: usize) {
    let most = match goes {
        Goes::EndsAtOnce => return,
        Goes::IsReset => {
            let socket = socket2::SockRef::from(stream.get_ref().0);
            return socket.set_linger(Some(Duration::ZERO)).unwrap();
        }
        Goes::EndsAfterThePreface => PREFACE.len() + 1,
        Goes::Says(what) => {
            stream.write_all(what).await.ok();
            stream.flush().await.ok();
            usize::MAX
        }
    };
    let mut read = Vec::new();
    while read.len() < most && stream.read_buf(&mut read).await.is_ok_and(|n| n > 0) {
        heard.lock().unwrap()[number].clone_from(&read);
    }
    if matches!(goes, Goes::Says(_)) {
        // The caller has ended it; that is not to be what it hears.
        std::future::pending().await
    }
}

/// The frames' types after the preface.
fn frames(bytes: &[u8]) -> Vec<u8> {
    let mut rest = bytes.strip_prefix(PREFACE).unwrap_or_default();
    let mut types = Vec::new();
    while let [a, b, c, kind, ..] = *rest {
        types.push(kind);
        let whole = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
        rest = rest.get(whole..).unwrap_or_default();
    }
    types
}

async fn mesh(with_another: bool, protocol: &str) -> (Mesh, Record) {
    let (application, seen) = Application::recording("orders");
    let mut mesh = Mesh::builder()
        .pod("orders", |p| {
            let p = p.application(&application);
            if with_another { p.serves("shop/orders") } else { p }
        })
        .pod("wordless", |p| p.plain())
        .pod("storefront", |p| p.listener("opaque", "protocol: TCP, service: \"shop/orders:80\""))
        .policy(|p| p.protocol("shop/orders", protocol))
        .start()
        .await;
    let at = mesh.pod("wordless").at(MESH);
    mesh.publish(|p| {
        p.more(&format!(
            "kind: EndpointSet\nmetadata: {{ name: wordless, namespace: shop }}\nspec:\n  service: orders\n  \
             endpoints: [{{ address: {}, identity: \"{ORDERS}\", mesh: {{ address: \"{at}\" }} }}]\n",
            at.ip()
        ));
    });
    mesh.pod("storefront").metric_reaches("trama_policy_revision", &[], 2.0).await;
    (mesh, seen)
}

fn no_request(heard: &Heard, what: impl std::fmt::Debug) {
    let heard = heard.lock().unwrap();
    assert!(!heard.is_empty(), "{what:?}: nothing was ever meant for it");
    for bytes in heard.iter() {
        assert!(!frames(bytes).contains(&HEADERS), "{what:?}: a request was sent: {bytes:?}");
    }
}

#[tokio::test]
async fn one_that_ends_before_it_speaks_has_failed_its_handshake_and_heard_no_request() {
    for goes in [Goes::EndsAtOnce, Goes::IsReset, Goes::EndsAfterThePreface] {
        let (mesh, _) = mesh(false, "AUTO").await;
        let heard = wordless(&mesh, goes).await;
        let mut client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
        for n in 0..10 {
            let answer = client.post(&format!("/{n}"), "an order").await;
            assert_eq!((answer.status.as_u16(), answer.reason()), (503, "tls_failed"), "{goes:?}, {n}");
        }
        no_request(&heard, goes);
    }
}

#[tokio::test]
async fn one_that_talks_nonsense_fails_whom_it_concerns_at_once_and_is_dialled_once_an_attempt() {
    for says in NONSENSE {
        let (mesh, _) = mesh(false, "AUTO").await;
        let heard = wordless(&mesh, Goes::Says(says)).await;
        let client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
        // One after the other, then many that wait for the same connection.
        for many in [1, 1, 1, 20] {
            let mut asked = JoinSet::new();
            for n in 0..many {
                let mut client = client.share();
                let path = format!("/{many}/{n}");
                asked.spawn(async move { client.call("GET", &path, Payload::empty()).await.unwrap() });
            }
            for answer in asked.join_all().await {
                let (status, reason) = (answer.status.as_u16(), answer.reason());
                assert_eq!((status, reason), (502, "upstream_malformed"), "{says:?}, {many} at once");
            }
        }
        let all = || async { (mesh.pod("storefront").log().len() == 23).then_some(()) };
        until("a line for each", all).await;
        let log = mesh.pod("storefront").log();
        let attempts: u64 = log.iter().map(|entry| entry["attempts"].as_u64().unwrap()).sum();
        let dialled = heard.lock().unwrap().len() as u64;
        assert!(dialled <= attempts, "{says:?}: dialled {dialled} times in {attempts} attempts");
        no_request(&heard, says);
    }
}

#[tokio::test]
async fn what_was_meant_for_it_goes_elsewhere_once_whatever_its_method() {
    for goes in NONSENSE.map(Goes::Says).into_iter().chain([Goes::EndsAfterThePreface]) {
        let (mesh, seen) = mesh(true, "AUTO").await;
        let heard = wordless(&mesh, goes).await;
        let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
        for n in 0..30 {
            let answer = tokio::time::timeout(PATIENCE, client.post(&format!("/{n}"), "an order")).await;
            let answer = answer.expect("an answer");
            assert_eq!(answer.status, 200, "{goes:?}, {n}: {}", answer.reason());
        }
        assert_eq!(seen.all().len(), 30, "{goes:?}");
        no_request(&heard, goes);
    }
}

/// ALPN `trama-tcp/1`: the called sidecar's first word is the length of a name, and the name; 0 is that all is well.
#[tokio::test]
async fn an_opaque_stream_without_a_sidecars_word_ends_by_name_and_none_of_it_has_left() {
    for (goes, reason) in [
        (Goes::Says(b""), "connect_timeout"),
        (Goes::Says(b"\x09conne"), "connect_timeout"),
        (Goes::Says(&[0xff; 300]), "tls_failed"),
        (Goes::Says(b"\x04\xc0\xc1\xfe\xff"), "tls_failed"),
        (Goes::EndsAtOnce, "tls_failed"),
        (Goes::IsReset, "tls_failed"),
    ] {
        let (mesh, _) = mesh(false, "TCP").await;
        let heard = wordless(&mesh, goes).await;
        let storefront = mesh.pod("storefront");
        let mut stream = storefront.dial(storefront.at(EXPLICIT + 1)).await.unwrap();
        stream.write_all(b"PING\r\n").await.unwrap();
        let mut back = Vec::new();
        // By a reset or without.
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut back)).await;
        assert!(ended.is_ok() && back.is_empty(), "{goes:?}: {ended:?}, {back:?}");
        let entry = storefront.logged_where("the stream", |e| e["protocol"] == "tcp").await;
        assert_eq!(entry["reason"], reason, "{goes:?}: {entry}");
        let heard = heard.lock().unwrap();
        assert!(!heard.is_empty() && heard.iter().all(Vec::is_empty), "{goes:?}: {heard:?}");
    }
}
