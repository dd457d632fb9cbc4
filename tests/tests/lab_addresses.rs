//! Which of a pod's addresses others reach through its sidecar: all that it serves at, and never loopback.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use trama_tests::mesh::{APPLICATION, Application, Mesh, MeshBuilder, PATIENCE, Pod, Speaks, Where};
use trama_tests::tls;

const ORDERS: &str = "shop/orders";
/// Where something listens on loopback alone.
const PRIVATE: u16 = 9000;

fn pair(ipv6: bool) -> MeshBuilder {
    Mesh::builder()
        .at(Where::Namespaces)
        .ipv6(ipv6)
        .pod("orders", |p| p.serves(ORDERS).application(&Application::echo("orders")))
        .pod("storefront", |p| p)
        .pod("stranger", |p| p.plain())
}

fn loopback(ipv6: bool) -> IpAddr {
    if ipv6 { [0, 0, 0, 0, 0, 0, 0, 1].into() } else { [127, 0, 0, 1].into() }
}

/// What comes back before the end, which must come.
async fn ask(stream: std::io::Result<TcpStream>) -> String {
    let mut stream = stream.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: orders.shop\r\nconnection: close\r\n\r\n").await.ok();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed").ok();
    String::from_utf8_lossy(&answer).into_owned()
}

/// The pod itself reaches it, so it does listen; and that is the only connection it ever had.
async fn nobody_came(listener: TcpListener, pod: &Pod) {
    let own = pod.dial(listener.local_addr().unwrap()).await.unwrap();
    let (_, peer) = timeout(PATIENCE, listener.accept()).await.expect("a connection").unwrap();
    assert_eq!(peer, own.local_addr().unwrap(), "somebody else came before");
}

#[tokio::test]
async fn what_listens_on_loopback_alone_stays_private() {
    for ipv6 in [false, true] {
        let mesh = pair(ipv6).start().await;
        let orders = mesh.pod("orders");
        let private = orders.listen(SocketAddr::new(loopback(ipv6), PRIVATE));

        // Plainly: captured on its way in.
        for caller in ["storefront", "stranger"] {
            let answer = ask(mesh.pod(caller).dial(orders.at(PRIVATE)).await).await;
            assert!(answer.starts_with("HTTP/1.1 503 "), "{caller}: {answer}");
            assert!(answer.contains("application_unreachable"), "{caller}: {answer}");
        }
        // Over mutual TLS, whose SNI names the port.
        let issued = mesh.authority().issue("spiffe://mesh.test/ns/shop/sa/anyone").unwrap();
        let stream = mesh.pod("stranger").dial(orders.mesh()).await.unwrap();
        let config = tls::client(Some(&issued), &[b"trama-tcp/1"]);
        let mut stream = tls::connect(stream, config, &format!("{PRIVATE}.orders.shop")).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("it is closed").unwrap();
        assert_eq!(answer, "\u{17}application_unreachable");
        let over_tls = |e: &serde_json::Value| e["tls"] == "mutual" && e["direction"] == "inbound";
        let entry = orders.logged_where("the stream", over_tls).await;
        assert_eq!(entry["reason"], "application_unreachable", "{entry}");

        nobody_came(private, orders).await;
    }
}

/// Capture happens before the kernel looks whether a packet for 127.0.0.1 may have come from outside.
#[tokio::test]
async fn a_neighbour_that_sends_to_loopback_is_refused() {
    let mesh = pair(false).start().await;
    let (orders, stranger) = (mesh.pod("orders"), mesh.pod("stranger"));
    let private = orders.listen(SocketAddr::new(loopback(false), PRIVATE));
    // To the stranger, 127.0.0.1 is a host behind its interface.
    stranger.as_root(&format!(
        "for key in route_localnet accept_local; do echo 1 > /proc/sys/net/ipv4/conf/all/$key; done\n\
         ip route delete local 127.0.0.1 dev lo table local\n\
         ip route delete local 127.0.0.0/8 dev lo table local\n\
         ip route add 127.0.0.1 via {} dev eth0 src {}",
        orders.at(0).ip(),
        stranger.at(0).ip(),
    ));
    let answer = ask(stranger.dial(SocketAddr::new(loopback(false), PRIVATE)).await).await;
    assert_eq!(answer, "");
    let entry = orders.logged_where("the refusal", |e| e["reason"] == "port_refused").await;
    assert_eq!(entry["detail"], "address 127.0.0.1", "{entry}");
    nobody_came(private, orders).await;
}

