//! HTTP through a pair of sidecars, and through one: what must arrive as it was sent, and what must not arrive at all.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use http::{HeaderMap, HeaderValue, Response, Version};
use http_body_util::BodyExt;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use trama_tests::authority::{Authority, Issued};
use trama_tests::mesh::{Application, Client, EXPLICIT, Mesh, PATIENCE, Payload, Record, Speaks};
use trama_tests::tls;

/// Every way through the mesh: what the client speaks, what the application speaks, and whether it has a sidecar.
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

struct Way {
    mesh: Mesh,
    client: Client,
    seen: Record,
    name: String,
    application: Speaks,
}

async fn mesh_of(application: &Application, protocol: &str, meshed: bool) -> Mesh {
    let builder = Mesh::builder()
        .pod("orders", |p| {
            let p = p.serves("shop/orders").application(application);
            if meshed { p } else { p.plain() }
        })
        .pod("storefront", |p| p)
        .policy(|p| p.protocol("shop/orders", protocol));
    builder.start().await
}

async fn way((client, application, meshed): (Speaks, Speaks, bool)) -> Way {
    let (serving, seen) = Application::recording("orders");
    let protocol = match application {
        Speaks::Http1 => "HTTP",
        Speaks::Http2 => "HTTP2",
    };
    let mesh = mesh_of(&serving, protocol, meshed).await;
    let name = format!("{client:?} to {application:?}, meshed: {meshed}");
    let client = mesh.pod("storefront").http(client, "orders.shop").await;
    Way { mesh, client, seen, name, application }
}

#[tokio::test]
async fn a_request_arrives_as_it_was_sent() {
    for which in WAYS {
        let Way { mesh: _mesh, mut client, seen, name, application } = way(which).await;
        let request = client
            .request("PUT", "/a%20b/c?x=1&y=%2F")
            .header("x-many", "one")
            .header("x-many", "two, three")
            .header("x-empty", "")
            .body(Payload::of("the body"));
        let answer = client.call(request.unwrap()).await.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"the body"[..]), "{name}");
        assert_eq!(answer.header("x-served-by"), "orders", "{name}");
        let [seen] = &seen.all()[..] else { panic!("{name}: arrived {} times", seen.all().len()) };
        assert_eq!(seen.method, "PUT", "{name}");
        assert_eq!(seen.uri.path_and_query().unwrap(), "/a%20b/c?x=1&y=%2F", "{name}");
        assert_eq!(seen.values("x-many"), ["one", "two, three"], "{name}");
        assert_eq!(seen.values("x-empty"), [""], "{name}");
        assert_eq!(seen.values("content-length"), ["8"], "{name}");
        match application {
            Speaks::Http1 => {
                assert_eq!(seen.version, Version::HTTP_11, "{name}");
                assert_eq!(seen.values("host"), ["orders.shop"], "{name}");
            }
            Speaks::Http2 => {
                assert_eq!(seen.version, Version::HTTP_2, "{name}");
                assert_eq!(seen.uri.authority().unwrap(), "orders.shop", "{name}");
                assert!(seen.values("host").is_empty(), "{name}: {:?}", seen.headers);
            }
        }
    }
}

/// RFC 9113 section 8.2.3: clients of HTTP/2 send a cookie in crumbs, which mean nothing to HTTP/1.
#[tokio::test]
async fn a_cookie_in_crumbs_arrives_whole() {
    for which in WAYS {
        let Way { mesh: _mesh, mut client, seen, name, application } = way(which).await;
        let request = client.request("GET", "/").header("cookie", "a=1").header("cookie", "b=2; c=3");
        let request = request.header("cookie", "d=4").body(Payload::empty()).unwrap();
        assert_eq!(client.call(request).await.unwrap().status.as_u16(), 200, "{name}");
        let seen = &seen.all()[0];
        match application {
            Speaks::Http1 => assert_eq!(seen.values("cookie"), ["a=1; b=2; c=3; d=4"], "{name}"),
            Speaks::Http2 => assert_eq!(seen.values("cookie").join("; "), "a=1; b=2; c=3; d=4", "{name}"),
        }
    }
}

