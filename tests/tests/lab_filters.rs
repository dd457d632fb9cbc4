//! Filters on captured connections, judged by the addresses that pods really have.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use trama_tests::mesh::{APPLICATION, Application, Mesh, PATIENCE, Pod, Speaks, Where};

/// What a pod hears from a server that speaks first; nothing, if the connection is closed before.
async fn heard(pod: &Pod, mail: &Pod) -> usize {
    let mut stream = pod.dial(mail.at(APPLICATION)).await.unwrap();
    // A reset is an end too.
    timeout(PATIENCE, stream.read(&mut [0; 64])).await.expect("an end, or a word").unwrap_or(0)
}

#[tokio::test]
async fn a_chain_denies_one_address_and_no_other_on_captured_connections() {
    for ipv6 in [false, true] {
        // Not declared: who is denied is found out while the sidecar waits for somebody to speak.
        let mut mesh = Mesh::builder()
            .at(Where::Namespaces)
            .ipv6(ipv6)
            .pod("mail", |p| {
                let p = p.serves("shop/mail").application(&Application::banner());
                p.config("timeouts: { detect: 100ms }")
            })
            .pod("orders", |p| p.serves("shop/orders").application(&Application::echo("orders")))
            .pod("stranger", |p| p.plain())
            .pod("friend", |p| p.plain())
            .start()
            .await;
        let stranger = mesh.pod("stranger").at(APPLICATION).ip();
        let chain = |service| {
            format!(
                "kind: PluginChain\nmetadata: {{ name: {service}, namespace: shop }}\n\
                 spec: {{ service: {service}, filters: [{{ sources: {{ deny: ['{stranger}'] }} }}] }}\n"
            )
        };
        mesh.publish(|p| p.more(&[chain("mail"), chain("orders")].join("---\n")));
        let (mail, orders) = (mesh.pod("mail"), mesh.pod("orders"));
        let [stranger, friend] = ["stranger", "friend"].map(|name| mesh.pod(name));

        for pod in [mail, orders] {
            pod.metric_reaches("trama_policy_revision", &[], 2.0).await;
        }
        // The first connection: nobody knows yet that this server speaks first.
        assert_eq!(heard(stranger, mail).await, 0, "ipv6: {ipv6}");
        assert_ne!(heard(friend, mail).await, 0, "ipv6: {ipv6}");
        mail.metric_reaches("trama_requests_total", &[("reason", "denied"), ("protocol", "tcp")], 1.0).await;

        let status = async |pod: &Pod| {
            let mut client = pod.http_to(orders.at(APPLICATION), Speaks::Http1, "orders.shop").await;
            let answer = client.get("/").await;
            (answer.status.as_u16(), answer.reason().to_owned())
        };
        assert_eq!(status(stranger).await, (403, "denied".to_owned()), "ipv6: {ipv6}");
        assert_eq!(status(friend).await.0, 200, "ipv6: {ipv6}");
    }
}
