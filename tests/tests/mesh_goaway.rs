//! How a sidecar that ends says so on the wire, whoever asked it to: GOAWAY on HTTP/2, `connection: close` on HTTP/1.1.
//! And what it does where an application says GOAWAY, and when it says so to another sidecar for its resets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::Command;
use std::time::Instant;

use http::Response;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use trama_tests::frames::{ANY_STREAM, ENHANCE_YOUR_CALM, Frames, NO_ERROR, Said};
use trama_tests::mesh::{Application, EXPLICIT, Mesh, PATIENCE, Payload, Pod, Speaks, Where};
use trama_tests::{process, programs, tls};

/// An application that answers `/slow` when it may and counts what has come.
fn application() -> (Application, watch::Sender<bool>, watch::Receiver<u32>) {
    let ((go_on, may), (come, coming)) = (watch::channel(false), watch::channel(0));
    let application = Application::http(move |request| {
        let (mut may, come) = (may.clone(), come.clone());
        async move {
            come.send_modify(|count| *count += 1);
            if request.uri().path() == "/slow" {
                may.wait_for(|may| *may).await.unwrap();
            }
            Response::new(Payload::of("done"))
        }
    });
    (application, go_on, coming)
}

/// A mesh of one pod as a process.
async fn alone() -> (Mesh, watch::Sender<bool>, watch::Receiver<u32>) {
    let (application, go_on, coming) = application();
    let builder = Mesh::builder().at(Where::Processes);
    let mesh = builder.pod("orders", |p| p.serves("shop/orders").application(&application)).start().await;
    (mesh, go_on, coming)
}

fn get(path: &str) -> [(&str, &str); 4] {
    [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "orders.shop")]
}

/// A connection as the application makes them to its sidecar.
async fn own(pod: &Pod) -> Frames {
    Frames::begin(pod.dial(pod.at(EXPLICIT)).await.unwrap()).await
}

/// A connection as other sidecars make them.
async fn meshed(mesh: &Mesh) -> Frames<TlsStream<TcpStream>> {
    let pod = mesh.pod("orders");
    let issued = mesh.authority().issue("spiffe://mesh.test/ns/shop/sa/storefront").unwrap();
    let config = tls::client(Some(&issued), &[b"trama-h2/1"]);
    let stream = pod.dial(pod.mesh()).await.unwrap();
    Frames::begin(tls::connect(stream, config, "8080.orders.shop").await.unwrap()).await
}

/// A request under way on stream 1, and on stream 3 one that was answered.
async fn busy<S: AsyncRead + AsyncWrite + Unpin>(frames: &mut Frames<S>, coming: &mut watch::Receiver<u32>) {
    let before = *coming.borrow();
    frames.head(1, &get("/slow"), true).await.unwrap();
    timeout(PATIENCE, coming.wait_for(|count| *count > before)).await.unwrap().unwrap();
    frames.head(3, &get("/quick"), true).await.unwrap();
    assert_eq!(frames.hear().await, Said::Head(3, 200));
}

/// It is asked to go; what came until it heard of that is served; then the connection ends, without an error.
async fn goes<S: AsyncRead + AsyncWrite + Unpin>(frames: &mut Frames<S>, go_on: &watch::Sender<bool>) {
    assert_eq!(frames.hear().await, Said::GoAway(ANY_STREAM, NO_ERROR));
    // The GOAWAY that names the last stream comes after a round trip: what was on its way meanwhile is served.
    frames.head(5, &get("/quick"), true).await.unwrap();
    let mut said = Vec::new();
    while said.len() < 2 {
        said.push(frames.hear().await);
    }
    assert!(said.contains(&Said::Head(5, 200)) && said.contains(&Said::GoAway(5, NO_ERROR)), "{said:?}");
    go_on.send(true).unwrap();
    assert_eq!(frames.hear().await, Said::Head(1, 200));
    assert_eq!(frames.hear().await, Said::End);
}

