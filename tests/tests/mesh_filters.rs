//! A rule's filters, on a request's whole way through the mesh.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use trama_tests::mesh::{Application, Mesh, Payload, Speaks};

const FILTERS: &str = "
filters:
  - urlRewrite: { path: { replacePrefixMatch: /v2 } }
  - requestHeaderModifier:
      set: [{ name: x-set, value: policy }]
      add: [{ name: x-added, value: policy }]
      remove: [x-removed]
  - responseHeaderModifier:
      set: [{ name: x-order, value: first }, { name: x-served-by, value: policy }]
  - responseHeaderModifier:
      add: [{ name: x-order, value: second }]
";

#[tokio::test]
async fn a_rules_filters_change_headers_both_ways() {
    for (speaks, meshed) in
        [(Speaks::Http1, true), (Speaks::Http2, true), (Speaks::Http1, false), (Speaks::Http2, false)]
    {
        let name = format!("{speaks:?}, meshed: {meshed}");
        let (application, seen) = Application::recording("orders");
        let mesh = Mesh::builder()
            .pod("orders", |p| {
                let p = p.serves("shop/orders").application(&application);
                if meshed { p } else { p.plain() }
            })
            .pod("storefront", |p| p)
            .policy(|p| p.route("shop/orders", FILTERS))
            .start()
            .await;
        let mut client = mesh.pod("storefront").http(speaks, "orders.shop").await;
        for _ in 0..2 {
            let request = client.request("POST", "/orders").header("x-set", "client");
            let request = request.header("x-added", "client").header("x-removed", "client");
            let answer = client.call(request.body(Payload::of("the body")).unwrap()).await.unwrap();
            assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"the body"[..]), "{name}");
            assert_eq!(answer.header("x-served-by"), "policy", "{name}");
            // The answer goes back through the filters: the last one comes first, and the first one sets over it.
            let order: Vec<_> = answer.headers.get_all("x-order").iter().collect();
            assert_eq!(order, ["first"], "{name}");
        }
        let all = seen.of("/v2/orders");
        assert_eq!(all.len(), 2, "{name}: {:?}", seen.all());
        for seen in all {
            assert_eq!(seen.values("x-set"), ["policy"], "{name}");
            assert_eq!(seen.values("x-added"), ["client", "policy"], "{name}");
            assert!(seen.values("x-removed").is_empty(), "{name}");
            assert_eq!(seen.values("content-length"), ["8"], "{name}");
        }
    }
}
