//! What happens when something fails: who is tried next, what is never tried again, and the one reason that is told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use http::Response;
use http_body_util::BodyExt;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use trama_tests::mesh::{APPLICATION, Application, Mesh, MeshBuilder, PATIENCE, Payload, Speaks, until};

const ORDERS: &str = "shop/orders";
const NEVER_AGAIN: &str = "retry: { attempts: 0 }";

fn two_regions(first: &Application, second: &Application, meshed: bool) -> MeshBuilder {
    let describe = |p: trama_tests::mesh::PodSpec, region: &str, application: &Application| {
        let p = p.serves(ORDERS).region(region).application(application);
        if meshed { p } else { p.plain() }
    };
    Mesh::builder()
        .pod("first", |p| describe(p, "sao-paulo", first))
        .pod("second", |p| describe(p, "rio", second))
        .pod("storefront", |p| p.region("sao-paulo"))
        .policy(|p| p.order(&["sao-paulo", "rio"]))
}

fn alone(application: &Application, meshed: bool, rule: &str) -> MeshBuilder {
    Mesh::builder()
        .pod("orders", |p| {
            let p = p.serves(ORDERS).application(application);
            if meshed { p } else { p.plain() }
        })
        .pod("storefront", |p| p.config("timeouts: { connect: 300ms }"))
        .policy(|p| {
            p.route(ORDERS, rule);
            p.service(ORDERS, "outlier: { consecutiveFailures: 0 }");
        })
}

/// Counts the requests whose heads arrived whole, and does this with their connections.
fn on_request<F, R>(hit: F) -> (Application, Arc<AtomicU32>)
where
    F: Fn(TcpStream) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let arrived = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&arrived);
    let application = Application::raw(move |mut stream| {
        let (count, hit) = (Arc::clone(&count), hit.clone());
        async move {
            let mut read = Vec::new();
            while !read.windows(4).any(|w| w == b"\r\n\r\n") {
                match stream.read_buf(&mut read).await {
                    Ok(1..) => {}
                    _ => return,
                }
            }
            count.fetch_add(1, Ordering::Relaxed);
            hit(stream).await;
        }
    });
    (application, arrived)
}

#[tokio::test]
async fn a_region_that_dies_is_left_and_one_that_comes_back_is_used() {
    for meshed in [true, false] {
        let first = Application::echo("first");
        let builder = two_regions(&first, &Application::echo("second"), meshed);
        let outlier = "outlier: { consecutiveFailures: 2, baseEjection: 1s, maxEjectionPercent: 100 }";
        let mut mesh = builder.policy(|p| p.service(ORDERS, outlier)).start().await;
        let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
        for n in 0..10 {
            assert_eq!(client.get(&format!("/a{n}")).await.header("x-served-by"), "first");
        }
        mesh.pod_mut("first").kill_application().await;
        // More than the retry budget would pay for, if each were tried in the dead region first.
        for n in 0..200 {
            let answer = client.post(&format!("/b{n}"), "x").await;
            assert_eq!(
                (answer.status.as_u16(), answer.header("x-served-by")),
                (200, "second"),
                "request {n}, meshed: {meshed}: {}",
                answer.reason()
            );
        }
        let entry = mesh.pod("storefront").logged("/b0").await;
        assert_eq!((&entry["peer_region"], &entry["attempts"]), (&"rio".into(), &2.into()), "{entry}");
        // Ejected by then: no request is tried there first.
        let entry = mesh.pod("storefront").logged("/b9").await;
        assert_eq!(entry["attempts"], 1, "{entry}");
        let labels = [("service", ORDERS), ("peer_region", "sao-paulo")];
        mesh.pod("storefront").metric_reaches("trama_ejections_total", &labels, 1.0).await;
        mesh.pod_mut("first").start_application(&first);
        let deadline = Instant::now() + PATIENCE;
        while client.get("/c").await.header("x-served-by") != "first" {
            assert!(Instant::now() < deadline, "the first region is never used again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_is_down_has_a_reason() {
    let mut mesh = alone(&Application::echo("orders"), false, NEVER_AGAIN).start().await;
    mesh.pod_mut("orders").kill_application().await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    let answer = client.get("/refused").await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, "connect_failed"));
    assert_eq!(mesh.pod("storefront").logged("/refused").await["reason"], "connect_failed");

    // A queue that is full and never accepted from: what comes after it is left unanswered.
    let address = mesh.pod("orders").at(APPLICATION);
    let hole = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    hole.bind(&address.into()).unwrap();
    hole.listen(0).unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        waiting.push(stream);
    }
    let answer = client.get("/silent").await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, "connect_timeout"));
    assert_eq!(mesh.pod("storefront").logged("/silent").await["reason"], "connect_timeout");
}

