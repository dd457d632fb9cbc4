//! Peers that close, reset, stall or talk nonsense below the request: in a TLS handshake, in HTTP/2's frames, in TCP. Each
//! is one named failure of one request, and what passes beside it on another connection does not notice.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use http_body_util::BodyExt;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use trama_tests::frames::has_request;
use trama_tests::mesh::{APPLICATION, Application, Client, Mesh, Payload, Speaks};

/// What is spoken to the peer.
#[derive(Clone, Copy, PartialEq)]
enum Leg {
    Http1,
    Http2,
    Tls,
}

/// What the peer does when it has said all.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Closes,
    Resets,
    ResetsTheStream,
    Stalls,
}

struct Wrong {
    name: &'static str,
    leg: Leg,
    /// Waits for the request, and for nothing but the first bytes otherwise.
    heard: bool,
    says: &'static [u8],
    then: Then,
    /// The caller's status; 200: the answer breaks off in its body.
    status: u16,
    reason: &'static str,
}

const fn wrong(
    (name, leg, heard): (&'static str, Leg, bool),
    says: &'static [u8],
    then: Then,
    (status, reason): (u16, &'static str),
) -> Wrong {
    Wrong { name, leg, heard, says, then, status, reason }
}

const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
/// SETTINGS, and on stream 1 a head `:status: 200` and three bytes.
const HALF: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x04\0\0\0\x01\x88\0\0\x03\0\0\0\0\0\x01abc";
/// RST_STREAM on stream 1, INTERNAL_ERROR.
const RESET: &[u8] = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x02";
const ONLY_RESET: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x04\x03\0\0\0\0\x01\0\0\0\x02";
/// SETTINGS of five bytes (RFC 9113 section 6.5: a connection error).
const ODD_SETTINGS: &[u8] = b"\0\0\x05\x04\0\0\0\0\0\0\0\0\0\0";
/// A head that names an entry of an empty table (RFC 7541 section 2.3.3).
const ODD_HEAD: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x04\0\0\0\x01\xff";
const H1_HALF: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n012";

const TABLE: &[Wrong] = &[
    wrong(("h1-resets", Leg::Http1, true), b"", Then::Resets, (502, "upstream_closed")),
    wrong(("h1-resets-in-the-body", Leg::Http1, true), H1_HALF, Then::Resets, (200, "upstream_closed")),
    wrong(("h2-closes", Leg::Http2, false), b"", Then::Closes, (502, "upstream_closed")),
    wrong(("h2-resets", Leg::Http2, true), SETTINGS, Then::Resets, (502, "upstream_closed")),
    wrong(("h2-stalls-before-settings", Leg::Http2, false), b"", Then::Stalls, (504, "request_timeout")),
    wrong(("h2-stalls", Leg::Http2, true), SETTINGS, Then::Stalls, (504, "request_timeout")),
    wrong(
        ("h2-speaks-http1", Leg::Http2, false),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        Then::Closes,
        (502, "upstream_malformed"),
    ),
    wrong(("h2-odd-settings", Leg::Http2, false), ODD_SETTINGS, Then::Closes, (502, "upstream_malformed")),
    wrong(("h2-odd-head", Leg::Http2, true), ODD_HEAD, Then::Closes, (502, "upstream_malformed")),
    wrong(("h2-resets-the-stream", Leg::Http2, true), ONLY_RESET, Then::Stalls, (502, "upstream_closed")),
    wrong(
        ("h2-resets-the-stream-in-the-body", Leg::Http2, true),
        HALF,
        Then::ResetsTheStream,
        (200, "upstream_closed"),
    ),
    wrong(("h2-closes-in-the-body", Leg::Http2, true), HALF, Then::Closes, (200, "upstream_closed")),
    wrong(("h2-stalls-in-the-body", Leg::Http2, true), HALF, Then::Stalls, (200, "request_timeout")),
    wrong(("tls-closes", Leg::Tls, false), b"", Then::Closes, (503, "tls_failed")),
    wrong(("tls-resets", Leg::Tls, false), b"", Then::Resets, (503, "tls_failed")),
    wrong(("tls-speaks-smtp", Leg::Tls, false), b"220 mail ready\r\n", Then::Stalls, (503, "tls_failed")),
    wrong(("tls-half-a-record", Leg::Tls, false), b"\x16\x03\x03\x40", Then::Closes, (503, "tls_failed")),
    wrong(("tls-stalls", Leg::Tls, false), b"", Then::Stalls, (503, "connect_timeout")),
];

impl Wrong {
    /// `heard`: one place for each answer whose head the caller has.
    async fn act(&self, mut stream: TcpStream, heard: Arc<Semaphore>) {
        let mut read = Vec::new();
        loop {
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
            if !self.heard || has_request(&read) {
                break;
            }
        }
        stream.write_all(self.says).await.ok();
        if self.status == 200 {
            // Else the sidecar could hear of the end before it has passed anything on.
            heard.acquire().await.unwrap().forget();
        }
        match self.then {
            Then::Closes => {
                stream.shutdown().await.ok();
                // Until the other side has closed too: a reset would be another story.
                while stream.read_buf(&mut read).await.unwrap_or(0) > 0 {}
            }
            Then::Resets => {
                SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
            }
            Then::ResetsTheStream => {
                stream.write_all(RESET).await.ok();
                std::future::pending().await
            }
            Then::Stalls => std::future::pending().await,
        }
    }

    /// As its endpoint stands in the policy. Where TLS is spoken, its record says that it has a sidecar.
    fn documents(&self, mesh: &Mesh) -> String {
        let (name, ip) = (self.name, mesh.pod(self.name).at(0).ip());
        let record = match self.leg {
            Leg::Tls => format!(
                ", identity: \"spiffe://mesh.test/ns/shop/sa/{name}\", mesh: {{ address: \"{ip}:{APPLICATION}\" }}"
            ),
            Leg::Http1 | Leg::Http2 => String::new(),
        };
        let protocol = if self.leg == Leg::Http2 { "HTTP2" } else { "HTTP" };
        let timeouts = match self.reason {
            "request_timeout" => "\n      timeouts: { request: 500ms }",
            _ => "",
        };
        format!(
            "kind: Service\nmetadata: {{ name: {name}, namespace: shop }}\n\
             spec: {{ ports: [{{ port: 80, targetPort: {APPLICATION}, appProtocol: {protocol} }}] }}\n---\n\
             kind: EndpointSet\nmetadata: {{ name: {name}, namespace: shop }}\n\
             spec:\n  service: {name}\n  endpoints: [{{ address: {ip}{record} }}]\n---\n\
             kind: Route\nmetadata: {{ name: {name}, namespace: shop }}\nspec:\n  \
             parentRefs: [{{ service: {name} }}]\n  rules:\n    - name: all\n      retry: {{ attempts: 0 }}{timeouts}\n"
        )
    }
}

/// The answer's status, and whether it came whole. The peer learns when the head of one is there.
async fn told(client: &mut Client, heard: &Semaphore) -> (u16, bool) {
    let request = client.request("GET", "/wrong").body(Payload::empty()).unwrap();
    let Ok(answer) = client.send(request).await else { return (0, false) };
    let status = answer.status().as_u16();
    if status == 200 {
        heard.add_permits(1);
    }
    (status, answer.into_body().collect().await.is_ok())
}

#[tokio::test]
async fn each_is_one_named_failure_and_nobody_else_notices() {
    let mut builder = Mesh::builder()
        .pod("storefront", |p| p.config("timeouts: { connect: 300ms }"))
        .pod("good", |p| p.serves("shop/good").application(&Application::streaming_echo()));
    let heard = Arc::new(Semaphore::new(0));
    for wrong in TABLE {
        let heard = Arc::clone(&heard);
        let application = Application::raw(move |stream| wrong.act(stream, Arc::clone(&heard)));
        builder = builder.pod(wrong.name, |p| p.application(&application).plain());
    }
    let mut mesh = builder.start().await;
    let documents: Vec<String> = TABLE.iter().map(|wrong| wrong.documents(&mesh)).collect();
    mesh.publish(|p| p.more(&documents.join("---\n")));
    mesh.pod("storefront").metric_reaches("trama_policy_revision", &[], 2.0).await;

    // The neighbour: one request that is on its way all the time.
    let mut neighbour = mesh.pod("storefront").http(Speaks::Http1, "good.shop").await;
    let (feed, body) = Payload::stream();
    let request = neighbour.request("POST", "/neighbour").body(body).unwrap();
    assert!(feed.data("begin").await);
    let mut echo = neighbour.send(request).await.unwrap().into_body();
    let mut failed = Vec::new();
    for Wrong { name, status, reason, .. } in TABLE {
        let mut client = mesh.pod("storefront").http(Speaks::Http2, &format!("{name}.shop")).await;
        let (got, whole) = told(&mut client, &heard).await;
        let service = format!("shop/{name}");
        let entry = mesh.pod("storefront").logged_where(name, |e| e["service"] == service).await;
        // What we say ourselves is whole; what breaks off is not.
        if got != *status || whole == (got == 200) || entry["reason"] != *reason {
            failed.push(format!("{name}: {got} in place of {status}, whole: {whole}: {entry}"));
        }
        // Only that request: its connection goes on, and so does the neighbour's request.
        assert!(!client.is_closed(), "{name}: the connection is gone");
        assert!(feed.data(*name).await, "{name}: the neighbour is gone");
        let mut back = Vec::new();
        while !back.ends_with(name.as_bytes()) {
            let frame = echo.frame().await.unwrap_or_else(|| panic!("{name}: the neighbour's end"));
            back.extend_from_slice(frame.unwrap().data_ref().unwrap());
        }
    }
    drop(feed);
    while let Some(frame) = echo.frame().await {
        frame.unwrap();
    }
    assert!(failed.is_empty(), "{failed:#?}");
    let entry = mesh.pod("storefront").logged("/neighbour").await;
    assert!(entry.get("reason").is_none(), "{entry}");
}
