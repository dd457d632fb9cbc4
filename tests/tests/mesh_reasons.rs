//! The named reasons that no other suite provokes, from outside and through a whole sidecar; and that none is left out.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use trama_sidecar::error::Reason;
use trama_tests::frames::has_request;
use trama_tests::mesh::{
    Application, Certificate, EXPLICIT, Mesh, MeshBuilder, PATIENCE, Payload, PodSpec, Speaks,
};

const ORDERS: &str = "shop/orders";

fn pair(application: &Application, describe: impl Fn(PodSpec) -> PodSpec) -> MeshBuilder {
    Mesh::builder()
        .pod("orders", |p| describe(p.serves(ORDERS).region("rio").application(application)))
        .pod("storefront", |p| p.region("sao-paulo"))
        .policy(|p| p.route(ORDERS, "retry: { attempts: 0 }"))
}

/// Whatever is asked for, the answer, the log and the metric say this, and the caller's own connection goes on.
async fn fails(mesh: &Mesh, authority: &str, status: u16, reason: &str) {
    let storefront = mesh.pod("storefront");
    for (speaks, count) in [(Speaks::Http1, 1.0), (Speaks::Http2, 2.0)] {
        let mut client = storefront.http(speaks, authority).await;
        let path = format!("/{speaks:?}");
        let answer = client.post(&path, "an order").await;
        assert_eq!((answer.status.as_u16(), answer.reason()), (status, reason), "{speaks:?}");
        let entry = storefront.logged(&path).await;
        assert_eq!((&entry["status"], &entry["reason"]), (&status.into(), &reason.into()), "{entry}");
        storefront.metric_reaches("trama_requests_total", &[("reason", reason)], count).await;
        assert!(!client.is_closed(), "{reason}: the connection is gone");
    }
}

#[tokio::test]
async fn no_rule_matches() {
    let (orders, seen) = Application::recording("orders");
    let only = "matches: [{ path: { type: EXACT, value: /only } }]";
    let mesh = pair(&orders, |p| p).policy(|p| p.route(ORDERS, only)).start().await;
    fails(&mesh, "orders.shop", 404, "no_route").await;
    assert!(seen.all().is_empty());
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    assert_eq!(client.get("/only").await.status, 200);
}

#[tokio::test]
async fn nobody_serves() {
    let mesh = pair(&Application::echo("orders"), |p| p).policy(|p| p.service("shop/empty", ""));
    fails(&mesh.start().await, "empty.shop", 503, "no_endpoint").await;
}

#[tokio::test]
async fn only_a_forbidden_region_serves() {
    let (orders, seen) = Application::recording("orders");
    let mesh = pair(&orders, |p| p).policy(|p| {
        p.more(
            "kind: RegionalPolicy\nmetadata: { name: orders, namespace: shop }\n\
             spec: { service: orders, residency: { allow: [sao-paulo] } }\n",
        );
    });
    fails(&mesh.start().await, "orders.shop", 503, "residency_exhausted").await;
    assert!(seen.all().is_empty(), "a request has left its region");
}

#[tokio::test]
async fn the_caller_has_no_identity() {
    let (orders, seen) = Application::recording("orders");
    let mesh = Mesh::builder()
        .pod("orders", |p| p.serves(ORDERS).application(&orders))
        .pod("storefront", |p| p.certificate(Certificate::None))
        .policy(|p| p.route(ORDERS, "retry: { attempts: 0 }"));
    fails(&mesh.start().await, "orders.shop", 503, "no_identity").await;
    assert!(seen.all().is_empty(), "a downgrade");
}

/// An application that drains does as it should, whoever stands before it: its pod is not blamed.
#[tokio::test]
async fn the_endpoint_says_goaway() {
    // SETTINGS, and a GOAWAY that has processed no stream.
    const GOAWAY: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let going = Application::raw(|mut stream| async move {
        let mut read = Vec::new();
        while !has_request(&read) {
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        }
        stream.write_all(GOAWAY).await.ok();
        stream.read_to_end(&mut read).await.ok();
    });
    for meshed in [true, false] {
        let mesh = pair(&going, |p| if meshed { p } else { p.plain() }).policy(|p| {
            p.protocol(ORDERS, "HTTP2");
            p.service(ORDERS, "outlier: { consecutiveFailures: 1 }");
            p.route(ORDERS, "retry: { attempts: 2, backoff: 0.001s }");
        });
        let mesh = mesh.start().await;
        fails(&mesh, "orders.shop", 503, "upstream_refused").await;
        let storefront = mesh.pod("storefront");
        assert_eq!(storefront.metric("trama_ejections_total", &[]).await, 0.0, "meshed: {meshed}");
        // It was not touched, so that any method may be tried again.
        let mut client = storefront.http(Speaks::Http1, "orders.shop").await;
        assert_eq!(client.post("/order", "tea").await.reason(), "upstream_refused", "meshed: {meshed}");
        assert_eq!(storefront.logged("/order").await["attempts"], 3, "meshed: {meshed}");
    }
}

#[tokio::test]
async fn the_requests_body_breaks_off() {
    for meshed in [true, false] {
        let (heads, mut head_came) = mpsc::unbounded_channel();
        let reading = Application::http(move |request| {
            let heads = heads.clone();
            async move {
                heads.send(()).unwrap();
                let body = http_body_util::BodyExt::collect(request.into_body()).await;
                assert!(body.is_err(), "a body that broke off has come whole");
                Response::new(Payload::empty())
            }
        });
        let mesh = pair(&reading, |p| if meshed { p } else { p.plain() }).start().await;
        let storefront = mesh.pod("storefront");
        let mut stream = storefront.dial(storefront.at(EXPLICIT)).await.unwrap();
        let head = "POST /broken HTTP/1.1\r\nhost: orders.shop\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(format!("{head}2\r\nab\r\n").as_bytes()).await.unwrap();
        assert!(timeout(PATIENCE, head_came.recv()).await.unwrap().is_some());
        // Not a chunk's size.
        stream.write_all(b"zz\r\n").await.unwrap();
        timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("the connection ends").ok();
        let entry = storefront.logged("/broken").await;
        assert_eq!(entry["reason"], "downstream_body", "meshed: {meshed}: {entry}");
        storefront.metric_reaches("trama_requests_total", &[("reason", "downstream_body")], 1.0).await;
    }
}

/// What no test of this folder provokes, and who does.
const ELSEWHERE: [(&str, &str); 3] = [
    (
        "no_backend",
        "no file can say it: a rule without backends has its service's own, and one has to weigh something",
    ),
    ("filter_response", "only plugins answer; sidecar/src/filter/tests.rs has such filters"),
    ("filter_failed", "only plugins fail; sidecar/src/filter/tests.rs has such filters"),
];

/// A reason that nothing produces would be a promise of the documentation that nobody has looked at.
#[test]
fn every_reason_is_provoked_somewhere() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let own = Path::new(file!()).file_name();
    let mut tests = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            // The list above names what it leaves to others.
            let end = if path.file_name() == own { text.find("const ELSEWHERE") } else { None };
            tests.push_str(&text[..end.unwrap_or(text.len())]);
        }
    }
    for reason in Reason::ALL {
        let name = reason.name();
        let (here, elsewhere) =
            (tests.contains(&format!("\"{name}\"")), ELSEWHERE.iter().any(|(listed, _)| *listed == name));
        assert!(here || elsewhere, "no test provokes {name}");
        assert!(!(here && elsewhere), "{name} is provoked here, and listed");
    }
}