#[tokio::test]
async fn a_post_whose_bytes_arrived_is_never_sent_again_and_a_get_is() {
    for meshed in [true, false] {
        let (dying, arrived) = on_request(|stream| async move { drop(stream) });
        let (second, seen) = Application::recording("second");
        let mesh = two_regions(&dying, &second, meshed).start().await;
        let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
        let answer = client.post("/post", "once").await;
        assert_eq!((answer.status.as_u16(), answer.reason()), (502, "upstream_closed"), "meshed: {meshed}");
        assert_eq!(arrived.load(Ordering::Relaxed), 1, "meshed: {meshed}");
        assert!(seen.all().is_empty(), "meshed: {meshed}: {:?}", seen.all());
        assert_eq!(mesh.pod("storefront").logged("/post").await["attempts"], 1);

        let answer = client.get("/get").await;
        assert_eq!((answer.status.as_u16(), answer.header("x-served-by")), (200, "second"));
        assert_eq!((arrived.load(Ordering::Relaxed), seen.of("/get").len()), (2, 1), "meshed: {meshed}");
        assert_eq!(mesh.pod("storefront").logged("/get").await["attempts"], 2);
    }
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_whatever_its_method() {
    let refusing = Application::raw(|stream| async move {
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
        }
    });
    let (second, seen) = Application::recording("second");
    let mesh = two_regions(&refusing, &second, false).policy(|p| p.protocol(ORDERS, "HTTP2"));
    let mesh = mesh.start().await;
    let mut client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
    let answer = client.post("/post", "the whole body").await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"the whole body"[..]));
    assert_eq!(seen.of("/post").len(), 1);
    assert_eq!(mesh.pod("storefront").logged("/post").await["attempts"], 2);
}

#[tokio::test]
async fn connections_that_say_goaway_lose_no_request() {
    // Each connection serves one request and then says that it goes.
    let connections = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&connections);
    let going = Application::raw(move |stream| {
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            let Some(Ok((_, mut respond))) = connection.accept().await else { return };
            respond.send_response(Response::new(()), true).unwrap();
            connection.graceful_shutdown();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                respond.send_response(Response::new(()), true).ok();
            }
        }
    });
    let mesh = alone(&going, false, "retry: { attempts: 2 }").policy(|p| p.protocol(ORDERS, "HTTP2"));
    let mesh = mesh.start().await;
    let mut client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
    for n in 0..20 {
        let answer = client.post(&format!("/{n}"), "x").await;
        assert_eq!(answer.status.as_u16(), 200, "request {n}: {}", answer.reason());
    }
    assert!(connections.load(Ordering::Relaxed) > 5, "no connection went");
}

#[tokio::test]
async fn retries_stay_within_their_budget() {
    let hits = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&hits);
    let failing = Application::http(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        async { Response::builder().status(503).body(Payload::empty()).unwrap() }
    });
    let rule = "retry: { attempts: 5, codes: [503], backoff: 0.001s }";
    let settings = "kind: MeshSettings\nmetadata: { name: mesh }\nspec: { retryBudget: { percent: 20, minPerSecond: 0 } }\n";
    let mesh = alone(&failing, false, rule).policy(|p| p.more(settings)).start().await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    for _ in 0..50 {
        assert_eq!(client.get("/").await.status.as_u16(), 503);
    }
    let hits = hits.load(Ordering::Relaxed);
    assert!((55..=62).contains(&hits), "50 requests and a fifth of that as retries make 60, not {hits}");
}

