//! The mesh leg frame by frame, from both of its ends: what a sidecar says of itself when it calls and when it is called,
//! what a request looks like there, and how one is refused.
//!
//! A change here is a change of the contract between sidecars of different versions.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::client::TlsStream;
use trama_tests::frames::{Frames, INITIAL_WINDOW, REFUSED_STREAM, Said, opening};
use trama_tests::mesh::{Application, EXPLICIT, MESH, Mesh, PATIENCE, Payload, Speaks};
use trama_tests::tls;

const HTTP2: &[u8] = b"trama-h2/1";
const TCP: &[u8] = b"trama-tcp/1";
const ORDERS: &str = "spiffe://mesh.test/ns/shop/sa/orders";
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// A stream that writes down what it reads.
struct Heard<S>(S, Arc<Mutex<Vec<u8>>>);

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(cx, buf))?;
        self.1.lock().unwrap().extend_from_slice(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A called sidecar of the test's own: it answers 200 and tells what it was asked.
struct Called {
    bytes: Arc<Mutex<Vec<u8>>>,
    requests: mpsc::UnboundedReceiver<Request<()>>,
}

impl Called {
    fn listen(mesh: &Mesh, listener: TcpListener) -> Self {
        let issued = mesh.authority().issue(ORDERS).unwrap();
        let acceptor = TlsAcceptor::from(tls::server(&issued, &[HTTP2], Some(mesh.authority())));
        let (tell, requests) = mpsc::unbounded_channel();
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let heard = Arc::clone(&bytes);
        tokio::spawn(async move {
            // One connection carries all.
            let (stream, _) = listener.accept().await.unwrap();
            let stream = Heard(acceptor.accept(stream).await.unwrap(), heard);
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                tell.send(request.map(drop)).unwrap();
                respond.send_response(Response::new(()), true).unwrap();
            }
        });
        Self { bytes, requests }
    }

    async fn next(&mut self) -> Request<()> {
        timeout(PATIENCE, self.requests.recv()).await.expect("a request comes").unwrap()
    }
}

/// The orders' service, and its mesh port.
fn orders_at(at: SocketAddr) -> String {
    format!(
        "kind: Service\nmetadata: {{ name: orders, namespace: shop }}\n\
         spec: {{ ports: [{{ port: 80, targetPort: 8080 }}] }}\n---\n\
         kind: EndpointSet\nmetadata: {{ name: orders, namespace: shop }}\nspec:\n  service: orders\n  \
         endpoints: [{{ address: {}, identity: \"{ORDERS}\", mesh: {{ address: \"{at}\" }} }}]\n",
        at.ip()
    )
}

/// A client whose sidecar finds the orders' mesh port where the test listens.
async fn calling() -> (Mesh, Called) {
    let mut mesh = Mesh::builder()
        .pod("orders", |p| p.plain())
        .pod("storefront", |p| p)
        .policy(|p| p.service("shop/another", ""))
        .start()
        .await;
    let at = mesh.pod("orders").at(MESH);
    let called = Called::listen(&mesh, TcpListener::bind(at).await.unwrap());
    mesh.publish(|p| p.more(&orders_at(at)));
    mesh.pod("storefront").metric_reaches("trama_policy_revision", &[], 2.0).await;
    (mesh, called)
}

