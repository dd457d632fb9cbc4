//! A mesh in which nothing listens where it does by default.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::ErrorKind;

use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use trama_tests::mesh::{Application, Mesh, PATIENCE, Ports, Speaks, Where, until};

const ORDERS: &str = "shop/orders";

const MOVED: Ports =
    Ports { outbound: 7001, inbound: 7006, mesh: 7008, admin: 7000, metrics: 7020, health: 7021 };

#[tokio::test]
async fn all_ports_can_be_moved() {
    let mesh = Mesh::builder()
        .at(Where::Namespaces)
        .pod("orders", |p| p.ports(MOVED).serves(ORDERS).application(&Application::echo("orders")))
        // The pods of a mesh need not agree.
        .pod("second", |p| p.serves(ORDERS).application(&Application::echo("second")))
        .pod("storefront", |p| p.ports(Ports { mesh: 7108, ..MOVED }))
        .start()
        .await;
    let (orders, storefront) = (mesh.pod("orders"), mesh.pod("storefront"));
    let Ports { outbound, inbound, mesh: sealed, admin, metrics, health } = Ports::default();
    for port in [outbound, inbound, sealed, admin, metrics, health] {
        let refused = orders.dial(orders.at(port)).await.map(drop).map_err(|error| error.kind());
        assert_eq!(refused, Err(ErrorKind::ConnectionRefused), "{port}");
    }
    orders.check_capture();

    // Captured on its way out, sealed, and at either pod; captured on its way in from who has no sidecar's help.
    let mut client = storefront.http_to(mesh.service(ORDERS), Speaks::Http1, "orders.shop").await;
    let mut served = BTreeSet::new();
    for n in 0..40 {
        served.insert(client.get(&format!("/{n}")).await.header("x-served-by").to_owned());
    }
    assert_eq!(served, ["orders", "second"].map(str::to_owned).into());
    let sealed = [("direction", "outbound"), ("tls", "mutual"), ("status", "200")];
    storefront.metric_reaches("trama_requests_total", &sealed, 40.0).await;

    // What is ours leads nowhere, wherever it is.
    let mut stream = storefront.dial(orders.at(MOVED.inbound)).await.unwrap();
    let end = timeout(PATIENCE, stream.read_u8()).await.expect("it is closed");
    assert!(end.is_err(), "{end:?}");
    orders.metric_reaches("trama_loops_refused_total", &[("direction", "inbound")], 1.0).await;

    orders.run_sidecar(&["drain", "--inbound", "--admin", &format!("127.0.0.1:{}", MOVED.admin)]);
    let unready =
        || async { orders.ask(MOVED.health, "/readyz").await.filter(|answer| answer.status == 503) };
    until("who drains is not ready", unready).await;
    assert_eq!(client.get("/after").await.status.as_u16(), 200);
}
