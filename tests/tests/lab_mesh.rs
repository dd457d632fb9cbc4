//! A mesh of processes in network namespaces: traffic is captured, and nobody in it knows of a sidecar.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trama_tests::mesh::{APPLICATION, Application, Mesh, MeshBuilder, PATIENCE, Payload, Speaks, Where};
use trama_tests::peers::{Curl, GoClient};
use trama_tests::stalled;

const ORDERS: &str = "shop/orders";

fn pair(application: &Application) -> MeshBuilder {
    Mesh::builder()
        .at(Where::Namespaces)
        .pod("orders", |p| p.serves(ORDERS).region("sao-paulo").application(application))
        .pod("storefront", |p| p.region("sao-paulo"))
}

#[tokio::test]
async fn real_clients_and_applications_talk_through_the_mesh() {
    for application in [Application::python(), Application::go()] {
        let mesh = pair(&application).start().await;
        let service = mesh.service(ORDERS);
        let place = mesh.pod("storefront").place();
        let url = format!("http://{service}/bytes/100000");
        let reply = Curl::get(&url).header("host", "orders.shop").run(&*place, PATIENCE).unwrap();
        assert_eq!((reply.status, reply.body.len(), reply.exit), (200, 100_000, 0), "{}", reply.complaint);
        assert_eq!(reply.header("x-served-by"), Some("orders"));
        let url = format!("http://{service}/echo");
        let reply = Curl::get(&url).body("to and fro").run(&*place, PATIENCE).unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "to and fro"), "{}", reply.complaint);
        let answers = GoClient::h1(&format!("http://{service}/")).repeat(3).run(&*place, PATIENCE).unwrap();
        assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");

        let entry = mesh.pod("storefront").logged("/bytes/100000").await;
        assert_eq!((&entry["tls"], &entry["service"]), (&"mutual".into(), &ORDERS.into()), "{entry}");
        let entry = mesh.pod("orders").logged("/bytes/100000").await;
        assert_eq!(entry["direction"], "inbound", "{entry}");
        assert_eq!(entry["peer_identity"], mesh.pod("storefront").identity(), "{entry}");
    }
}

#[tokio::test]
async fn a_captured_gibibyte_each_way_needs_no_memory() {
    let connect = async |mesh: &Mesh| {
        let storefront = mesh.pod("storefront");
        storefront.http_to(mesh.service(ORDERS), Speaks::Http1, "orders.shop").await
    };
    stalled::a_gibibyte_each_way(Where::Namespaces, connect).await;
}

#[tokio::test]
async fn a_host_header_does_not_step_over_the_captured_service() {
    let (orders, seen) = Application::recording("orders");
    let mesh = pair(&orders).pod("bank", |p| p.serves("shop/bank").application(&Application::echo("bank")));
    let mesh = mesh.start().await;
    let service = mesh.service(ORDERS);
    for speaks in [Speaks::Http1, Speaks::Http2] {
        for host in ["bank.shop", "bank", "orders.shop", "anything.example"] {
            let mut client = mesh.pod("storefront").http_to(service, speaks, host).await;
            let answer = client.get("/").await;
            assert_eq!((answer.status.as_u16(), answer.header("x-served-by")), (200, "orders"), "{host}");
        }
    }
    assert_eq!(seen.all().len(), 8);
}

#[tokio::test]
async fn an_endpoints_own_address_is_just_that_endpoint() {
    let mesh = pair(&Application::echo("orders"));
    let mut mesh =
        mesh.pod("second", |p| p.serves(ORDERS).application(&Application::echo("second"))).start().await;
    for name in ["orders", "second"] {
        let direct = mesh.pod(name).at(APPLICATION);
        let mut client = mesh.pod("storefront").http_to(direct, Speaks::Http1, "orders.shop").await;
        for n in 0..5 {
            let answer = client.get(&format!("/{name}{n}")).await;
            assert_eq!(answer.header("x-served-by"), name);
        }
        let entry = mesh.pod("storefront").logged(&format!("/{name}0")).await;
        assert_eq!(entry["tls"], "mutual", "{entry}");
    }
    // No failover: it was this one that was meant.
    mesh.pod_mut("second").kill_application().await;
    let direct = mesh.pod("second").at(APPLICATION);
    let mut client = mesh.pod("storefront").http_to(direct, Speaks::Http1, "orders.shop").await;
    assert_eq!(client.get("/gone").await.status.as_u16(), 503);
}

