//! What smugglers send on captured connections: the sidecar of who calls refuses it, and that of who is called by somebody
//! without a sidecar.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use trama_tests::mesh::{APPLICATION, Application, Mesh, Where};
use trama_tests::smuggling::{LIMITS, are_refused};

const ORDERS: &str = "shop/orders";

/// Where it is found out, what is no HTTP is opaque bytes, which nobody parses.
const PROTOCOLS: [&str; 2] = ["AUTO", "HTTP"];

#[tokio::test]
async fn what_could_be_read_in_two_ways_does_not_reach_a_captured_application() {
    for protocol in PROTOCOLS {
        let (application, seen) = Application::recording("orders");
        let mesh = Mesh::builder()
            .at(Where::Namespaces)
            .pod("orders", |p| p.serves(ORDERS).application(&application).config(LIMITS))
            .pod("stranger", |p| p.plain())
            .policy(|p| p.protocol(ORDERS, protocol));
        let mesh = mesh.start().await;
        let (orders, stranger) = (mesh.pod("orders"), mesh.pod("stranger"));
        are_refused(orders, &seen, async || stranger.dial(orders.at(APPLICATION)).await.unwrap()).await;
    }
}

#[tokio::test]
async fn it_does_not_leave_a_captured_client_either() {
    for protocol in PROTOCOLS {
        let (application, seen) = Application::recording("orders");
        let mesh = Mesh::builder()
            .at(Where::Namespaces)
            .pod("orders", |p| p.serves(ORDERS).application(&application))
            .pod("storefront", |p| p.config(LIMITS))
            .policy(|p| p.protocol(ORDERS, protocol));
        let mesh = mesh.start().await;
        let client = mesh.pod("storefront");
        are_refused(client, &seen, async || client.dial(mesh.service(ORDERS)).await.unwrap()).await;
    }
}