#[tokio::test]
async fn trailers_travel_both_ways() {
    for which in WAYS {
        let Way { mesh: _mesh, mut client, seen, name, .. } = way(which).await;
        let trailers = HeaderMap::from_iter([("x-sum".try_into().unwrap(), HeaderValue::from_static("42"))]);
        let request = client.request("POST", "/").header("trailer", "x-sum").header("te", "trailers");
        let request = request.body(Payload::with_trailers("counted", Some(trailers.clone()))).unwrap();
        let answer = client.call(request).await.unwrap();
        assert_eq!(seen.all()[0].trailers.as_ref(), Some(&trailers), "{name}: the request's");
        assert_eq!(answer.trailers.as_ref(), Some(&trailers), "{name}: the answer's");
        assert_eq!(&answer.body[..], b"counted", "{name}");
    }
}

/// A mesh around an application of the test's own.
async fn serving(
    (client, application, meshed): (Speaks, Speaks, bool),
    serving: &Application,
) -> (Mesh, Client, String) {
    let protocol = if application == Speaks::Http1 { "HTTP" } else { "HTTP2" };
    let mesh = mesh_of(serving, protocol, meshed).await;
    let name = format!("{client:?} to {application:?}, meshed: {meshed}");
    let client = mesh.pod("storefront").http(client, "orders.shop").await;
    (mesh, client, name)
}

#[tokio::test]
async fn answers_without_content_stay_without() {
    let application = Application::http(|request| async move {
        let status: u16 = request.uri().path().trim_start_matches('/').parse().unwrap();
        let answer = Response::builder().status(status);
        let answer =
            if matches!(status, 204 | 304) { answer } else { answer.header("content-length", "1234") };
        answer.header("etag", "\"one\"").body(Payload::empty()).unwrap()
    });
    for which in WAYS {
        let (_mesh, mut client, name) = serving(which, &application).await;
        for (method, path, length) in
            [("HEAD", "/200", "1234"), ("GET", "/204", ""), ("GET", "/304", ""), ("HEAD", "/404", "1234")]
        {
            let request = client.request(method, path).body(Payload::empty()).unwrap();
            let answer =
                client.call(request).await.unwrap_or_else(|e| panic!("{name}: {method} {path}: {e}"));
            assert_eq!(answer.status.as_str(), &path[1..], "{name}");
            assert_eq!(answer.header("content-length"), length, "{name}: {method} {path}");
            assert_eq!(answer.header("etag"), "\"one\"", "{name}: {method} {path}");
            assert!(answer.body.is_empty(), "{name}: {method} {path}");
        }
    }
}

#[tokio::test]
async fn what_concerns_one_connection_stays_there() {
    let application = Application::http(|request| async move {
        let mut names: Vec<_> = request.headers().keys().map(|n| n.as_str().to_owned()).collect();
        names.sort();
        let told = format!("{} te={:?}", names.join(" "), request.headers().get("te"));
        let mut answer = Response::new(Payload::of(told));
        if request.version() == Version::HTTP_11 {
            let headers = answer.headers_mut();
            headers.insert("connection", HeaderValue::from_static("x-answer-hop"));
            headers.insert("x-answer-hop", HeaderValue::from_static("1"));
            headers.insert("keep-alive", HeaderValue::from_static("timeout=9"));
        }
        answer.headers_mut().insert("x-end", HeaderValue::from_static("stays"));
        answer
    });
    for which in WAYS {
        let (_mesh, mut client, name) = serving(which, &application).await;
        let request = client.request("GET", "/").header("te", "trailers").header("x-end", "stays");
        let request = match which.0 {
            Speaks::Http1 => request
                .header("connection", "x-hop, te")
                .header("x-hop", "1")
                .header("keep-alive", "timeout=5")
                .header("proxy-connection", "keep-alive"),
            Speaks::Http2 => request,
        };
        let answer = client.call(request.body(Payload::empty()).unwrap()).await.unwrap();
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(told.contains("x-end") && told.contains("te=Some(\"trailers\")"), "{name}: {told}");
        for gone in ["x-hop", "keep-alive", "proxy-connection", "trama-"] {
            assert!(!told.contains(gone), "{name}: {gone} in {told}");
        }
        assert_eq!(answer.header("x-end"), "stays", "{name}");
        for gone in ["x-answer-hop", "keep-alive", "trama-client-version"] {
            assert!(!answer.headers.contains_key(gone), "{name}: {gone} in {:?}", answer.headers);
        }
    }
}