/// Asks the only pod's sidecar to drain, as a container's hook does.
async fn drain(pod: &Pod, what: &[&str]) {
    let mut command = Command::new(programs::built("trama-sidecar").unwrap());
    command.args(["drain", "--admin", &pod.at(15000).to_string()]).args(what);
    let output = tokio::task::spawn_blocking(move || process::run(&mut command, PATIENCE).unwrap());
    let output = output.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_signal_sends_everybody_away() {
    let (mut mesh, go_on, mut coming) = alone().await;
    let (mut inside, mut outside) = (own(mesh.pod("orders")).await, meshed(&mesh).await);
    busy(&mut inside, &mut coming).await;
    busy(&mut outside, &mut coming).await;
    let mut http1 = mesh.pod("orders").dial(mesh.pod("orders").at(EXPLICIT)).await.unwrap();
    let before = *coming.borrow();
    http1.write_all(b"GET /slow HTTP/1.1\r\nhost: orders.shop\r\n\r\n").await.unwrap();
    timeout(PATIENCE, coming.wait_for(|count| *count > before)).await.unwrap().unwrap();
    mesh.pod_mut("orders").process().terminate();
    goes(&mut outside, &go_on).await;
    let mut answer = String::new();
    timeout(PATIENCE, http1.read_to_string(&mut answer)).await.expect("the connection ends").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\ndone"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    let mut said = Vec::new();
    while said.last() != Some(&Said::End) {
        said.push(inside.hear().await);
    }
    // The last stream is named when our answer to a PING has come, which may be after the request's own answer.
    assert_eq!((said.len(), said[0]), (4, Said::GoAway(ANY_STREAM, NO_ERROR)), "{said:?}");
    assert!(said.contains(&Said::Head(1, 200)) && said.contains(&Said::GoAway(3, NO_ERROR)), "{said:?}");
    assert_eq!(mesh.pod_mut("orders").process().wait(PATIENCE).unwrap().code(), Some(0));
}

#[tokio::test]
async fn an_inbound_drain_sends_callers_away_and_nobody_else() {
    let (mut mesh, go_on, mut coming) = alone().await;
    let (mut inside, mut outside) = (own(mesh.pod("orders")).await, meshed(&mesh).await);
    busy(&mut inside, &mut coming).await;
    busy(&mut outside, &mut coming).await;
    drain(mesh.pod("orders"), &["--inbound"]).await;
    goes(&mut outside, &go_on).await;
    // The application's own connection has heard nothing of it, and goes on.
    assert_eq!(inside.hear().await, Said::Head(1, 200));
    inside.head(5, &get("/quick"), true).await.unwrap();
    assert_eq!(inside.hear().await, Said::Head(5, 200));
    // Who comes all the same is served, and asked to go at once.
    let mut late = meshed(&mesh).await;
    late.head(1, &get("/quick"), true).await.unwrap();
    let mut said = Vec::new();
    while said.last() != Some(&Said::End) {
        said.push(late.hear().await);
    }
    assert!(said.contains(&Said::Head(1, 200)), "{said:?}");
    assert!(said.contains(&Said::GoAway(ANY_STREAM, NO_ERROR)), "{said:?}");
    let running = mesh.pod_mut("orders").process().is_running();
    assert!(running, "an inbound drain has ended the sidecar");
    // And then everybody.
    drain(mesh.pod("orders"), &[]).await;
    assert_eq!(inside.hear().await, Said::GoAway(ANY_STREAM, NO_ERROR));
    assert_eq!(inside.hear().await, Said::GoAway(5, NO_ERROR));
    assert_eq!(inside.hear().await, Said::End);
    assert_eq!(mesh.pod_mut("orders").process().wait(PATIENCE).unwrap().code(), Some(0));
}

/// An HTTP/2 application that answers `/held` when it may, and after `/leave` takes no more streams on that connection.
/// Counts its connections and what is held.
fn leaving() -> (Application, watch::Sender<bool>, watch::Receiver<(u32, u32)>) {
    let ((go_on, may), (come, coming)) = (watch::channel(false), watch::channel((0, 0)));
    let application = Application::raw(move |stream| {
        let (may, come) = (may.clone(), come.clone());
        async move {
            come.send_modify(|(connections, _)| *connections += 1);
            let mut server = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = server.accept().await {
                let (path, mut may) = (request.uri().path().to_owned(), may.clone());
                if path == "/leave" {
                    server.graceful_shutdown();
                }
                if path == "/held" {
                    come.send_modify(|(_, held)| *held += 1);
                }
                tokio::spawn(async move {
                    if path == "/held" {
                        may.wait_for(|may| *may).await.unwrap();
                    }
                    let mut body = respond.send_response(Response::new(()), false).unwrap();
                    body.send_data("done".into(), true).unwrap();
                });
            }
        }
    });
    (application, go_on, coming)
}

#[tokio::test]
async fn an_application_that_says_goaway_keeps_its_streams_and_gets_the_next_on_another_connection() {
    for meshed in [true, false] {
        let (application, go_on, mut coming) = leaving();
        let mesh = Mesh::builder()
            .pod("orders", |p| {
                let p = p.serves("shop/orders").application(&application);
                if meshed { p } else { p.plain() }
            })
            .pod("storefront", |p| p)
            .policy(|p| {
                p.protocol("shop/orders", "HTTP2");
                p.route("shop/orders", "retry: { attempts: 0 }");
            });
        let mesh = mesh.start().await;
        let client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
        let call = |path: &'static str| {
            let mut client = client.share();
            tokio::spawn(async move { client.call("GET", path, Payload::empty()).await.unwrap() })
        };
        let held = call("/held");
        timeout(PATIENCE, coming.wait_for(|(_, held)| *held == 1)).await.unwrap().unwrap();
        assert_eq!(call("/leave").await.unwrap().status.as_u16(), 200, "meshed: {meshed}");
        let deadline = Instant::now() + PATIENCE;
        while coming.borrow().0 == 1 {
            assert!(Instant::now() < deadline, "meshed: {meshed}: no other connection");
            let answer = call("/next").await.unwrap();
            assert_eq!((answer.status.as_u16(), answer.reason()), (200, ""), "meshed: {meshed}");
        }
        assert!(!held.is_finished(), "meshed: {meshed}");
        go_on.send(true).unwrap();
        assert_eq!(&held.await.unwrap().body[..], b"done", "meshed: {meshed}");
        assert_eq!(call("/last").await.unwrap().status.as_u16(), 200, "meshed: {meshed}");
        assert_eq!(*coming.borrow(), (2, 1), "meshed: {meshed}");
    }
}