#[tokio::test]
async fn an_endpoint_that_fails_in_a_row_is_left_out() {
    let failing = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&failing);
    let bad = Application::http(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        async { Response::builder().status(503).body(Payload::empty()).unwrap() }
    });
    let mesh = two_regions(&bad, &Application::echo("good"), false).policy(|p| {
        p.service(ORDERS, "outlier: { consecutiveFailures: 3, baseEjection: 300s }");
        p.route(ORDERS, NEVER_AGAIN);
    });
    let mesh = mesh.start().await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    let mut failed = 0;
    for _ in 0..200 {
        failed += u32::from(client.get("/").await.status.as_u16() == 503);
    }
    assert_eq!((failed, failing.load(Ordering::Relaxed)), (3, 3), "after three failures nothing goes there");
    assert_eq!(mesh.pod("storefront").metric("trama_ejections_total", &[]).await, 1.0);
}

#[tokio::test]
async fn a_circuit_limit_answers_at_once() {
    let (go_on, may) = tokio::sync::watch::channel(false);
    let arrived = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&arrived);
    let slow = Application::http(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        let mut may = may.clone();
        async move {
            may.wait_for(|go_on| *go_on).await.unwrap();
            Response::new(Payload::of("done"))
        }
    });
    let limits = "circuitLimits: { maxRequests: 2 }";
    let mesh = alone(&slow, true, NEVER_AGAIN).policy(|p| p.service(ORDERS, limits)).start().await;
    let client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
    let held: Vec<_> = (0..2)
        .map(|n| {
            let mut client = client.share();
            tokio::spawn(async move { client.call("GET", &format!("/held{n}"), Payload::empty()).await })
        })
        .collect();
    let both = || async { (arrived.load(Ordering::Relaxed) == 2).then_some(()) };
    until("two requests on their way", both).await;
    let refused = client.share().call("GET", "/third", Payload::empty()).await.unwrap();
    assert_eq!((refused.status.as_u16(), refused.reason()), (503, "circuit_open"));
    go_on.send(true).unwrap();
    for held in held {
        assert_eq!(&held.await.unwrap().unwrap().body[..], b"done");
    }
    assert_eq!(client.share().call("GET", "/after", Payload::empty()).await.unwrap().status.as_u16(), 200);
}

#[tokio::test]
async fn times_run_out_with_their_own_reasons() {
    for meshed in [true, false] {
        let (silent, _) = on_request(|stream| async move {
            std::future::pending::<()>().await;
            drop(stream);
        });
        for (timeouts, reason) in
            [("request: 200ms", "request_timeout"), ("backendRequest: 200ms", "backend_request_timeout")]
        {
            let rule = format!("timeouts: {{ {timeouts} }}\n{NEVER_AGAIN}");
            let mesh = alone(&silent, meshed, &rule).policy(|p| p.protocol(ORDERS, "HTTP")).start().await;
            let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
            let began = Instant::now();
            let answer = client.get("/late").await;
            assert_eq!((answer.status.as_u16(), answer.reason()), (504, reason), "meshed: {meshed}");
            assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
            let entry = mesh.pod("storefront").logged("/late").await;
            assert_eq!((&entry["reason"], &entry["status"]), (&reason.into(), &504.into()), "{entry}");
        }
    }
}

#[tokio::test]
async fn a_request_whose_time_runs_out_counts_against_the_endpoint() {
    let (silent, _) = on_request(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    });
    let mesh = two_regions(&silent, &Application::echo("second"), false).policy(|p| {
        p.route(ORDERS, &format!("timeouts: {{ request: 200ms }}\n{NEVER_AGAIN}"));
        p.service(ORDERS, "outlier: { consecutiveFailures: 2, baseEjection: 300s }");
        p.protocol(ORDERS, "HTTP");
    });
    let mesh = mesh.start().await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    for n in 0..2 {
        let answer = client.get(&format!("/{n}")).await;
        assert_eq!((answer.status.as_u16(), answer.reason()), (504, "request_timeout"), "request {n}");
    }
    assert_eq!(client.get("/2").await.header("x-served-by"), "second");
}

