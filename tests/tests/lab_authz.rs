//! Plain callers under transparent capture: nobody, as far as policy is concerned.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use trama_tests::mesh::{APPLICATION, Application, Mesh, Speaks, Where};

const ORDERS: &str = "shop/orders";

#[tokio::test]
async fn a_plain_caller_has_no_identity_that_an_allow_could_name() {
    let (application, seen) = Application::recording("orders");
    let allow = "kind: AuthzPolicy\nmetadata: { name: meshed, namespace: shop }\n\
                 spec: { action: ALLOW, rules: [{ identities: ['*'] }, { paths: [/open] }] }\n";
    let mesh = Mesh::builder()
        .at(Where::Namespaces)
        .pod("orders", |p| p.serves(ORDERS).application(&application))
        .pod("storefront", |p| p)
        .pod("stranger", |p| p.application(&application).plain())
        .policy(|p| p.more(allow))
        .start()
        .await;
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut meshed = mesh.pod("storefront").http_to(mesh.service(ORDERS), speaks, "orders.shop").await;
        assert_eq!(meshed.get("/closed").await.status, 200, "{speaks:?}");
        let at = mesh.pod("orders").at(APPLICATION);
        let mut plain = mesh.pod("stranger").http_to(at, speaks, "orders.shop").await;
        let answer = plain.get("/closed").await;
        assert_eq!((answer.status.as_u16(), answer.reason()), (403, "authz_denied"), "{speaks:?}");
        assert_eq!(plain.get("/open").await.status, 200, "{speaks:?}");
    }
    assert_eq!((seen.of("/closed").len(), seen.of("/open").len()), (2, 2));
}
