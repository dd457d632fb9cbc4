//! Interim answers (1xx) on their way through the mesh: hints are passed on as they come, `100` belongs to one connection.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use trama_tests::mesh::{Application, EXPLICIT, Mesh, PATIENCE, Speaks};

/// What the client speaks, what the application speaks, and whether it has a sidecar.
const WAYS: [(Speaks, Speaks, bool); 8] = [
    (Speaks::Http1, Speaks::Http1, true),
    (Speaks::Http1, Speaks::Http2, true),
    (Speaks::Http2, Speaks::Http1, true),
    (Speaks::Http2, Speaks::Http2, true),
    (Speaks::Http1, Speaks::Http1, false),
    (Speaks::Http1, Speaks::Http2, false),
    (Speaks::Http2, Speaks::Http1, false),
    (Speaks::Http2, Speaks::Http2, false),
];

async fn mesh_of(application: &Application, speaks: Speaks, meshed: bool) -> Mesh {
    let builder = Mesh::builder().pod("orders", |p| {
        let p = p.serves("shop/orders").application(application);
        if meshed { p } else { p.plain() }
    });
    let protocol = if speaks == Speaks::Http1 { "HTTP" } else { "HTTP2" };
    builder.pod("storefront", |p| p).policy(|p| p.protocol("shop/orders", protocol)).start().await
}

/// A client that sees every head.
enum Caller {
    Http1(Box<BufReader<TcpStream>>),
    Http2(h2::client::ResponseFuture, h2::SendStream<Bytes>),
}

impl Caller {
    /// Sends a request's head; with a body to come it expects `100`.
    async fn begin(mesh: &Mesh, speaks: Speaks, body: bool) -> Self {
        let pod = mesh.pod("storefront");
        let mut stream = pod.dial(pod.at(EXPLICIT)).await.unwrap();
        if speaks == Speaks::Http1 {
            let head = if body {
                "POST / HTTP/1.1\r\nhost: orders.shop\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n"
            } else {
                "GET / HTTP/1.1\r\nhost: orders.shop\r\n\r\n"
            };
            stream.write_all(head.as_bytes()).await.unwrap();
            return Self::Http1(Box::new(BufReader::new(stream)));
        }
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder().uri("http://orders.shop/");
        let request = if body { request.method("POST").header("expect", "100-continue") } else { request };
        let (answer, stream) = sender.send_request(request.body(()).unwrap(), !body).unwrap();
        Self::Http2(answer, stream)
    }

    /// The next head, interim or final.
    async fn head(&mut self) -> (StatusCode, HeaderMap) {
        let next = async {
            match self {
                Self::Http1(stream) => http1_head(stream).await,
                Self::Http2(answer, _) => http2_head(answer).await,
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("a head")
    }

    async fn body(&mut self) {
        match self {
            Self::Http1(stream) => stream.write_all(b"four").await.unwrap(),
            Self::Http2(_, stream) => stream.send_data(Bytes::from_static(b"four"), true).unwrap(),
        }
    }
}

async fn http1_head(stream: &mut BufReader<TcpStream>) -> (StatusCode, HeaderMap) {
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no status: {line:?}")).parse().unwrap();
    let mut headers = HeaderMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await.unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { return (status, headers) };
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
}

async fn http2_head(answer: &mut h2::client::ResponseFuture) -> (StatusCode, HeaderMap) {
    poll_fn(|cx| match answer.poll_informational(cx) {
        Poll::Ready(Some(head)) => {
            let head = head.unwrap().into_parts().0;
            Poll::Ready((head.status, head.headers))
        }
        _ => Pin::new(&mut *answer).poll(cx).map(|head| {
            let head = head.unwrap().into_parts().0;
            (head.status, head.headers)
        }),
    })
    .await
}

/// Reads a request's head off an HTTP/1 connection.
async fn request_head(stream: &mut BufReader<TcpStream>) -> bool {
    let mut line = String::new();
    while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
        line.clear();
    }
    line == "\r\n"
}

/// Sends a `100`, a hint with fields that must not travel, and when it may go on another hint and the answer.
fn hinting(speaks: Speaks, may: watch::Receiver<bool>) -> Application {
    Application::raw(move |stream| {
        let mut may = may.clone();
        async move {
            if speaks == Speaks::Http1 {
                let mut stream = BufReader::new(stream);
                request_head(&mut stream).await;
                let first = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\
                             connection: x-hop\r\nx-hop: 1\r\ntrama-reason: denied\r\ncontent-length: 5\r\n\r\n";
                stream.write_all(first.as_bytes()).await.unwrap();
                may.wait_for(|may| *may).await.unwrap();
                let rest = "HTTP/1.1 103 Early Hints\r\nlink: </c>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(rest.as_bytes()).await.unwrap();
                // Open until the peer has enough.
                request_head(&mut stream).await;
                return;
            }
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let mut may = may.clone();
                tokio::spawn(async move {
                    let hint = |links: &[&'static str]| {
                        let mut head = Response::builder().status(103);
                        for link in links {
                            head = head.header("link", *link);
                        }
                        head.body(()).unwrap()
                    };
                    respond.send_informational(Response::builder().status(100).body(()).unwrap()).unwrap();
                    let mut first = hint(&["</a>", "</b>"]);
                    first.headers_mut().insert("trama-reason", HeaderValue::from_static("denied"));
                    respond.send_informational(first).unwrap();
                    may.wait_for(|may| *may).await.unwrap();
                    respond.send_informational(hint(&["</c>"])).unwrap();
                    respond.send_response(Response::new(()), true).unwrap();
                });
            }
        }
    })
}