#[tokio::test]
async fn an_endpoint_that_stops_reading_an_upload_is_blamed_and_one_whose_client_is_slow_is_not() {
    for (meshed, protocol) in [(false, "HTTP"), (false, "HTTP2"), (true, "HTTP")] {
        let hung = Application::http(|request| async move {
            if request.method() == "PUT" {
                std::future::pending::<()>().await;
                drop(request);
            }
            Response::builder().header("x-served-by", "first").body(Payload::empty()).unwrap()
        });
        let mesh = two_regions(&hung, &Application::echo("second"), meshed).policy(|p| {
            p.route(ORDERS, &format!("timeouts: {{ request: 1s }}\n{NEVER_AGAIN}"));
            p.service(ORDERS, "outlier: { consecutiveFailures: 1, baseEjection: 300s }");
            p.protocol(ORDERS, protocol);
        });
        let mesh = mesh.start().await;
        let name = format!("{protocol}, meshed: {meshed}");
        let client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
        for n in 0..3 {
            let (feed, slow) = Payload::stream();
            assert!(feed.data("a beginning").await);
            let answer = client.share().call("PUT", "/slow", slow).await.unwrap();
            assert_eq!((answer.status.as_u16(), answer.reason()), (504, "request_timeout"), "{name}: {n}");
        }
        let answer = client.share().call("GET", "/", Payload::empty()).await.unwrap();
        assert_eq!(answer.header("x-served-by"), "first", "{name}");
        // On a busy machine the client is the slow one now and then.
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "{name}: it is never left");
            let large = Payload::repeated(bytes::Bytes::from(vec![7; 64 << 10]), 64 << 20);
            let _late = client.share().call("PUT", "/large", large).await;
            let answer = client.share().call("GET", "/", Payload::empty()).await.unwrap();
            if answer.header("x-served-by") == "second" {
                break;
            }
        }
    }
}

/// Over HTTP/1 an early answer leaves the rest of the request on its way to who has answered. What is read there during
/// the back-off must not be missing from the next attempt.
#[tokio::test]
async fn a_body_that_flows_on_during_the_back_off_is_sent_again_whole() {
    let arrived = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&arrived);
    let (bodies, mut body) = tokio::sync::mpsc::unbounded_channel();
    let application = Application::http(move |request| {
        let first = count.fetch_add(1, Ordering::Relaxed) == 0;
        let bodies = bodies.clone();
        async move {
            let reading = request.into_body().collect();
            if first {
                tokio::spawn(reading);
                return Response::builder().status(503).body(Payload::empty()).unwrap();
            }
            bodies.send(reading.await.map(|b| b.to_bytes().len()).ok()).unwrap();
            Response::new(Payload::empty())
        }
    });
    let rule = "retry: { attempts: 1, codes: [503], backoff: 1s }";
    let mesh = alone(&application, false, rule).policy(|p| p.protocol(ORDERS, "HTTP"));
    let mesh = mesh.start().await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    let (feed, payload) = Payload::stream();
    let request = client.request("PUT", "/put").body(payload).unwrap();
    let putting = tokio::spawn(async move { client.call(request).await });
    let part = bytes::Bytes::from(vec![7; 16 << 10]);
    assert!(feed.data(part.clone()).await);
    until("the first attempt", || async { (arrived.load(Ordering::Relaxed) == 1).then_some(()) }).await;
    // More than is kept for another attempt.
    for _ in 0..16 {
        assert!(feed.data(part.clone()).await);
    }
    drop(feed);
    let answer = putting.await.unwrap().unwrap();
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.reason());
    assert_eq!(tokio::time::timeout(PATIENCE, body.recv()).await.unwrap(), Some(Some(17 * part.len())));
}