#[tokio::test]
async fn an_endpoints_own_address_keeps_the_rule_of_its_only_service() {
    let application = Application::http(|request| async move {
        if request.uri().path() == "/hangs" {
            std::future::pending::<()>().await;
        }
        Response::new(Payload::of("hello"))
    });
    let rule = "timeouts: { request: 300ms }\nfilters: [{ responseHeaderModifier: { set: [{ name: x-rule, value: orders }] } }]";
    let mut mesh = pair(&application).policy(|p| p.route(ORDERS, rule)).start().await;
    let orders = mesh.pod("orders").at(APPLICATION);
    let mut client = mesh.pod("storefront").http_to(orders, Speaks::Http1, "orders.shop").await;
    assert_eq!(client.get("/owned").await.header("x-rule"), "orders");
    let late = client.get("/hangs").await;
    assert_eq!((late.status.as_u16(), late.reason()), (504, "request_timeout"));

    // A second service of the same endpoint: whose rule is meant cannot be told, and none is.
    let (ip, identity) = (orders.ip(), mesh.pod("orders").identity().to_owned());
    mesh.publish(|p| {
        p.more(&format!(
            "kind: Service\nmetadata: {{ name: also, namespace: shop }}\n\
             spec: {{ ports: [{{ port: 80, targetPort: 8080 }}] }}\n---\n\
             kind: EndpointSet\nmetadata: {{ name: also, namespace: shop }}\nspec:\n  service: also\n  endpoints:\n    \
             - {{ address: {ip}, identity: \"{identity}\", mesh: {{ address: \"{ip}:15008\" }} }}\n"
        ));
    });
    mesh.pod("storefront").metric_reaches("trama_policy_revision", &[], 2.0).await;
    let answer = client.get("/shared").await;
    assert_eq!((answer.status.as_u16(), answer.header("x-rule")), (200, ""));
    let entry = mesh.pod("storefront").logged("/shared").await;
    assert_eq!(entry["tls"], "mutual", "{entry}");
    assert_ne!(entry["service"], ORDERS, "{entry}");
}

#[tokio::test]
async fn what_policy_does_not_know_passes_or_is_refused() {
    // A pod without a sidecar that no policy names.
    let stranger = |builder: MeshBuilder| {
        builder.pod("stranger", |p| p.application(&Application::echo("stranger")).plain())
    };
    let mesh = stranger(pair(&Application::echo("orders"))).start().await;
    let address: SocketAddr = mesh.pod("stranger").at(APPLICATION);
    let mut client = mesh.pod("storefront").http_to(address, Speaks::Http1, "stranger").await;
    assert_eq!(client.get("/").await.header("x-served-by"), "stranger");
    drop(client);
    let entry = mesh.pod("storefront").logged_where("the stranger", |e| e["service"] == "external").await;
    assert_eq!((&entry["protocol"], &entry["tls"]), (&"tcp".into(), &"none".into()), "{entry}");
    let passed = [("kind", "passed")];
    mesh.pod("storefront").metric_reaches("trama_external_connections_total", &passed, 1.0).await;

    let refuse = "kind: MeshSettings\nmetadata: { name: mesh }\nspec: { unknownDestination: REFUSE }\n";
    let mesh = stranger(pair(&Application::echo("orders"))).policy(|p| p.more(refuse)).start().await;
    let mut stream = mesh.pod("storefront").dial(mesh.pod("stranger").at(APPLICATION)).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: stranger\r\n\r\n").await.ok();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed").ok();
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    let entry =
        mesh.pod("storefront").logged_where("the refusal", |e| e["reason"] == "destination_refused").await;
    assert_eq!(entry["protocol"], "tcp", "{entry}");
}

#[tokio::test]
async fn a_strict_port_takes_no_plain_connection() {
    for strict in [false, true] {
        let settings =
            "kind: MeshSettings\nmetadata: { name: mesh }\nspec: { inbound: { strictPorts: [8080] } }\n";
        let builder = pair(&Application::echo("orders")).pod("stranger", |p| p.plain());
        let mesh = builder.policy(|p| p.more(if strict { settings } else { "" })).start().await;
        let address = mesh.pod("orders").at(APPLICATION);
        let stream = mesh.pod("stranger").dial(address).await.unwrap();
        let mut client =
            trama_tests::mesh::Client::begin(stream, Speaks::Http1, "orders.shop").await.unwrap();
        let request = client.request("GET", "/plain").body(Payload::empty()).unwrap();
        let answer = tokio::time::timeout(PATIENCE, client.call(request)).await.expect("an end");
        if strict {
            assert!(answer.is_err(), "{answer:?}");
            let refused = |e: &serde_json::Value| e["reason"] == "plain_refused";
            mesh.pod("orders").logged_where("the refusal", refused).await;
        } else {
            assert_eq!(answer.unwrap().header("x-served-by"), "orders");
        }
        // Mutual TLS is welcome either way.
        let mut client =
            mesh.pod("storefront").http_to(mesh.service(ORDERS), Speaks::Http1, "orders.shop").await;
        assert_eq!(client.get("/meshed").await.status.as_u16(), 200);
    }
}

#[tokio::test]
async fn a_connection_to_the_capture_port_itself_is_a_loop() {
    let mesh = pair(&Application::echo("orders")).start().await;
    let pod = mesh.pod("storefront");
    for (port, direction) in [(15001, "outbound"), (15006, "inbound")] {
        let mut stream = pod.dial(pod.at(port)).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: orders.shop\r\n\r\n").await.ok();
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed").ok();
        assert!(answer.is_empty(), "{port}: {}", String::from_utf8_lossy(&answer));
        pod.metric_reaches("trama_loops_refused_total", &[("direction", direction)], 1.0).await;
    }
}
