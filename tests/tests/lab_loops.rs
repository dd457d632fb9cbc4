//! Connections that would come back to where they came from, and those that a pod makes to itself.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use trama_tests::mesh::{APPLICATION, Application, Mesh, MeshBuilder, PATIENCE, Pod, Speaks, Where, until};
use trama_tests::tls;

const ORDERS: &str = "shop/orders";
const LOOPS: &str = "trama_loops_refused_total";

fn pair(ipv6: bool) -> MeshBuilder {
    Mesh::builder()
        .at(Where::Namespaces)
        .ipv6(ipv6)
        .pod("orders", |p| p.serves(ORDERS).application(&Application::echo("orders")))
        .pod("storefront", |p| p)
}

/// Knocks with a request; what comes back before the end, which must come.
async fn knock(pod: &Pod, at: SocketAddr) -> String {
    let mut stream = pod.dial(at).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: orders.shop\r\n\r\n").await.ok();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed").ok();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn refusals(pod: &Pod, how_many: usize) {
    let counted = || async {
        let refused = pod.log().iter().filter(|e| e["reason"] == "port_refused").count();
        assert!(refused <= how_many, "{:#?}", pod.log());
        (refused == how_many).then_some(())
    };
    until(&format!("{how_many} refusals in the log of a pod"), counted).await;
}

#[tokio::test]
async fn nobody_reaches_a_sidecars_own_ports_by_way_of_itself() {
    for ipv6 in [false, true] {
        let mesh = pair(ipv6).start().await;
        let (orders, storefront) = (mesh.pod("orders"), mesh.pod("storefront"));
        // From within, and from another pod: a capture port as the destination is a loop.
        for (from, port, direction, loops) in [
            (orders, 15001, "outbound", 1.0),
            (orders, 15006, "inbound", 1.0),
            (storefront, 15006, "inbound", 1.0),
        ] {
            let before = orders.metric(LOOPS, &[("direction", direction)]).await;
            assert_eq!(knock(from, orders.at(port)).await, "", "{port}");
            orders.metric_reaches(LOOPS, &[("direction", direction)], before.max(loops)).await;
        }
        // Captured on its way in, and meant for the admin interface or the outbound port.
        for port in [15000, 15001] {
            assert_eq!(knock(storefront, orders.at(port)).await, "", "{port}");
        }
        refusals(orders, 2).await;
        let entries = orders.log();
        let loops = entries.iter().filter(|e| e["reason"] == "loop_detected").map(|e| &e["direction"]);
        assert_eq!(loops.collect::<Vec<_>>(), ["outbound", "inbound", "inbound"], "{entries:#?}");
    }
}

#[tokio::test]
async fn the_mesh_port_leads_to_no_port_of_the_sidecars() {
    let mesh = pair(false).start().await;
    let orders = mesh.pod("orders");
    let issued = mesh.authority().issue("spiffe://mesh.test/ns/shop/sa/anyone").unwrap();
    let ports = [15000, 15001, 15006, 15008, 15020, 15021];
    for (alpn, port) in
        [b"trama-h2/1".as_slice(), b"trama-tcp/1"].into_iter().flat_map(|alpn| ports.map(|p| (alpn, p)))
    {
        let stream = mesh.pod("storefront").dial(orders.mesh()).await.unwrap();
        let config = tls::client(Some(&issued), &[alpn]);
        let mut stream = tls::connect(stream, config, &format!("{port}.orders.shop")).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed").ok();
        let said: &[u8] = if alpn == b"trama-tcp/1" { b"\x0cport_refused" } else { b"" };
        assert_eq!(answer, said, "{port}");
    }
    refusals(orders, 2 * ports.len()).await;
    let refused = [("reason", "port_refused"), ("direction", "inbound")];
    let counted = orders.metric("trama_requests_total", &refused).await;
    assert_eq!(counted, 2.0 * ports.len() as f64);
}

#[tokio::test]
async fn ones_own_service_is_balanced_and_ones_own_address_is_not_captured() {
    for ipv6 in [false, true] {
        let mesh = pair(ipv6)
            .pod("second", |p| p.serves(ORDERS).application(&Application::echo("second")))
            .start()
            .await;
        let orders = mesh.pod("orders");
        // One's own address: no sidecar sees it.
        let mut client = orders.http_to(orders.at(APPLICATION), Speaks::Http1, "orders.shop").await;
        assert_eq!(client.get("/own").await.header("x-served-by"), "orders");
        // One's own service: any of its endpoints, oneself among them, and always mutual TLS.
        let mut client = orders.http_to(mesh.service(ORDERS), Speaks::Http1, "orders.shop").await;
        let mut served = BTreeSet::new();
        for n in 0..40 {
            served.insert(client.get(&format!("/{n}")).await.header("x-served-by").to_owned());
        }
        assert_eq!(served, ["orders", "second"].map(str::to_owned).into());
        let outbound = |e: &&serde_json::Value| e["direction"] == "outbound";
        let all = || async { (orders.log().iter().filter(outbound).count() == 40).then_some(orders.log()) };
        let log = until("forty outbound requests in the log", all).await;
        assert!(log.iter().filter(outbound).all(|e| e["tls"] == "mutual"), "{log:#?}");
        let myself = |e: &&serde_json::Value| {
            e["direction"] == "inbound" && e["peer_identity"] == orders.identity() && e["path"] != "/own"
        };
        assert!(log.iter().filter(myself).count() > 0, "{log:#?}");
        assert!(!log.iter().any(|e| e["path"] == "/own"), "{log:#?}");
    }
}