/// Rules of somebody else's may capture what only passes through, and where `ip_nonlocal_bind` is set every address can be
/// bound to.
#[tokio::test]
async fn what_passes_through_is_never_dialled() {
    for (ipv6, elsewhere) in [(false, "203.0.113.77"), (true, "2001:db8::77")] {
        let mesh = pair(ipv6).start().await;
        let (orders, stranger) = (mesh.pod("orders"), mesh.pod("stranger"));
        let (family, protocol) = if ipv6 { ("ip6", "ipv6") } else { ("ip", "ipv4") };
        orders.as_root(&format!(
            "echo 1 > /proc/sys/net/{protocol}/ip_nonlocal_bind\n\
             nft 'add table {family} other; \
             add chain {family} other in {{ type nat hook prerouting priority -110; }}; \
             add rule {family} other in {family} daddr {elsewhere} tcp dport {APPLICATION} redirect to :15006'"
        ));
        stranger.as_root(&format!("ip route add {elsewhere} via {}", orders.at(0).ip()));
        let at = SocketAddr::new(elsewhere.parse().unwrap(), APPLICATION);
        assert_eq!(ask(stranger.dial(at).await).await, "", "{elsewhere}");
        let entry = orders.logged_where("the end", |e| e["direction"] == "inbound").await;
        assert_eq!(entry["reason"], "port_refused", "{entry}");
        assert_eq!(entry["detail"], format!("address {elsewhere}"), "{entry}");
    }
}

#[tokio::test]
async fn a_link_local_address_is_served_as_well() {
    let mesh = pair(true).start().await;
    let (orders, stranger) = (mesh.pod("orders"), mesh.pod("stranger"));
    for (pod, address) in [(orders, "fe80::91:1"), (stranger, "fe80::91:2")] {
        pod.as_root(&format!("ip address add {address}/64 dev eth0 nodad"));
    }
    let near = |pod: &Pod| {
        SocketAddr::from(SocketAddrV6::new(
            "fe80::91:1".parse().unwrap(),
            APPLICATION,
            0,
            pod.interface("eth0"),
        ))
    };
    let application = orders.listen(near(orders));
    let asking = ask(stranger.dial(near(stranger)).await);
    let serving = async {
        let (mut stream, _) = timeout(PATIENCE, application.accept()).await.expect("a connection").unwrap();
        stream.read_u8().await.unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.ok();
    };
    let (answer, ()) = tokio::join!(asking, serving);
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
}

#[tokio::test]
async fn each_of_a_pods_addresses_leads_to_who_listens_there() {
    for (ipv6, second, prefix, nodad) in [(false, "10.91.77.1", 16, ""), (true, "fd91::77:1", 64, "nodad")] {
        let mesh = pair(ipv6).start().await;
        let orders = mesh.pod("orders");
        orders.as_root(&format!("ip address add {second}/{prefix} dev eth0 {nodad}"));
        let second = SocketAddr::new(second.parse().unwrap(), APPLICATION);
        let application = orders.listen(second);
        let serving = tokio::spawn(async move {
            let (mut stream, _) = application.accept().await.unwrap();
            let mut heard = [0; 3];
            stream.read_exact(&mut heard).await.unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nx-served-by: second\r\n\r\nsecond")
                .await
                .unwrap();
        });
        let stranger = mesh.pod("stranger");
        let mut client = stranger.http_to(second, Speaks::Http1, "orders.shop").await;
        assert_eq!(client.get("/second").await.header("x-served-by"), "second");
        serving.await.unwrap();
        let entry = orders.logged("/second").await;
        assert_eq!(entry["upstream"], second.to_string(), "{entry}");
        // The first one leads where it always did.
        let mut client = stranger.http_to(orders.at(APPLICATION), Speaks::Http1, "orders.shop").await;
        assert_eq!(client.get("/first").await.header("x-served-by"), "orders");
    }
}
