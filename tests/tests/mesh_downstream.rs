//! The limits of a downstream connection, in time and number: each is kept, each is told by its name, and nothing else
//! suffers from who breaks it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Response;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use trama_tests::authority::Authority;
use trama_tests::frames::{ENHANCE_YOUR_CALM, Frames, MAX_STREAMS, REFUSED_STREAM, Said};
use trama_tests::mesh::{Application, EXPLICIT, Mesh, PATIENCE, Payload, Pod, Speaks, until};

/// Answers `/slow` when it may, `/half` in part, and everything else at once; counts what arrived.
fn application() -> (Application, watch::Sender<bool>, Arc<AtomicU32>) {
    let (go_on, may) = watch::channel(false);
    let arrived = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&arrived);
    let application = Application::http(move |request| {
        let (mut may, count) = (may.clone(), Arc::clone(&count));
        async move {
            count.fetch_add(1, Ordering::Relaxed);
            match request.uri().path() {
                "/slow" => drop(may.wait_for(|may| *may).await),
                "/half" => {
                    let (feed, body) = Payload::stream();
                    tokio::spawn(async move {
                        feed.data("half").await;
                        std::future::pending::<()>().await;
                    });
                    return Response::new(body);
                }
                _ => {}
            }
            Response::new(Payload::of("done"))
        }
    });
    (application, go_on, arrived)
}

async fn mesh(application: &Application, config: &str) -> Mesh {
    let builder = Mesh::builder()
        .pod("orders", |p| p.serves("shop/orders").plain().application(application))
        .pod("storefront", |p| p.config(config));
    builder.start().await
}

async fn dial(pod: &Pod) -> TcpStream {
    pod.dial(pod.at(EXPLICIT)).await.unwrap()
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut heard = String::new();
    let hearing = timeout(PATIENCE, stream.read_to_string(&mut heard)).await;
    hearing.expect("the connection ends").unwrap();
    heard
}

const HEAD_TIMEOUT: &str = "timeouts: { requestHeader: 300ms }";

