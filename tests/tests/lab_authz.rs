//! Plain callers under transparent capture: nobody, as far as policy is concerned.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use trama_tests::mesh::{APPLICATION, Application, Mesh, Payload, Speaks, Where};

const CALLER: &str = "x-forwarded-client-cert";
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
        let forged =
            format!("By=spiffe://mesh.test/ns/shop/sa/orders;URI={}", mesh.pod("storefront").identity());
        let request = plain.request("GET", "/open").header(CALLER, forged);
        let answer = plain.call(request.body(Payload::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status, 200, "{speaks:?}");
    }
    let (closed, open) = (seen.of("/closed"), seen.of("/open"));
    assert_eq!((closed.len(), open.len()), (2, 2));
    // Nor one that the application could be told.
    let (orders, storefront) = (mesh.pod("orders").identity(), mesh.pod("storefront").identity());
    let told = format!("By={orders};URI={storefront}");
    assert!(closed.iter().all(|seen| seen.values(CALLER) == [&told]), "{closed:?}");
    assert!(open.iter().all(|seen| seen.values(CALLER).is_empty()), "{open:?}");
}