#[tokio::test]
async fn hints_are_passed_on_as_they_come_without_what_concerns_one_connection() {
    for (client, application, meshed) in WAYS {
        let name = format!("{client:?} to {application:?}, meshed: {meshed}");
        let (go_on, may) = watch::channel(false);
        let mesh = mesh_of(&hinting(application, may), application, meshed).await;
        let mut caller = Caller::begin(&mesh, client, false).await;
        // It is here before there is an answer, or the application would wait for ever.
        let (status, headers) = caller.head().await;
        assert_eq!(status, 103, "{name}: {headers:?}");
        let links: Vec<_> = headers.get_all("link").iter().collect();
        assert_eq!(links, ["</a>", "</b>"], "{name}");
        assert_eq!(headers.len(), links.len(), "{name}: {headers:?}");
        go_on.send(true).unwrap();
        let (status, headers) = caller.head().await;
        assert_eq!((status.as_u16(), headers.get("link").unwrap().as_bytes()), (103, &b"</c>"[..]), "{name}");
        let (status, headers) = caller.head().await;
        assert_eq!(status, 200, "{name}: {headers:?}");
    }
}

#[tokio::test]
async fn a_client_that_waits_for_100_gets_it_and_then_sends_its_body() {
    for (client, application, meshed) in WAYS {
        let name = format!("{client:?} to {application:?}, meshed: {meshed}");
        let (serving, seen) = Application::recording("orders");
        let mesh = mesh_of(&serving, application, meshed).await;
        let mut caller = Caller::begin(&mesh, client, true).await;
        assert_eq!(caller.head().await.0, 100, "{name}");
        caller.body().await;
        assert_eq!(caller.head().await.0, 200, "{name}");
        assert_eq!(&seen.all()[0].body[..], b"four", "{name}");
    }
}

/// RFC 9110 section 15.2: an interim answer is not the answer, so another attempt may still give that.
#[tokio::test]
async fn a_request_is_tried_again_after_a_hint() {
    for (client, meshed) in
        [(Speaks::Http1, true), (Speaks::Http2, true), (Speaks::Http1, false), (Speaks::Http2, false)]
    {
        let name = format!("{client:?}, meshed: {meshed}");
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let application = Application::raw(move |stream| {
            let count = Arc::clone(&count);
            async move {
                let mut stream = BufReader::new(stream);
                if !request_head(&mut stream).await {
                    return;
                }
                let again = count.fetch_add(1, Ordering::SeqCst) > 0;
                stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").await.unwrap();
                if again {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                    request_head(&mut stream).await;
                }
            }
        });
        let mesh = mesh_of(&application, Speaks::Http1, meshed).await;
        let mut caller = Caller::begin(&mesh, client, false).await;
        let mut heads = Vec::new();
        while heads.last().is_none_or(|status: &StatusCode| status.is_informational()) {
            heads.push(caller.head().await.0);
        }
        assert_eq!(heads, [103, 103, 200], "{name}");
        assert_eq!(made.load(Ordering::SeqCst), 2, "{name}");
    }
}
