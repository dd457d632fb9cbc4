//! Bytes that are no HTTP/2, from a client: the connection is closed, counted by the rule that is broken, and each request
//! that was under way on it says so.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use http::Response;
use http_body_util::BodyExt;
use trama_tests::frames::{Frames, Said};
use trama_tests::mesh::{Application, EXPLICIT, Mesh, Payload, Speaks, until};

const SETTINGS_OF_FIVE: &[u8] = b"\0\0\x05\x04\0\0\0\0\0\0\0\0\0\0";
/// The 64th entry of a table that has 61 (RFC 7541 section 2.3.3).
const BAD_HPACK: &[u8] = b"\0\0\x01\x01\x05\0\0\0\x03\xc0";
const DATA_ON_THE_CONNECTION: &[u8] = b"\0\0\x01\0\0\0\0\0\0x";
const NONSENSE: [(&str, &[u8]); 4] = [
    ("SETTINGS of five bytes", SETTINGS_OF_FIVE),
    ("bad HPACK", BAD_HPACK),
    ("DATA on stream 0", DATA_ON_THE_CONNECTION),
    ("junk", &[0xff; 64]),
];

/// What is under way when it comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum UnderWay {
    Nothing,
    Waiting,
    Uploading,
    Downloading,
}

/// The rule's name, by the code that the client is told (RFC 9113 section 7).
fn rule(code: u32) -> &'static str {
    match code {
        1 => "http2_protocol_error",
        6 => "http2_frame_size_error",
        9 => "http2_compression_error",
        other => panic!("code {other}"),
    }
}

/// Waits without end, reads without end, or answers without end; and says whose head has come.
fn application() -> (Application, Arc<Mutex<Vec<String>>>) {
    let (arrived, feeds) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<Vec<_>>>::default());
    let seen = Arc::clone(&arrived);
    let application = Application::http(move |request| {
        let path = request.uri().path().to_owned();
        let (seen, feeds) = (Arc::clone(&seen), Arc::clone(&feeds));
        async move {
            seen.lock().unwrap().push(path.clone());
            let (feed, body) = Payload::stream();
            if path.contains("Waiting") {
                std::future::pending::<()>().await;
            } else if path.contains("Uploading") {
                request.into_body().collect().await.ok();
            } else if path.contains("Downloading") {
                feed.data("so far").await;
                feeds.lock().unwrap().push(feed);
                return Response::new(body);
            }
            Response::new(Payload::empty())
        }
    });
    (application, arrived)
}

#[tokio::test]
async fn bytes_that_are_no_http2_end_what_is_under_way_by_name_and_are_counted() {
    let (application, arrived) = application();
    let mesh = Mesh::builder()
        .pod("orders", |p| p.serves("shop/orders").plain().application(&application))
        .pod("storefront", |p| p)
        .policy(|p| p.protocol("shop/orders", "HTTP2"))
        .start()
        .await;
    let storefront = mesh.pod("storefront");
    let mut honest = storefront.http(Speaks::Http2, "orders.shop").await;
    let mut counted: BTreeMap<&str, u32> = BTreeMap::new();
    for (number, (name, bytes)) in NONSENSE.iter().enumerate() {
        for way in [UnderWay::Nothing, UnderWay::Waiting, UnderWay::Uploading, UnderWay::Downloading] {
            let mut frames = Frames::begin(storefront.dial(storefront.at(EXPLICIT)).await.unwrap()).await;
            let path = format!("/{way:?}/{number}");
            let upload = way == UnderWay::Uploading;
            if way != UnderWay::Nothing {
                let method = if upload { "POST" } else { "GET" };
                let head = [
                    (":method", method),
                    (":scheme", "http"),
                    (":path", &*path),
                    (":authority", "orders.shop"),
                ];
                frames.head(1, &head, !upload).await.unwrap();
                let there = || async { arrived.lock().unwrap().contains(&path).then_some(()) };
                until("the request at the application", there).await;
            }
            if way == UnderWay::Downloading {
                assert_eq!(frames.hear().await, Said::Head(1, 200));
            }
            frames.raw(bytes).await.unwrap();
            let code = loop {
                match frames.hear().await {
                    Said::GoAway(_, code) => break code,
                    said => assert!(said != Said::End, "{name}, {way:?}: no GOAWAY"),
                }
            };
            let rule = rule(code);
            if way != UnderWay::Nothing {
                let entry = storefront.logged(&path).await;
                let told = (&entry["reason"], &entry["detail"]);
                assert_eq!(told, (&"malformed_request".into(), &rule.into()), "{name}, {way:?}: {entry}");
            }
            let times = counted.entry(rule).or_default();
            *times += 1;
            let labels = [("kind", rule)];
            storefront.metric_reaches("trama_guard_refusals_total", &labels, f64::from(*times)).await;
            assert_eq!(honest.get("/honest").await.status, 200, "{name}, {way:?}");
        }
    }
    // Who goes away is another story.
    let mut frames = Frames::begin(storefront.dial(storefront.at(EXPLICIT)).await.unwrap()).await;
    let head =
        [(":method", "GET"), (":scheme", "http"), (":path", "/Waiting/gone"), (":authority", "orders.shop")];
    frames.head(1, &head, true).await.unwrap();
    let there = || async { arrived.lock().unwrap().iter().any(|path| path == "/Waiting/gone").then_some(()) };
    until("the request at the application", there).await;
    drop(frames);
    let entry = storefront.logged("/Waiting/gone").await;
    assert_eq!(entry["reason"], "downstream_closed", "{entry}");
}