/// Its connection carries all callers of a worker, and each of them may give up.
#[tokio::test]
async fn another_sidecar_may_reset_more_streams_than_a_client_and_not_without_end() {
    let (application, _go_on, mut coming) = application();
    let builder = Mesh::builder().pod("orders", |p| {
        let p = p.serves("shop/orders").application(&application);
        p.config("limits: { maxResetsPerSecond: 2 }")
    });
    let mesh = builder.start().await;
    let mut frames = meshed(&mesh).await;
    for n in 0..40 {
        frames.head(2 * n + 1, &get("/slow"), true).await.unwrap();
        timeout(PATIENCE, coming.wait_for(|count| *count > n)).await.unwrap().unwrap();
        frames.reset(2 * n + 1).await.unwrap();
    }
    frames.head(81, &get("/quick"), true).await.unwrap();
    assert_eq!(frames.hear().await, Said::Head(81, 200));
    for stream in (83..4_000).step_by(2) {
        if frames.head(stream, &get("/slow"), true).await.is_err() || frames.reset(stream).await.is_err() {
            break;
        }
    }
    let said = loop {
        match frames.hear().await {
            Said::Head(..) | Said::Reset(..) => {}
            said => break said,
        }
    };
    assert!(matches!(said, Said::GoAway(_, ENHANCE_YOUR_CALM)), "{said:?}");
}