#[tokio::test]
async fn an_application_is_spoken_to_in_the_clients_version() {
    for meshed in [true, false] {
        let (application, seen) = Application::recording("orders");
        let mesh = mesh_of(&application, "AUTO", meshed).await;
        for (client, version) in [(Speaks::Http1, Version::HTTP_11), (Speaks::Http2, Version::HTTP_2)] {
            let mut client = mesh.pod("storefront").http(client, "orders.shop").await;
            let path = format!("/{version:?}");
            // Who is no sidecar cannot say what a client spoke.
            for forged in ["1.1", "2"] {
                let request = client.request("GET", &path).header("trama-client-version", forged);
                let answer = client.call(request.body(Payload::empty()).unwrap()).await.unwrap();
                assert_eq!((answer.status.as_u16(), answer.version), (200, version));
            }
            let arrived = seen.of(&path);
            assert_eq!(arrived.len(), 2);
            for seen in arrived {
                assert_eq!(seen.version, version, "meshed: {meshed}");
                assert!(seen.values("trama-client-version").is_empty(), "meshed: {meshed}");
            }
        }
    }
}

#[tokio::test]
async fn both_directions_flow_at_once() {
    for which in WAYS {
        let (_mesh, mut client, name) = serving(which, &Application::streaming_echo()).await;
        let (feed, body) = Payload::stream();
        let request = client.request("POST", "/").body(body).unwrap();
        // The answer is there before the request has ended, or this would wait for ever.
        let answer = tokio::time::timeout(PATIENCE, client.send(request)).await;
        let mut answer = answer.unwrap_or_else(|_| panic!("{name}: no answer")).unwrap().into_body();
        for round in 0..5 {
            let message = format!("message {round}");
            assert!(feed.data(message.clone()).await, "{name}");
            let back = tokio::time::timeout(PATIENCE, answer.frame()).await;
            let back = back.unwrap_or_else(|_| panic!("{name}: round {round}")).unwrap().unwrap();
            assert_eq!(back.into_data().unwrap(), message, "{name}");
        }
        drop(feed);
        let end = tokio::time::timeout(PATIENCE, answer.collect()).await;
        let end = end.unwrap_or_else(|_| panic!("{name}: no end"));
        assert!(end.unwrap().to_bytes().is_empty(), "{name}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_never_looks_whole() {
    for which in WAYS {
        let (go_on, may) = tokio::sync::watch::channel(false);
        let application = Application::http(move |_| {
            let mut may = may.clone();
            async move {
                let (feed, body) = Payload::stream();
                tokio::spawn(async move {
                    feed.data("the beginning").await;
                    may.wait_for(|go_on| *go_on).await.unwrap();
                    feed.break_off().await;
                });
                Response::new(body)
            }
        });
        let (mesh, mut client, name) = serving(which, &application).await;
        let request = client.request("GET", "/broken").body(Payload::empty()).unwrap();
        let mut answer = client.send(request).await.unwrap().into_body();
        assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "the beginning", "{name}");
        go_on.send(true).unwrap();
        let rest = tokio::time::timeout(PATIENCE, answer.collect()).await;
        assert!(rest.unwrap_or_else(|_| panic!("{name}: no end")).is_err(), "{name}: it looked whole");
        let entry = mesh.pod("storefront").logged("/broken").await;
        assert_eq!(entry["reason"], "upstream_closed", "{name}: {entry}");
    }
}

#[tokio::test]
async fn a_request_that_breaks_off_never_looks_whole() {
    for which in WAYS {
        let (tell, mut told) = mpsc::unbounded_channel();
        let application = Application::http(move |request| {
            let tell = tell.clone();
            async move {
                let mut body = request.into_body();
                // The first bytes are here, and then: did it end, or break off?
                tell.send(body.frame().await.is_some_and(|frame| frame.is_ok())).unwrap();
                tell.send(body.collect().await.is_err()).unwrap();
                Response::new(Payload::empty())
            }
        });
        let (_mesh, mut client, name) = serving(which, &application).await;
        let (feed, body) = Payload::stream();
        let request = client.request("POST", "/").body(body).unwrap();
        let sending = tokio::spawn(async move { client.call(request).await.map(|a| a.status) });
        feed.data("the beginning").await;
        let mut next = async || tokio::time::timeout(PATIENCE, told.recv()).await.ok().flatten();
        assert_eq!(next().await, Some(true), "{name}: nothing arrived");
        feed.break_off().await;
        assert_eq!(next().await, Some(true), "{name}: it looked whole, or never ended");
        sending.abort();
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    for meshed in [true, false] {
        let (application, seen) = Application::recording("orders");
        let mesh = mesh_of(&application, "AUTO", meshed).await;
        let pod = mesh.pod("storefront");
        let mut stream = pod.dial(pod.at(EXPLICIT)).await.unwrap();
        let request =
            |n: u32| format!("POST /{n} HTTP/1.1\r\nhost: orders.shop\r\ncontent-length: 2\r\n\r\n{n}{n}");
        let last = "GET /last HTTP/1.1\r\nhost: orders.shop\r\nconnection: close\r\n\r\n";
        let all = (1..=5).map(request).collect::<String>() + last;
        stream.write_all(all.as_bytes()).await.unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).await.unwrap();
        let bodies: Vec<_> = answers.split("\r\n\r\n").skip(1).filter_map(|rest| rest.get(..2)).collect();
        assert_eq!(bodies[..5], ["11", "22", "33", "44", "55"], "{answers}");
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 6, "{answers}");
        let order: Vec<_> = seen.all().iter().map(|s| s.uri.path().to_owned()).collect();
        assert_eq!(order, ["/1", "/2", "/3", "/4", "/5", "/last"]);
    }
}

