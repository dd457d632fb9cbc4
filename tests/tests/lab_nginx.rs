//! nginx behind a sidecar and in front of one: neither knows of it, and nothing that HTTP promises is lost.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use trama_tests::mesh::{Application, Mesh, MeshBuilder, PATIENCE, Payload, Pod, Speaks, Where, until};
use trama_tests::peers::{App, Curl, Reply, Site};

const ORDERS: &str = "shop/orders";
const LENGTH: usize = 300_000;

/// Bytes whose places can be told from them.
fn file() -> Vec<u8> {
    (0..LENGTH / 4).flat_map(|n| format!("{:03}\n", n % 997).into_bytes()).collect()
}

fn pair(orders: &Application) -> MeshBuilder {
    Mesh::builder()
        .at(Where::Namespaces)
        .pod("orders", |p| p.serves(ORDERS).application(orders))
        .pod("storefront", |p| p)
}

fn curl(pod: &Pod, at: SocketAddr, path: &str, options: &[&str]) -> Reply {
    let request = Curl::get(&format!("http://{at}{path}")).option(options);
    let reply = request.run(&*pod.place(), PATIENCE).unwrap();
    assert_eq!(reply.exit, 0, "{path} {options:?}: {}", reply.complaint);
    reply
}

/// All that nginx can do with a file, asked for by curl.
fn everything_of_a_file(pod: &Pod, at: SocketAddr, prefix: &str) {
    let file = file();
    let path = format!("{prefix}/file");
    let whole = curl(pod, at, &path, &[]);
    assert_eq!((whole.status, whole.header("content-length")), (200, Some("300000")));
    assert!(whole.body == file, "{} bytes, or others", whole.body.len());

    let head = curl(pod, at, &path, &["--head"]);
    assert_eq!((head.status, head.header("content-length")), (200, Some("300000")));
    assert_eq!(head.header("etag"), whole.header("etag"));

    let part = curl(pod, at, &path, &["--range", "100000-249999"]);
    assert_eq!((part.status, part.header("content-range")), (206, Some("bytes 100000-249999/300000")));
    assert!(part.body == file[100_000..250_000], "{} bytes, or others", part.body.len());
    let beyond = curl(pod, at, &path, &["--range", "300000-"]);
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */300000")));

    let tag = format!("if-none-match: {}", whole.header("etag").unwrap());
    let unchanged = curl(pod, at, &path, &["--header", &tag]);
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    assert_eq!(unchanged.header("etag"), whole.header("etag"));

    let chunked = curl(pod, at, &format!("{prefix}/chunked"), &[]);
    assert_eq!((chunked.status, chunked.header("content-length")), (200, None));
    assert_eq!(chunked.header("transfer-encoding"), Some("chunked"));
    assert!(chunked.body == file, "{} bytes, or others", chunked.body.len());
    let none = curl(pod, at, &format!("{prefix}/none"), &[]);
    assert_eq!((none.status, none.body.len()), (204, 0));
}

#[tokio::test]
async fn nginx_behind_a_sidecar_answers_as_if_there_were_none() {
    for http2 in [false, true] {
        let builder = pair(&Application::nginx(Site::of(&file()).http2(http2)));
        let protocol = if http2 { "HTTP2" } else { "HTTP" };
        let mesh = builder.policy(|p| p.protocol(ORDERS, protocol)).start().await;
        let storefront = mesh.pod("storefront");
        everything_of_a_file(storefront, mesh.service(ORDERS), "");

        // One connection of nginx's serves one request after the other, and after an answer without a body too.
        for speaks in [Speaks::Http1, Speaks::Http2] {
            let mut client = storefront.http_to(mesh.service(ORDERS), speaks, "orders.shop").await;
            let first = client.get("/none").await;
            for n in 1..=20 {
                let path = if n % 2 == 0 { "/file" } else { "/chunked" };
                let answer = client.get(path).await;
                assert_eq!((answer.status.as_u16(), answer.body.len()), (200, LENGTH));
                assert_eq!(answer.header("x-connection"), first.header("x-connection"), "{speaks:?} {n}");
            }
        }
    }
}

#[tokio::test]
async fn nginx_in_front_of_the_mesh_keeps_its_connections() {
    let mut mesh = pair(&Application::nginx(Site::of(&file())))
        .pod("front", |p| p)
        .pod("browser", |p| p.plain())
        .start()
        .await;
    let front = Site::of(b"").passes_on(mesh.service(ORDERS));
    mesh.pod_mut("front").start_application(&Application::nginx(front));
    // A browser, nginx, its sidecar, the other sidecar, nginx.
    let (browser, at) = (mesh.pod("browser"), mesh.pod("front").at(8080));
    everything_of_a_file(browser, at, "/next");
    let captured = [("direction", "outbound"), ("peer", "downstream"), ("tls", "none")];
    let opened = "trama_connections_opened_total";
    assert_eq!(mesh.pod("front").metric(opened, &captured).await, 1.0, "nginx keeps its connection");
    let meshed = [("direction", "inbound"), ("peer", "downstream"), ("tls", "mutual")];
    assert_eq!(mesh.pod("orders").metric(opened, &meshed).await, 1.0);

    let like = |e: &&serde_json::Value| e["direction"] == "outbound" && e["tls"] == "mutual";
    let all = || async { (mesh.pod("front").log().iter().filter(like).count() == 7).then_some(()) };
    until("seven requests in the log", all).await;
}

#[tokio::test]
async fn nginx_passes_bodies_on_to_what_runs_beside_it() {
    let mesh = pair(&Application::nginx(Site::of(b"")));
    let mut mesh = mesh.policy(|p| p.protocol(ORDERS, "HTTP")).start().await;
    let place = mesh.pod("orders").place();
    // In the same pod: what nginx sends there is not captured.
    let beside = App::python(&*place, "beside", 8081).unwrap();
    let site = Site::of(b"").passes_on(beside.address);
    mesh.pod_mut("orders").start_application(&Application::nginx(site));
    let body = file();
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut client = mesh.pod("storefront").http_to(mesh.service(ORDERS), speaks, "orders.shop").await;
        // Counted, and in chunks: nginx reads both to their ends before it passes them on.
        let answer = client.post("/next/echo", body.clone()).await;
        assert_eq!(answer.status.as_u16(), 200, "{speaks:?}: {}", answer.reason());
        assert!(answer.body == body, "{speaks:?}: {} bytes, or others", answer.body.len());
        let (feed, streamed) = Payload::stream();
        let chunks = body.chunks(30_000).map(<[u8]>::to_vec).collect::<Vec<_>>();
        let feeding = tokio::spawn(async move {
            for chunk in chunks {
                assert!(feed.data(chunk).await, "the body is read");
            }
        });
        let request = client.request("POST", "/next/echo").body(streamed).unwrap();
        let answer = client.call(request).await.unwrap();
        assert!(answer.body == body, "{speaks:?}: {} bytes, or others", answer.body.len());
        feeding.await.unwrap();
    }
    let outbound = mesh.pod("orders").log().into_iter().filter(|e| e["direction"] == "outbound").count();
    assert_eq!(outbound, 0, "it was captured");
}