/// What a server says to a request, and what its caller gets: a status, which is 200 for an answer that breaks off.
const WRONG_ANSWERS: [(&str, &str, u16, &str); 10] = [
    ("closes", "", 502, "upstream_closed"),
    ("closes-in-the-head", "HTTP/1.1 200 OK\r\ncontent-", 502, "upstream_closed"),
    ("garbage", "220 mail ready\r\n\r\n", 502, "upstream_malformed"),
    ("garbage-bytes", "\u{1}\u{2}\u{3}\u{4}\r\n\r\n", 502, "upstream_malformed"),
    ("bad-field", "HTTP/1.1 200 OK\r\nna me: x\r\n\r\n", 502, "upstream_malformed"),
    ("bad-length", "HTTP/1.1 200 OK\r\ncontent-length: ten\r\n\r\n0123456789", 502, "upstream_malformed"),
    ("short-body", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n012", 200, "upstream_closed"),
    ("short-chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nA\r\n012", 200, "upstream_closed"),
    (
        "bad-trailers",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nna me\r\n\r\n",
        200,
        "upstream_closed",
    ),
    (
        "bad-chunk",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nX\r\n",
        200,
        "upstream_closed",
    ),
];

#[tokio::test]
async fn each_wrong_answer_is_one_named_failure() {
    for meshed in [true, false] {
        for (name, bytes, status, reason) in WRONG_ANSWERS {
            let heard = Arc::new(Semaphore::new(0));
            let hears = Arc::clone(&heard);
            let (wrong, _) = on_request(move |mut stream| {
                let hears = Arc::clone(&hears);
                async move {
                    let (head, rest) = match status {
                        200 => bytes.split_at(bytes.find("\r\n\r\n").unwrap() + 4),
                        _ => (bytes, ""),
                    };
                    stream.write_all(head.as_bytes()).await.ok();
                    if status == 200 {
                        // Else a sidecar could hear of the end before it has passed anything on.
                        hears.acquire().await.unwrap().forget();
                    }
                    stream.write_all(rest.as_bytes()).await.ok();
                    stream.shutdown().await.ok();
                    // Until the other side has closed too: a reset would be another story.
                    stream.read_to_end(&mut Vec::new()).await.ok();
                }
            });
            let mesh = alone(&wrong, meshed, NEVER_AGAIN).policy(|p| p.protocol(ORDERS, "HTTP"));
            let mesh = mesh.start().await;
            let mut client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
            let path = format!("/{name}");
            let request = client.request("GET", &path).body(Payload::empty()).unwrap();
            let answer =
                client.send(request).await.unwrap_or_else(|e| panic!("{name}, meshed: {meshed}: {e}"));
            assert_eq!(answer.status().as_u16(), status, "{name}, meshed: {meshed}");
            heard.add_permits(1);
            // What we say ourselves is whole; what breaks off is not.
            let whole = answer.into_body().collect().await.is_ok();
            assert_eq!(whole, status != 200, "{name}, meshed: {meshed}");
            let entry = mesh.pod("storefront").logged(&path).await;
            assert_eq!(
                entry["reason"],
                reason,
                "{name}, meshed: {meshed}: {entry}\n{:?}",
                mesh.pod("orders").log()
            );
            // Only that request: the connection goes on.
            assert!(!client.is_closed(), "{name}: the connection is gone");
        }
    }
}

#[tokio::test]
async fn an_answer_that_stalls_in_the_middle_ends_with_the_requests_time() {
    for meshed in [true, false] {
        let (stalling, _) = on_request(|mut stream| async move {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n012").await.ok();
            std::future::pending::<()>().await;
        });
        let rule = format!("timeouts: {{ request: 300ms }}\n{NEVER_AGAIN}");
        let mesh = alone(&stalling, meshed, &rule).start().await;
        let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
        let request = client.request("GET", "/stalled").body(Payload::empty()).unwrap();
        let answer = client.send(request).await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        assert!(answer.into_body().collect().await.is_err(), "meshed: {meshed}: it looked whole");
        let entry = mesh.pod("storefront").logged("/stalled").await;
        assert_eq!(entry["reason"], "request_timeout", "meshed: {meshed}: {entry}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_is_the_reason() {
    for meshed in [true, false] {
        let (silent, arrived) = on_request(|stream| async move {
            std::future::pending::<()>().await;
            drop(stream);
        });
        let mesh = alone(&silent, meshed, NEVER_AGAIN).policy(|p| p.protocol(ORDERS, "HTTP")).start().await;
        for speaks in [Speaks::Http1, Speaks::Http2] {
            let mut client = mesh.pod("storefront").http(speaks, "orders.shop").await;
            let path = format!("/{speaks:?}");
            let request = client.request("GET", &path).body(Payload::empty()).unwrap();
            let before = arrived.load(Ordering::Relaxed);
            let there = || async { (arrived.load(Ordering::Relaxed) > before).then_some(()) };
            tokio::select! {
                answer = client.send(request) => panic!("an answer: {answer:?}"),
                () = until("the request's arrival", there) => {}
            }
            drop(client);
            let entry = mesh.pod("storefront").logged(&path).await;
            assert_eq!(entry["reason"], "downstream_closed", "{speaks:?}, meshed: {meshed}: {entry}");
        }
    }
}