#[tokio::test]
async fn a_client_that_expects_100_gets_it_before_it_sends() {
    for meshed in [true, false] {
        let (application, seen) = Application::recording("orders");
        let mesh = mesh_of(&application, "AUTO", meshed).await;
        let pod = mesh.pod("storefront");
        let mut stream = BufReader::new(pod.dial(pod.at(EXPLICIT)).await.unwrap());
        let head =
            "POST / HTTP/1.1\r\nhost: orders.shop\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut line = String::new();
        tokio::time::timeout(PATIENCE, stream.read_line(&mut line)).await.unwrap().unwrap();
        assert_eq!(line, "HTTP/1.1 100 Continue\r\n", "meshed: {meshed}");
        stream.read_line(&mut line).await.unwrap();
        stream.write_all(b"four").await.unwrap();
        line.clear();
        tokio::time::timeout(PATIENCE, stream.read_line(&mut line)).await.unwrap().unwrap();
        assert_eq!(line, "HTTP/1.1 200 OK\r\n", "meshed: {meshed}");
        assert_eq!(&seen.all()[0].body[..], b"four");
    }
}

#[tokio::test]
async fn a_tls_listener_speaks_both_versions_to_clients_with_a_certificate() {
    let (application, _) = Application::recording("orders");
    let authority = Authority::new().unwrap();
    let files = tempfile::tempdir().unwrap();
    let own = authority.issue_for_host("storefront.test").unwrap();
    let at = |name: &str| files.path().join(name).display().to_string();
    for (name, text) in [("cert", own.certificate.as_str()), ("key", &own.key), ("clients", authority.pem())]
    {
        std::fs::write(at(name), text).unwrap();
    }
    let tls = format!(
        "protocol: HTTP, tls: {{ certificate: {}, key: {}, clientBundle: {} }}",
        at("cert"),
        at("key"),
        at("clients")
    );
    let mesh = Mesh::builder()
        .pod("orders", |p| p.serves("shop/orders").application(&application))
        .pod("storefront", |p| p.listener("tls", &tls));
    let mesh = mesh.start().await;
    let pod = mesh.pod("storefront");
    let client = authority.issue_for_host("client.test").unwrap();
    let connect = |certificate: Option<Issued>, alpn: &'static [u8]| {
        let config = tls::client(certificate.as_ref(), &[alpn]);
        async move {
            let stream = pod.dial(pod.at(EXPLICIT + 1)).await.unwrap();
            tls::connect(stream, config, "storefront.test").await
        }
    };
    for (alpn, speaks) in [(&b"h2"[..], Speaks::Http2), (b"http/1.1", Speaks::Http1)] {
        let stream = connect(Some(client.clone()), alpn).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn));
        let mut client = Client::begin(stream, speaks, "orders.shop").await.unwrap();
        let answer = client.get("/").await;
        assert_eq!((answer.status.as_u16(), answer.header("x-served-by")), (200, "orders"));
    }
    // With TLS 1.3 the refusal comes after the client's side of the handshake.
    let refused = match connect(None, b"http/1.1").await {
        Err(_) => true,
        Ok(mut stream) => {
            stream.write_all(b"GET / HTTP/1.1\r\nhost: orders.shop\r\n\r\n").await.ok();
            !matches!(stream.read(&mut [0; 1]).await, Ok(1))
        }
    };
    assert!(refused, "a client without a certificate was served");
    let labels = [("peer", "downstream"), ("result", "failed"), ("reason", "missing")];
    pod.metric_reaches("trama_tls_handshakes_total", &labels, 1.0).await;
}

