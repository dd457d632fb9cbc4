//! What a service may cost its callers, and who is to blame when a connection is no more.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::Response;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trama_tests::mesh::{Application, EXPLICIT, Mesh, Payload, Speaks, Where, until};

const ORDERS: &str = "shop/orders";

/// Wide, where something else is to be the limit: the default is a share of ten seconds' requests, which a busy machine makes few.
const BUDGET: &str = "kind: MeshSettings\nmetadata: { name: mesh }\nspec: { retryBudget: { percent: 100, minPerSecond: 1000 } }\n";

/// A busy machine may take longer than a second to connect, and what then goes to another region as it should is not what a
/// test that counts arrivals in the first one asks for.
const PATIENT: &str = "timeouts: { connect: 20s }";

/// When a region dies, all that it had is asked of the next one at once.
#[tokio::test]
async fn what_a_dead_region_had_in_flight_is_tried_again_whole() {
    const IN_FLIGHT: usize = 250;
    let arrived = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&arrived);
    let holding = Application::http(move |_| {
        let count = Arc::clone(&count);
        async move {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::pending().await
        }
    });
    let mut mesh = Mesh::builder()
        .at(Where::Processes)
        .pod("first", |p| p.serves(ORDERS).region("sao-paulo").application(&holding).config(PATIENT))
        .pod("second", |p| p.serves(ORDERS).region("rio").application(&Application::echo("second")))
        .pod("storefront", |p| p.region("sao-paulo").config(PATIENT))
        .policy(|p| {
            p.order(&["sao-paulo", "rio"]);
            p.more(BUDGET);
        })
        .start()
        .await;
    let client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
    let mut under_way = tokio::task::JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let mut client = client.share();
        under_way.spawn(async move { client.call("GET", "/held", Payload::empty()).await.unwrap() });
    }
    let all = || async { (arrived.load(Ordering::Relaxed) as usize == IN_FLIGHT).then_some(()) };
    until("all are on their way", all).await;
    mesh.stop_sidecar("first");
    for answer in under_way.join_all().await {
        assert_eq!(
            (answer.status.as_u16(), answer.reason(), answer.header("x-served-by")),
            (200, "", "second")
        );
    }
    // Out of the choice, and so says the log.
    let labels = [("service", ORDERS), ("peer_region", "sao-paulo")];
    mesh.pod("storefront").metric_reaches("trama_endpoints_ejected", &labels, 1.0).await;
    let said = format!(
        "endpoint ejected for 10s service=shop/orders:80 endpoint={} region=sao-paulo reason=",
        mesh.pod("first").at(8080)
    );
    let log = mesh.pod_mut("storefront").process().log();
    assert!(log.contains(&said), "{said}: {log}");
}

/// Nobody has a connection yet: neither the sidecar that is asked, nor the one that it asks, to its application.
#[tokio::test]
async fn a_burst_on_a_cold_way_arrives_whole() {
    const BURST: usize = 250;
    for round in 0..5 {
        let (arrived, all) = (Arc::new(AtomicU32::new(0)), tokio::sync::watch::Sender::new(false));
        let (count, there) = (Arc::clone(&arrived), all.subscribe());
        let holding = Application::http(move |_| {
            let (count, mut there) = (Arc::clone(&count), there.clone());
            async move {
                count.fetch_add(1, Ordering::Relaxed);
                there.wait_for(|all| *all).await.unwrap();
                Response::new(Payload::empty())
            }
        });
        let mesh = Mesh::builder()
            .pod("orders", |p| p.serves(ORDERS).application(&holding).config(PATIENT))
            .pod("storefront", |p| p.config(PATIENT))
            .start()
            .await;
        let client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
        let mut under_way = tokio::task::JoinSet::new();
        for _ in 0..BURST {
            let mut client = client.share();
            under_way.spawn(async move { client.call("GET", "/", Payload::empty()).await.unwrap() });
        }
        let arrive = || async { (arrived.load(Ordering::Relaxed) as usize == BURST).then_some(()) };
        until(&format!("all of round {round} have arrived"), arrive).await;
        all.send_replace(true);
        for answer in under_way.join_all().await {
            assert_eq!((answer.status.as_u16(), answer.reason()), (200, ""));
        }
        // Each was tried once.
        assert_eq!(arrived.load(Ordering::Relaxed) as usize, BURST);
    }
}

#[tokio::test]
async fn retries_beyond_their_number_are_not_made_and_are_counted() {
    // The first request's retry is kept, every other answer is a failure at once.
    let (go_on, may) = tokio::sync::watch::channel(false);
    let arrived = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&arrived);
    let failing = Application::http(move |_| {
        let (number, mut may) = (count.fetch_add(1, Ordering::Relaxed), may.clone());
        async move {
            if number == 1 {
                may.wait_for(|go_on| *go_on).await.unwrap();
                return Response::new(Payload::of("done"));
            }
            Response::builder().status(503).body(Payload::empty()).unwrap()
        }
    });
    let mesh = Mesh::builder()
        .pod("orders", |p| p.serves(ORDERS).application(&failing))
        .pod("storefront", |p| p)
        .policy(|p| {
            p.service(ORDERS, "circuitLimits: { maxRetries: 1 }\noutlier: { consecutiveFailures: 0 }");
            p.route(ORDERS, "retry: { attempts: 1, codes: [503], backoff: 0.001s }");
        });
    let mesh = mesh.start().await;
    let storefront = mesh.pod("storefront");
    let client = storefront.http(Speaks::Http2, "orders.shop").await;
    let mut held = client.share();
    let held = tokio::spawn(async move { held.call("GET", "/held", Payload::empty()).await });
    let there = || async { (arrived.load(Ordering::Relaxed) == 2).then_some(()) };
    until("the first one's retry", there).await;
    let answer = client.share().call("GET", "/second", Payload::empty()).await.unwrap();
    assert_eq!((answer.status.as_u16(), arrived.load(Ordering::Relaxed)), (503, 3));
    let labels = [("service", ORDERS), ("kind", "max_retries")];
    storefront.metric_reaches("trama_retries_withheld_total", &labels, 1.0).await;
    go_on.send(true).unwrap();
    assert_eq!(&held.await.unwrap().unwrap().body[..], b"done");
    let answer = client.share().call("GET", "/third", Payload::empty()).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), arrived.load(Ordering::Relaxed)),
        (503, 5),
        "the place is free again"
    );
}

