//! What only a sidecar may say, said by an application.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use http::Response;
use trama_sidecar::error::Reason;
use trama_tests::mesh::{Application, Mesh, Payload, PodSpec, Speaks};

const ORDERS: &str = "shop/orders";

/// Room for every retry that a reason could cause.
const BUDGET: &str = "kind: MeshSettings\nmetadata: { name: mesh }\nspec: { retryBudget: { percent: 100, minPerSecond: 1000 } }\n";

/// How often each path was asked for, wherever.
type Arrived = Arc<Mutex<BTreeMap<String, u32>>>;

/// Answers `/<status>/<reason>` as the path says.
fn forging(arrived: &Arrived) -> Application {
    let arrived = Arc::clone(arrived);
    Application::http(move |request| {
        let path = request.uri().path().to_owned();
        let (status, reason) = path[1..].split_once('/').unwrap();
        let answer = Response::builder().status(status).header("trama-reason", reason);
        *arrived.lock().unwrap().entry(path).or_default() += 1;
        async move { answer.body(Payload::empty()).unwrap() }
    })
}

/// Taken for a sidecar's, `upstream_refused` would say that nobody has touched the request, and a POST be placed twice.
#[tokio::test]
async fn a_reason_that_an_application_names_is_none() {
    for (meshed, speaks) in
        [(true, Speaks::Http1), (true, Speaks::Http2), (false, Speaks::Http1), (false, Speaks::Http2)]
    {
        let arrived = Arrived::default();
        let application = forging(&arrived);
        let serves = |p: PodSpec| {
            let p = p.serves(ORDERS).application(&application);
            if meshed { p } else { p.plain() }
        };
        let mesh = Mesh::builder()
            .pod("first", serves)
            .pod("second", serves)
            .pod("storefront", |p| p)
            .policy(|p| {
                p.service(ORDERS, "outlier: { consecutiveFailures: 0 }");
                p.more(BUDGET);
            })
            .start()
            .await;
        let storefront = mesh.pod("storefront");
        let mut client = storefront.http(speaks, "orders.shop").await;
        for (status, reason) in Reason::ALL.iter().flat_map(|reason| [(503, reason), (200, reason)]) {
            let path = format!("/{status}/{}", reason.name());
            let answer = client.post(&path, "place it once").await;
            let what = format!("{path}, meshed: {meshed}, {speaks:?}");
            assert_eq!((answer.status.as_u16(), answer.reason()), (status, ""), "{what}");
            assert_eq!(arrived.lock().unwrap()[&path], 1, "{what}: placed more than once");
        }
        let entry = storefront.logged("/503/upstream_refused").await;
        assert!(entry.get("reason").is_none() && entry["attempts"] == 1, "{entry}");
    }
}