#[tokio::test]
async fn no_protocol_is_switched() {
    for meshed in [true, false] {
        let (application, seen) = Application::recording("orders");
        let mesh = mesh_of(&application, "AUTO", meshed).await;
        let pod = mesh.pod("storefront");
        let mut stream = pod.dial(pod.at(EXPLICIT)).await.unwrap();
        // A request that may be answered without the switch, and one that may not; both on one connection.
        let upgrade =
            "GET /upgrade HTTP/1.1\r\nHost: orders.shop\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        let connect = "CONNECT orders.shop:80 HTTP/1.1\r\nHost: orders.shop:80\r\nConnection: close\r\n\r\n";
        stream.write_all(format!("{upgrade}{connect}").as_bytes()).await.unwrap();
        let mut answers = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answers)).await.unwrap().unwrap();
        let (first, second) = answers.split_once("HTTP/1.1 501 Not Implemented\r\n").unwrap();
        assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "meshed: {meshed}: {answers}");
        assert!(second.contains("trama-reason: upgrade_refused\r\n"), "meshed: {meshed}: {answers}");
        let [seen] = &seen.all()[..] else { panic!("meshed: {meshed}: {:?}", seen.all()) };
        assert_eq!(seen.uri.path(), "/upgrade");
        assert!(seen.values("upgrade").is_empty() && seen.values("connection").is_empty(), "{seen:?}");
        let entry = pod.logged_where("CONNECT", |e| e["method"] == "CONNECT").await;
        assert_eq!((&entry["reason"], &entry["status"]), (&"upgrade_refused".into(), &501.into()), "{entry}");
    }
}

/// RFC 9112 section 3.2 wants a Host that is empty where the target has no authority, and HTTP/1.0 knows none at all.
#[tokio::test]
async fn an_empty_host_stays_empty() {
    for meshed in [true, false] {
        for head in ["GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"] {
            let (application, seen) = Application::recording("orders");
            let builder = Mesh::builder()
                .pod("orders", |p| {
                    let p = p.serves("shop/orders").application(&application);
                    if meshed { p } else { p.plain() }
                })
                .pod("storefront", |p| p.listener("orders", "service: \"shop/orders:80\""));
            let mesh = builder.start().await;
            let pod = mesh.pod("storefront");
            let mut stream = pod.dial(pod.at(EXPLICIT + 1)).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
            assert!(answer.contains(" 200 OK\r\n"), "{head:?}, meshed: {meshed}: {answer}");
            assert_eq!(seen.all()[0].values("host"), [""], "{head:?}, meshed: {meshed}");
        }
    }
}