#[tokio::test]
async fn connections_to_others_are_counted_with_their_handshakes() {
    let mesh = Mesh::builder()
        .pod("orders", |p| p.serves(ORDERS).application(&Application::echo("orders")))
        .pod("storefront", |p| p)
        .start()
        .await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    assert_eq!(client.get("/").await.status.as_u16(), 200);
    let upstream = ("peer", "upstream");
    let (storefront, orders) = (mesh.pod("storefront"), mesh.pod("orders"));
    storefront.metric_reaches("trama_tls_handshakes_total", &[upstream, ("result", "ok")], 1.0).await;
    for name in ["trama_connections_opened_total", "trama_connections_active"] {
        storefront.metric_reaches(name, &[upstream, ("direction", "outbound"), ("tls", "mutual")], 1.0).await;
        orders.metric_reaches(name, &[upstream, ("direction", "inbound"), ("tls", "none")], 1.0).await;
    }
}

#[tokio::test]
async fn a_client_that_resets_its_opaque_connection_is_the_reason() {
    for meshed in [true, false] {
        let mesh = Mesh::builder()
            .pod("orders", |p| {
                let p = p.serves(ORDERS).application(&Application::tcp_echo());
                if meshed { p } else { p.plain() }
            })
            .pod("storefront", |p| p.listener("raw", "protocol: TCP, service: \"shop/orders:80\""))
            .policy(|p| p.protocol(ORDERS, "TCP"))
            .start()
            .await;
        let storefront = mesh.pod("storefront");
        let mut stream = storefront.dial(storefront.at(EXPLICIT + 1)).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        stream.read_u8().await.unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(stream);
        let entry = storefront.logged_where("the stream", |e| e["protocol"] == "tcp").await;
        assert_eq!(entry["reason"], "downstream_closed", "meshed: {meshed}: {entry}");
    }
}

#[tokio::test]
async fn a_sidecar_that_stops_is_left_although_its_kernel_goes_on() {
    let mut mesh = Mesh::builder()
        .at(Where::Processes)
        .pod("first", |p| p.serves(ORDERS).region("sao-paulo").application(&Application::echo("first")))
        .pod("second", |p| p.serves(ORDERS).region("rio").application(&Application::echo("second")))
        .pod("storefront", |p| {
            p.region("sao-paulo").config("timeouts: { keepalive: 200ms, deadPeer: 300ms, connect: 2s }")
        })
        .policy(|p| p.order(&["sao-paulo", "rio"]))
        .start()
        .await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    assert_eq!(client.get("/").await.header("x-served-by"), "first");
    let first = i32::try_from(mesh.pod_mut("first").process().pid()).ok().and_then(Pid::from_raw).unwrap();
    kill_process(first, Signal::STOP).unwrap();
    let answer = client.get("/stopped").await;
    assert_eq!((answer.status.as_u16(), answer.header("x-served-by")), (200, "second"));
    let entry = mesh.pod("storefront").logged("/stopped").await;
    assert_eq!(entry["attempts"], 2, "{entry}");
}

#[tokio::test]
async fn an_answer_has_as_many_bytes_of_header_as_the_limit_says_and_no_more() {
    let application = Application::http(|request| async move {
        let bytes: usize = request.uri().path()[1..].parse().unwrap();
        let answer = (0..4)
            .fold(Response::builder(), |answer, n| answer.header(format!("x-{n}"), "v".repeat(bytes / 4)));
        answer.body(Payload::empty()).unwrap()
    });
    for (protocol, meshed) in [("HTTP", false), ("HTTP", true), ("HTTP2", false), ("HTTP2", true)] {
        let mesh = Mesh::builder()
            .pod("orders", |p| {
                let p = p.serves(ORDERS).application(&application);
                if meshed { p } else { p.plain() }
            })
            .pod("storefront", |p| p)
            .policy(|p| p.protocol(ORDERS, protocol))
            .start()
            .await;
        let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
        for (bytes, told) in [
            (65_000, (200, "")),
            (66_000, (502, "upstream_malformed")),
            (100_000, (502, "upstream_malformed")),
            (130_000, (502, "upstream_malformed")),
            (65_000, (200, "")),
        ] {
            let answer = client.get(&format!("/{bytes}")).await;
            let got = (answer.status.as_u16(), answer.reason());
            assert_eq!(got, told, "{protocol}, meshed: {meshed}, {bytes} bytes");
            assert!(got.0 != 200 || answer.header("x-3").len() == bytes / 4, "{protocol}, meshed: {meshed}");
        }
    }
}
