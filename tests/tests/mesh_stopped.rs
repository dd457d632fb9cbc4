//! A sidecar that has stopped while its kernel still answers for it, as its peer sees it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use http::Response;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use trama_tests::mesh::{Application, Mesh, PATIENCE, Payload, Speaks, Where};

/// Tells the test when a request comes to the application, and when it is given up.
struct Begun(UnboundedSender<&'static str>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.send("given up").ok();
    }
}

#[tokio::test]
async fn nobody_works_for_a_caller_that_has_stopped() {
    let (tell, mut told) = unbounded_channel();
    let application = Application::http(move |_| {
        let begun = Begun(tell.clone());
        async move {
            begun.0.send("begun").unwrap();
            std::future::pending::<()>().await;
            Response::new(Payload::empty())
        }
    });
    let mut mesh = Mesh::builder()
        .at(Where::Processes)
        .pod("orders", |p| {
            p.serves("shop/orders")
                .application(&application)
                .config("timeouts: { keepalive: 200ms, deadPeer: 500ms }")
        })
        .pod("storefront", |p| p)
        .start()
        .await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    let request = client.request("GET", "/waits").body(Payload::empty()).unwrap();
    let asking = tokio::spawn(async move { client.call(request).await });
    assert_eq!(timeout(PATIENCE, told.recv()).await.unwrap(), Some("begun"));
    mesh.pod_mut("storefront").process().pause();
    assert_eq!(timeout(PATIENCE, told.recv()).await.expect("it is given up"), Some("given up"));
    let entry = mesh.pod("orders").logged("/waits").await;
    assert_eq!(entry["reason"], "downstream_closed", "{entry}");
    asking.abort();
}
