//! HTTP through a pair of sidecars, and through one: what must arrive as it was sent, and what must not arrive at all.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use http::{HeaderMap, HeaderValue, Version};
use trama_tests::mesh::{Application, Client, Mesh, Payload, Record, Speaks};

/// Every way through the mesh: what the client speaks, what the application speaks, and whether it has a sidecar.
const WAYS: [(Speaks, Speaks, bool); 8] = [
    (Speaks::Http1, Speaks::Http1, true),
    (Speaks::Http1, Speaks::Http2, true),
    (Speaks::Http2, Speaks::Http1, true),
    (Speaks::Http2, Speaks::Http2, true),
    (Speaks::Http1, Speaks::Http1, false),
    (Speaks::Http1, Speaks::Http2, false),
    (Speaks::Http2, Speaks::Http1, false),
    (Speaks::Http2, Speaks::Http2, false),
];

struct Way {
    mesh: Mesh,
    client: Client,
    seen: Record,
    name: String,
    application: Speaks,
}

async fn mesh_of(application: &Application, protocol: &str, meshed: bool) -> Mesh {
    let builder = Mesh::builder()
        .pod("orders", |p| {
            let p = p.serves("shop/orders").application(application);
            if meshed { p } else { p.plain() }
        })
        .pod("storefront", |p| p)
        .policy(|p| p.protocol("shop/orders", protocol));
    builder.start().await
}

async fn way((client, application, meshed): (Speaks, Speaks, bool)) -> Way {
    let (serving, seen) = Application::recording("orders");
    let protocol = match application {
        Speaks::Http1 => "HTTP",
        Speaks::Http2 => "HTTP2",
    };
    let mesh = mesh_of(&serving, protocol, meshed).await;
    let name = format!("{client:?} to {application:?}, meshed: {meshed}");
    let client = mesh.pod("storefront").http(client, "orders.shop").await;
    Way { mesh, client, seen, name, application }
}

#[tokio::test]
async fn a_request_arrives_as_it_was_sent() {
    for which in WAYS {
        let Way { mesh: _mesh, mut client, seen, name, application } = way(which).await;
        let request = client
            .request("PUT", "/a%20b/c?x=1&y=%2F")
            .header("x-many", "one")
            .header("x-many", "two, three")
            .header("x-empty", "")
            .body(Payload::of("the body"));
        let answer = client.call(request.unwrap()).await.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"the body"[..]), "{name}");
        assert_eq!(answer.header("x-served-by"), "orders", "{name}");
        let [seen] = &seen.all()[..] else { panic!("{name}: arrived {} times", seen.all().len()) };
        assert_eq!(seen.method, "PUT", "{name}");
        assert_eq!(seen.uri.path_and_query().unwrap(), "/a%20b/c?x=1&y=%2F", "{name}");
        assert_eq!(seen.values("x-many"), ["one", "two, three"], "{name}");
        assert_eq!(seen.values("x-empty"), [""], "{name}");
        assert_eq!(seen.values("content-length"), ["8"], "{name}");
        match application {
            Speaks::Http1 => {
                assert_eq!(seen.version, Version::HTTP_11, "{name}");
                assert_eq!(seen.values("host"), ["orders.shop"], "{name}");
            }
            Speaks::Http2 => {
                assert_eq!(seen.version, Version::HTTP_2, "{name}");
                assert_eq!(seen.uri.authority().unwrap(), "orders.shop", "{name}");
                assert!(seen.values("host").is_empty(), "{name}: {:?}", seen.headers);
            }
        }
    }
}

#[tokio::test]
async fn trailers_travel_both_ways() {
    for which in WAYS {
        let Way { mesh: _mesh, mut client, seen, name, .. } = way(which).await;
        let trailers = HeaderMap::from_iter([("x-sum".try_into().unwrap(), HeaderValue::from_static("42"))]);
        let request = client.request("POST", "/").header("trailer", "x-sum").header("te", "trailers");
        let request = request.body(Payload::with_trailers("counted", Some(trailers.clone()))).unwrap();
        let answer = client.call(request).await.unwrap();
        assert_eq!(seen.all()[0].trailers.as_ref(), Some(&trailers), "{name}: the request's");
        assert_eq!(answer.trailers.as_ref(), Some(&trailers), "{name}: the answer's");
        assert_eq!(&answer.body[..], b"counted", "{name}");
    }
}
