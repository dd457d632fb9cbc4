//! The end of a sidecar: peers are asked to go, what is under way is finished, and only the deadline cuts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use http::Response;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use trama_sidecar::drain::Stage;
use trama_tests::mesh::{Application, Client, Mesh, PATIENCE, Payload, Speaks, Where, until};

/// Answers `/slow` when it may, and everything else at once.
fn application() -> (Application, watch::Sender<bool>, watch::Receiver<u32>) {
    let (go_on, may) = watch::channel(false);
    let (arrived, arrivals) = watch::channel(0);
    let application = Application::http(move |request| {
        let (mut may, arrived) = (may.clone(), arrived.clone());
        async move {
            if request.uri().path() == "/slow" {
                arrived.send_modify(|n| *n += 1);
                may.wait_for(|may| *may).await.unwrap();
            }
            Response::new(Payload::of("done"))
        }
    });
    (application, go_on, arrivals)
}

async fn mesh(application: &Application, place: Where, config: &str) -> Mesh {
    let builder = Mesh::builder()
        .at(place)
        .pod("orders", |p| p.serves("shop/orders").application(application).config(config))
        .pod("storefront", |p| p.config(config));
    builder.start().await
}

async fn slow(mut client: Client) -> (hyper::Result<trama_tests::mesh::Answer>, Client) {
    let request = client.request("GET", "/slow").body(Payload::empty()).unwrap();
    let answer = client.call(request).await;
    (answer, client)
}

#[tokio::test]
async fn what_is_under_way_is_finished_and_then_connections_end() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let (application, go_on, mut arrivals) = application();
        let mut mesh = mesh(&application, Where::InProcess, "").await;
        let client = mesh.pod("storefront").http(speaks, "orders.shop").await;
        let mut idle = mesh.pod("storefront").http(speaks, "orders.shop").await;
        assert_eq!(idle.get("/first").await.status.as_u16(), 200);
        let under_way = tokio::spawn(slow(client));
        arrivals.wait_for(|n| *n == 1).await.unwrap();
        mesh.pod("storefront").drain(Stage::All);
        // An idle connection is closed, or told to go, without being asked for anything.
        tokio::time::timeout(PATIENCE, idle.ended()).await.expect("the idle connection ends").ok();
        go_on.send(true).unwrap();
        let (answer, mut client) = under_way.await.unwrap();
        let answer = answer.unwrap_or_else(|e| panic!("{speaks:?}: cut off: {e}"));
        assert_eq!(&answer.body[..], b"done");
        if speaks == Speaks::Http1 {
            assert_eq!(answer.header("connection"), "close");
        }
        tokio::time::timeout(PATIENCE, client.ended()).await.expect("the connection ends").ok();
        assert!(mesh.pod_mut("storefront").stop().await, "{speaks:?}: something was cut off");
        assert_eq!(mesh.pod("storefront").logged("/slow").await["status"], 200);
    }
}

#[tokio::test]
async fn an_inbound_drain_leaves_the_applications_own_calls_alone() {
    let (application, ..) = application();
    let mesh = mesh(&application, Where::InProcess, "").await;
    // `orders` calls itself here: its sidecar is both the caller's and the callee's.
    let mut own = mesh.pod("orders").http(Speaks::Http2, "orders.shop").await;
    let mut other = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
    assert_eq!(own.get("/").await.status.as_u16(), 200);
    assert_eq!(other.get("/").await.status.as_u16(), 200);
    mesh.pod("orders").drain(Stage::Inbound);
    for _ in 0..50 {
        // Its own connection stays, and callers lose nothing: they meet GOAWAY and come again.
        assert_eq!(own.get("/").await.status.as_u16(), 200);
        let answer = other.post("/", "x").await;
        assert_eq!(answer.status.as_u16(), 200, "{}", answer.reason());
    }
    assert!(!own.is_closed());
    let ready = mesh.pod("orders").ask(15021, "/readyz").await.unwrap();
    assert_eq!(ready.status.as_u16(), 503, "who drains is not ready");
}

#[tokio::test]
async fn the_deadline_cuts_what_does_not_end() {
    let (application, _go_on, mut arrivals) = application();
    let mut mesh = mesh(&application, Where::InProcess, "timeouts: { drain: 500ms }").await;
    let client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    let under_way = tokio::spawn(slow(client));
    arrivals.wait_for(|n| *n == 1).await.unwrap();
    let began = Instant::now();
    assert!(!mesh.pod_mut("storefront").stop().await, "a request that never ends was drained");
    let took = began.elapsed();
    assert!((Duration::from_millis(400)..Duration::from_secs(5)).contains(&took), "{took:?}");
    assert!(under_way.await.unwrap().0.is_err(), "what was cut off looked whole");
    let entry = mesh.pod("storefront").logged("/slow").await;
    assert_eq!(entry["reason"], "draining", "{entry}");
}

#[tokio::test]
async fn a_sidecar_that_is_dropped_lets_go_of_everything() {
    let (application, _go_on, mut arrivals) = application();
    let mesh = mesh(&application, Where::InProcess, "").await;
    let client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    let under_way = tokio::spawn(slow(client));
    arrivals.wait_for(|n| *n == 1).await.unwrap();
    let ports = [15080, 15008, 15021].map(|port| mesh.pod("storefront").at(port));
    drop(mesh);
    assert!(tokio::time::timeout(PATIENCE, under_way).await.expect("it is cut off").unwrap().0.is_err());
    for port in ports {
        let closed = || async { TcpStream::connect(port).await.is_err().then_some(()) };
        until(&format!("nobody listens on {port}"), closed).await;
    }
}

#[tokio::test]
async fn a_signal_drains_and_a_second_one_stops() {
    let (application, go_on, mut arrivals) = application();
    let mut mesh = mesh(&application, Where::Processes, "").await;
    // With nothing under way: the end is good, and at once.
    let client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    let under_way = tokio::spawn(slow(client));
    arrivals.wait_for(|n| *n == 1).await.unwrap();
    let process = mesh.pod_mut("storefront").process();
    process.terminate();
    process.wait_until("draining", PATIENCE, |p| p.log().contains("draining").then_some(())).unwrap();
    assert!(process.is_running(), "a request is under way");
    go_on.send(true).unwrap();
    assert_eq!(&under_way.await.unwrap().0.unwrap().body[..], b"done");
    assert_eq!(mesh.pod_mut("storefront").process().wait(PATIENCE).unwrap().code(), Some(0));

    // The other one is left by a connection that never ends.
    let mut held = mesh.pod("orders").dial(mesh.pod("orders").at(15080)).await.unwrap();
    held.write_all(b"GET /slow HTTP/1.1\r\nhost: orders.shop\r\ncontent-length: 5\r\n\r\n").await.unwrap();
    until("the request's arrival", || async { (*arrivals.borrow() == 2).then_some(()) }).await;
    let process = mesh.pod_mut("orders").process();
    process.terminate();
    process.wait_until("draining", PATIENCE, |p| p.log().contains("draining").then_some(())).unwrap();
    assert!(process.is_running(), "a connection is open");
    // The same signal so soon again would be the same wish.
    process.interrupt();
    assert_eq!(process.wait(PATIENCE).unwrap().code(), Some(3));
}
