//! What smugglers send to an application whose plain callers are captured: the called sidecar refuses it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use trama_tests::mesh::{APPLICATION, Application, Mesh, Where};
use trama_tests::smuggling::{LIMITS, are_refused};

#[tokio::test]
async fn what_could_be_read_in_two_ways_does_not_reach_a_captured_application() {
    let (application, seen) = Application::recording("orders");
    let mesh = Mesh::builder()
        .at(Where::Namespaces)
        .pod("orders", |p| p.serves("shop/orders").application(&application).config(LIMITS))
        .pod("stranger", |p| p.plain())
        // Else a first line that is no HTTP is opaque bytes, which nobody parses.
        .policy(|p| p.protocol("shop/orders", "HTTP"));
    let mesh = mesh.start().await;
    let (orders, stranger) = (mesh.pod("orders"), mesh.pod("stranger"));
    are_refused(orders, &seen, async || stranger.dial(orders.at(APPLICATION)).await.unwrap()).await;
}
