//! Sidecars that end a connection after the caller's handshake and before they have said anything: to the caller that is a
//! failed handshake, by one name, and no request was on the way.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use trama_tests::mesh::{Application, MESH, Mesh, PATIENCE, Speaks};
use trama_tests::tls;

const ORDERS: &str = "spiffe://mesh.test/ns/shop/sa/orders";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The type of the frame that begins a request.
const HEADERS: u8 = 1;

/// How it ends.
#[derive(Clone, Copy, Debug)]
enum Ends {
    AtOnce,
    Reset,
    AfterThePreface,
}

/// Everything that callers said, connection by connection.
type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

/// A mesh port with a good certificate that ends each connection without a word.
async fn wordless(mesh: &Mesh, ends: Ends) -> Heard {
    let issued = mesh.authority().issue(ORDERS).unwrap();
    let acceptor = TlsAcceptor::from(tls::server(&issued, &[b"trama-h2/1"], Some(mesh.authority())));
    let listener = TcpListener::bind(mesh.pod("wordless").at(MESH)).await.unwrap();
    let heard = Heard::default();
    let hears = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut read = Vec::new();
            match ends {
                Ends::AtOnce => {}
                Ends::Reset => {
                    let socket = socket2::SockRef::from(stream.get_ref().0);
                    socket.set_linger(Some(Duration::ZERO)).unwrap();
                }
                Ends::AfterThePreface => {
                    let mut bytes = stream.read_buf(&mut read).await;
                    while read.len() <= PREFACE.len() && bytes.is_ok_and(|n| n > 0) {
                        bytes = stream.read_buf(&mut read).await;
                    }
                }
            }
            hears.lock().unwrap().push(read);
        }
    });
    heard
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

async fn mesh(with_another: bool) -> (Mesh, trama_tests::mesh::Record) {
    let (application, seen) = Application::recording("orders");
    let mut mesh = Mesh::builder()
        .pod("orders", |p| {
            let p = p.application(&application);
            if with_another { p.serves("shop/orders") } else { p }
        })
        .pod("wordless", |p| p.plain())
        .pod("storefront", |p| p)
        .policy(|p| p.service("shop/orders", ""))
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

#[tokio::test]
async fn one_that_ends_before_it_speaks_has_failed_its_handshake_and_heard_no_request() {
    for ends in [Ends::AtOnce, Ends::Reset, Ends::AfterThePreface] {
        let (mesh, _) = mesh(false).await;
        let heard = wordless(&mesh, ends).await;
        let mut client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
        for n in 0..10 {
            let answer = client.post(&format!("/{n}"), "an order").await;
            assert_eq!((answer.status.as_u16(), answer.reason()), (503, "tls_failed"), "{ends:?}, {n}");
        }
        let heard = heard.lock().unwrap().clone();
        assert!(!heard.is_empty(), "{ends:?}");
        for bytes in heard {
            assert!(!frames(&bytes).contains(&HEADERS), "{ends:?}: a request was sent: {bytes:?}");
        }
    }
}

#[tokio::test]
async fn what_was_meant_for_it_goes_elsewhere_once_whatever_its_method() {
    let (mesh, seen) = mesh(true).await;
    let heard = wordless(&mesh, Ends::AfterThePreface).await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    for n in 0..30 {
        let answer = tokio::time::timeout(PATIENCE, client.post(&format!("/{n}"), "an order")).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200, "{n}: {}", answer.reason());
    }
    assert_eq!(seen.all().len(), 30);
    assert!(!heard.lock().unwrap().is_empty(), "nothing was ever meant for it");
}