#[tokio::test]
async fn the_calling_sidecar() {
    let (mesh, mut called) = calling().await;
    let pod = mesh.pod("storefront");
    // Fields of one connection, fields that only sidecars may set, and an ordinary one.
    let fields = "connection: x-mine, keep-alive\r\nx-mine: 1\r\nkeep-alive: timeout=5\r\nte: trailers, gzip\r\n\
                  upgrade: h2c\r\nproxy-connection: close\r\ntrama-client-version: 2\r\nx-order: 7\r\n";
    for version in ["1.0", "1.1"] {
        let mut stream = pod.dial(pod.at(EXPLICIT)).await.unwrap();
        let text = format!("GET /orders?id=7 HTTP/{version}\r\nhost: orders.shop\r\n{fields}\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert!(answer.ends_with(b" 200"), "{answer:?}");
        let request = called.next().await;
        assert_eq!(request.method(), "GET");
        assert_eq!(request.uri(), "http://orders.shop/orders?id=7", "scheme, authority and path");
        let expected = [("te", "trailers"), ("trama-client-version", version), ("x-order", "7")];
        assert_eq!(fields_of(&request), expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into());
    }
    let mut client = pod.http(Speaks::Http2, "orders.shop").await;
    let request = client.request("POST", "/orders").header("trama-client-version", "1.0");
    client.call(request.body(Payload::of("tea")).unwrap()).await.unwrap();
    let request = called.next().await;
    let expected = [("content-length", "3"), ("trama-client-version", "2")];
    assert_eq!(fields_of(&request), expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into());

    let (settings, window) = opening(&called.bytes.lock().unwrap());
    assert_eq!((settings[&INITIAL_WINDOW], window), (STREAM_WINDOW, CONNECTION_WINDOW));
    assert_eq!(settings[&ENABLE_PUSH], 0);
}

/// `SETTINGS_ENABLE_PUSH`.
const ENABLE_PUSH: u16 = 2;

fn fields_of(request: &Request<()>) -> BTreeMap<String, String> {
    let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
    request.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

async fn dial(mesh: &Mesh, alpn: &[u8]) -> TlsStream<TcpStream> {
    let issued = mesh.authority().issue("spiffe://mesh.test/ns/shop/sa/storefront").unwrap();
    let stream = mesh.pod("orders").dial(mesh.pod("orders").mesh()).await.unwrap();
    tls::connect(stream, tls::client(Some(&issued), &[alpn]), "8080.orders.shop").await.unwrap()
}

/// Reads as far as the HEADERS of a request (RFC 9113 section 6.2). Who breaks off before has not got it, and the caller is
/// told so where the sidecar sees the end before it writes.
async fn until_a_request(stream: &mut TcpStream) -> io::Result<()> {
    const HEADERS: u8 = 1;
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let [a, b, c, kind, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).await?;
        if kind == HEADERS {
            return Ok(());
        }
    }
}

#[tokio::test]
async fn the_called_sidecar() {
    let (application, seen) = Application::recording("orders");
    let builder = Mesh::builder().pod("orders", |p| p.serves("shop/orders").application(&application));
    let mut mesh = builder.start().await;
    let mut frames = Frames::begin(dial(&mesh, HTTP2).await).await;
    let head = |method, path| {
        [
            (":method", method),
            (":scheme", "http"),
            (":path", path),
            (":authority", "orders.shop"),
            ("trama-client-version", "1.0"),
        ]
    };
    frames.head(1, &head("GET", "/first"), true).await.unwrap();
    assert_eq!(frames.hear().await, Said::Head(1, 200));
    assert_eq!((frames.settings[&INITIAL_WINDOW], frames.window), (STREAM_WINDOW, CONNECTION_WINDOW));
    let arrived = &seen.of("/first")[0];
    assert_eq!(arrived.version, http::Version::HTTP_11, "the application is spoken to as the client spoke");
    assert!(!arrived.headers.contains_key("trama-client-version"), "{:?}", arrived.headers);

    // The application never got it: any method may be sent elsewhere.
    mesh.pod_mut("orders").kill_application().await;
    for (stream, method) in [(3, "GET"), (5, "POST")] {
        frames.head(stream, &head(method, "/second"), false).await.unwrap();
        assert_eq!(frames.hear().await, Said::Reset(stream, REFUSED_STREAM), "{method}");
    }
    // It may have got it: that is told by name, for the caller to judge.
    let breaks_off = Application::raw(|mut stream| async move {
        let _ = until_a_request(&mut stream).await;
    });
    mesh.pod_mut("orders").start_application(&breaks_off);
    let (mut sender, connection) = h2::client::handshake(dial(&mesh, HTTP2).await).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://orders.shop/third").body(()).unwrap();
    let answer = timeout(PATIENCE, sender.send_request(request, true).unwrap().0).await.unwrap().unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["trama-reason"]),
        (502, &"upstream_closed".parse().unwrap())
    );
}

/// An opaque stream begins with the called sidecar's word: a length, and of what it refuses the reason's name.
#[tokio::test]
async fn the_called_sidecar_of_an_opaque_stream() {
    let application = Application::tcp_echo();
    let builder = Mesh::builder().pod("orders", |p| p.serves("shop/orders").application(&application));
    let mut mesh = builder.start().await;
    let mut stream = dial(&mesh, TCP).await;
    stream.write_all(b"tea").await.unwrap();
    let mut heard = [0xff; 4];
    timeout(PATIENCE, stream.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(heard, *b"\0tea");

    mesh.pod_mut("orders").kill_application().await;
    let mut heard = Vec::new();
    timeout(PATIENCE, dial(&mesh, TCP).await.read_to_end(&mut heard)).await.unwrap().unwrap();
    assert_eq!(heard, b"\x17application_unreachable");
}

#[tokio::test]
async fn the_calling_sidecar_of_an_opaque_stream() {
    let mut mesh = Mesh::builder()
        .pod("orders", |p| p.plain())
        .pod("storefront", |p| p.listener("orders", "protocol: TCP, service: \"shop/orders:80\""))
        .policy(|p| p.service("shop/another", ""))
        .start()
        .await;
    let at = mesh.pod("orders").at(MESH);
    let listener = TcpListener::bind(at).await.unwrap();
    mesh.publish(|p| p.more(&orders_at(at)));
    let pod = mesh.pod("storefront");
    pod.metric_reaches("trama_policy_revision", &[], 2.0).await;
    let issued = mesh.authority().issue(ORDERS).unwrap();
    let acceptor = TlsAcceptor::from(tls::server(&issued, &[TCP], Some(mesh.authority())));
    let client = async || {
        let mut client = pod.dial(pod.at(EXPLICIT + 1)).await.unwrap();
        client.write_all(b"tea").await.unwrap();
        client
    };
    let called = async || {
        let (accepted, _) = timeout(PATIENCE, listener.accept()).await.expect("a call").unwrap();
        acceptor.accept(accepted).await.unwrap()
    };
    // It has sent nothing when it hears that the application is not there; there is no other, and it comes again.
    let mut refused = client().await;
    let mut heard = Vec::new();
    for _ in 0..3 {
        let mut refusing = called().await;
        refusing.write_all(b"\x17application_unreachable").await.unwrap();
        timeout(PATIENCE, refusing.read_to_end(&mut heard)).await.expect("its end").ok();
        assert_eq!(heard, b"");
    }
    timeout(PATIENCE, refused.read_to_end(&mut heard)).await.expect("an end").ok();
    assert_eq!(heard, b"");

    let mut client = client().await;
    let mut reached = called().await;
    reached.write_all(b"\0milk").await.unwrap();
    let mut heard = [0; 3];
    timeout(PATIENCE, reached.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(heard, *b"tea");
    let mut heard = [0; 4];
    timeout(PATIENCE, client.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(heard, *b"milk");
}