#[tokio::test]
async fn a_head_that_does_not_come_in_time_is_told_so() {
    let (application, ..) = application();
    for begun in ["GET /late HTTP/1.1\r\nHost: ord", "GE", "\r\n"] {
        let mesh = mesh(&application, HEAD_TIMEOUT).await;
        let pod = mesh.pod("storefront");
        let mut stream = dial(pod).await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{begun:?}: {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{begun:?}: {answer}");
        assert!(answer.contains("\r\ntrama-reason: request_header_timeout\r\n"), "{begun:?}: {answer}");
        let entry = pod.logged_where("the time-out", |e| e["reason"] == "request_header_timeout").await;
        assert_eq!((&entry["status"], &entry["attempts"]), (&408.into(), &0.into()), "{entry}");
    }
}

/// Where the protocol is found out, bytes that may still become a request have the same time.
#[tokio::test]
async fn what_never_becomes_a_request_is_not_waited_for_without_end() {
    let (application, ..) = application();
    let mesh = Mesh::builder()
        .pod("orders", |p| p.serves("shop/orders").plain().application(&application))
        .pod("storefront", |p| {
            p.config(HEAD_TIMEOUT).listener("auto", "protocol: AUTO, service: \"shop/orders:80\"")
        });
    let mesh = mesh.start().await;
    let pod = mesh.pod("storefront");
    for port in [EXPLICIT, EXPLICIT + 1] {
        for (begun, status) in
            [("GET ", "408"), ("\n", "400"), ("GET \\s", "400"), ("PRI * HTTP/2.0\r\n\r\nSM", "400")]
        {
            let mut stream = pod.dial(pod.at(port)).await.unwrap();
            stream.write_all(begun.as_bytes()).await.unwrap();
            let answer = rest(&mut stream).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{port}, {begun:?}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_head_that_has_begun_cuts_no_request_that_is_served() {
    let (application, go_on, arrived) = application();
    let mesh = mesh(&application, HEAD_TIMEOUT).await;
    let pod = mesh.pod("storefront");
    let mut stream = dial(pod).await;
    let both = "GET /slow HTTP/1.1\r\nHost: orders.shop\r\n\r\nGET /next HTTP/1.1\r\nHo";
    stream.write_all(both.as_bytes()).await.unwrap();
    until("the request's arrival", || async { (arrived.load(Ordering::Relaxed) == 1).then_some(()) }).await;
    // More than the second head's time, which does not run while the first request is served.
    let heard = timeout(Duration::from_millis(900), stream.read_u8()).await;
    assert!(heard.is_err(), "the request was cut: {heard:?}");
    go_on.send(true).unwrap();
    let answers = rest(&mut stream).await;
    assert!(answers.starts_with("HTTP/1.1 200 OK\r\n"), "{answers}");
    assert!(answers.contains("doneHTTP/1.1 408 Request Timeout\r\n"), "{answers}");
    assert_eq!(pod.logged("/slow").await["status"], 200);
}

#[tokio::test]
async fn a_stream_on_which_nothing_moves_ends_by_its_name() {
    let (application, _go_on, _) = application();
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mesh = mesh(&application, "timeouts: { streamIdle: 400ms }").await;
        let pod = mesh.pod("storefront");
        for path in ["/slow", "/half"] {
            let mut client = pod.http(speaks, "orders.shop").await;
            let request = client.request("GET", path).body(Payload::empty()).unwrap();
            let whole = async {
                match client.send(request).await {
                    Ok(answer) => answer.into_body().collect().await.is_ok(),
                    Err(_) => false,
                }
            };
            let whole = timeout(PATIENCE, whole).await.expect("the connection ends");
            assert!(!whole, "{speaks:?} {path}: it looked whole");
            let entry = pod.logged(path).await;
            assert_eq!(entry["reason"], "stream_idle", "{speaks:?}: {entry}");
        }
    }
}

#[tokio::test]
async fn an_upload_that_stalls_ends_by_its_name_and_is_never_whole() {
    for (framing, begun) in
        [("content-length: 10", "half "), ("transfer-encoding: chunked", "5\r\nhalf \r\n")]
    {
        let (ends, mut ended) = tokio::sync::mpsc::unbounded_channel();
        let application = Application::http(move |request| {
            let ends = ends.clone();
            async move {
                ends.send(request.into_body().collect().await.is_ok()).unwrap();
                Response::new(Payload::of("done"))
            }
        });
        let mesh = mesh(&application, "timeouts: { streamIdle: 400ms }").await;
        let pod = mesh.pod("storefront");
        let mut stream = dial(pod).await;
        let head = format!("POST /stalled HTTP/1.1\r\nhost: orders.shop\r\n{framing}\r\n\r\n{begun}");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        let end = timeout(PATIENCE, stream.read_to_end(&mut heard)).await;
        end.expect("the connection ends").ok();
        assert!(!heard.starts_with(b"HTTP/1.1 200"), "{framing}: {}", String::from_utf8_lossy(&heard));
        let whole = timeout(PATIENCE, ended.recv()).await.expect("the application hears of it");
        assert_eq!(whole, Some(false), "{framing}: the application took it for whole");
        let entry = pod.logged("/stalled").await;
        assert_eq!(entry["reason"], "stream_idle", "{framing}: {entry}");
    }
}

/// A stream ends by itself, however busy its connection is; and one whose bytes flow goes on, however old it is.
#[tokio::test]
async fn a_silent_stream_ends_alone_on_a_busy_connection() {
    let (flow, flowing) = Payload::stream();
    let flowing = Arc::new(Mutex::new(Some(flowing)));
    let application = Application::http(move |request| {
        let flowing = Arc::clone(&flowing);
        async move {
            let body = match request.uri().path() {
                "/silent" => std::future::pending().await,
                "/flowing" => flowing.lock().unwrap().take().unwrap(),
                _ => Payload::of("done"),
            };
            Response::new(body)
        }
    });
    let mesh = mesh(&application, "timeouts: { streamIdle: 2s }").await;
    let pod = mesh.pod("storefront");
    let client = pod.http(Speaks::Http2, "orders.shop").await;
    let call = |path: &'static str| {
        let mut client = client.share();
        tokio::spawn(async move { client.call("GET", path, Payload::empty()).await })
    };
    let (silent, flowing) = (call("/silent"), call("/flowing"));
    let (mut quick, deadline) = (0, Instant::now() + PATIENCE);
    while !silent.is_finished() {
        assert!(Instant::now() < deadline, "the silent stream goes on after {quick} others");
        assert_eq!(&call("/quick").await.unwrap().unwrap().body[..], b"done");
        assert!(flow.data("x").await, "the stream whose bytes flow has ended");
        quick += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(silent.await.unwrap().is_err());
    let entry = pod.logged("/silent").await;
    assert_eq!(entry["reason"], "stream_idle", "{entry}");
    drop(flow);
    assert_eq!(flowing.await.unwrap().unwrap().body.len(), quick);
    assert!(!client.is_closed());
    assert!(pod.log().iter().filter(|e| e["path"] != "/silent").all(|e| e["status"] == 200));
}

fn get(path: &str) -> [(&str, &str); 4] {
    [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "orders.shop")]
}

#[tokio::test]
async fn more_streams_than_are_allowed_are_refused() {
    let (application, go_on, arrived) = application();
    let mesh = mesh(&application, "limits: { maxConcurrentStreams: 4 }").await;
    let pod = mesh.pod("storefront");
    let mut frames = Frames::begin(dial(pod).await).await;
    for stream in [1, 3, 5, 7, 9] {
        frames.head(stream, &get("/slow"), true).await.unwrap();
    }
    assert_eq!(frames.hear().await, Said::Reset(9, REFUSED_STREAM));
    assert_eq!(frames.settings[&MAX_STREAMS], 4);
    until("the four", || async { (arrived.load(Ordering::Relaxed) == 4).then_some(()) }).await;
    go_on.send(true).unwrap();
    for _ in 0..4 {
        let said = frames.hear().await;
        assert!(matches!(said, Said::Head(1..=7, 200)), "{said:?}");
    }
    // There is room again.
    frames.head(11, &get("/slow"), true).await.unwrap();
    assert_eq!(frames.hear().await, Said::Head(11, 200));
}

/// CVE-2023-44487: work is begun for each stream, and thrown away.
#[tokio::test]
async fn who_resets_too_fast_is_sent_away_and_nobody_else() {
    let (application, _go_on, arrived) = application();
    let mesh = mesh(&application, "limits: { maxResetsPerSecond: 20 }").await;
    let pod = mesh.pod("storefront");
    let mut honest = pod.http(Speaks::Http2, "orders.shop").await;
    // At the pace of the application, so that each request has really been begun; then as fast as can be.
    for paced in [true, false] {
        let before = arrived.load(Ordering::Relaxed);
        let mut frames = Frames::begin(dial(pod).await).await;
        let mut sent = 0;
        while sent < if paced { 40 } else { 2_000 } {
            let stream = 2 * sent + 1;
            if frames.head(stream, &get("/slow"), true).await.is_err() {
                break;
            }
            sent += 1;
            if paced && sent <= 21 {
                let come = || async { (arrived.load(Ordering::Relaxed) == before + sent).then_some(()) };
                until("the request's arrival", come).await;
            }
            if frames.reset(stream).await.is_err() {
                break;
            }
        }
        let said = loop {
            match frames.hear().await {
                Said::Head(..) | Said::Reset(..) => {}
                said => break said,
            }
        };
        assert!(matches!(said, Said::GoAway(_, ENHANCE_YOUR_CALM)), "paced: {paced}: {said:?}");
        let begun = arrived.load(Ordering::Relaxed) - before;
        assert!(begun <= 200, "paced: {paced}: {begun} requests were begun");
        assert_eq!(honest.get("/honest").await.status.as_u16(), 200, "paced: {paced}");
    }
}

#[tokio::test]
async fn a_connection_over_the_limit_is_closed_by_name() {
    let (application, ..) = application();
    let mesh = mesh(&application, "limits: { maxConnections: 1 }").await;
    let pod = mesh.pod("storefront");
    let mut first = pod.http(Speaks::Http1, "orders.shop").await;
    assert_eq!(first.get("/first").await.status.as_u16(), 200);
    assert_eq!(rest(&mut dial(pod).await).await, "");
    let entry = pod.logged_where("the second connection", |e| e["reason"] == "overloaded").await;
    assert_eq!((&entry["direction"], &entry["protocol"]), (&"outbound".into(), &"tcp".into()), "{entry}");
    assert_eq!(first.get("/again").await.status.as_u16(), 200);
}

#[tokio::test]
async fn who_stalls_in_a_tls_handshake_is_closed() {
    let (application, ..) = application();
    let authority = Authority::new().unwrap();
    let own = authority.issue_for_host("storefront.test").unwrap();
    let files = tempfile::tempdir().unwrap();
    let at = |name: &str| files.path().join(name).display().to_string();
    std::fs::write(at("cert"), &own.certificate).unwrap();
    std::fs::write(at("key"), &own.key).unwrap();
    let tls = format!("protocol: HTTP, tls: {{ certificate: {}, key: {} }}", at("cert"), at("key"));
    let builder = Mesh::builder()
        .pod("orders", |p| p.serves("shop/orders").plain().application(&application))
        .pod("storefront", |p| p.listener("tls", &tls).config("timeouts: { tlsHandshake: 300ms }"));
    let mesh = builder.start().await;
    let pod = mesh.pod("storefront");
    let ports = [("mesh", pod.mesh()), ("listener", pod.at(EXPLICIT + 1))];
    for (number, (name, address)) in (1_u8..).zip(ports) {
        let mut stream = pod.dial(address).await.unwrap();
        // The beginning of a ClientHello, and no more of it.
        stream.write_all(&[22, 3, 1, 2, 0, 1, 0]).await.unwrap();
        let closed = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "{name}: the connection stays open");
        let labels = [("peer", "downstream"), ("result", "failed"), ("reason", "timeout")];
        pod.metric_reaches("trama_tls_handshakes_total", &labels, number.into()).await;
    }
    assert_eq!(pod.http(Speaks::Http1, "orders.shop").await.get("/").await.status.as_u16(), 200);
}
