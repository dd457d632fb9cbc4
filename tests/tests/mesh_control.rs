//! Sidecars that a control plane tells their policy: what they ask for, what they hold when it is gone, and what they make
//! of one that talks nonsense.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

use trama_proto::discovery::v1::sidecar_message::Message as Said;
use trama_proto::discovery::v1::{Hello, Push, VersionedResource};
use trama_proto::document::Document;
use trama_proto::policy::v1;
use trama_tests::control::{Control, Spoken};
use trama_tests::mesh::{Application, Mesh, MeshBuilder, Pod, Speaks, Where, until};

const ORDERS: &str = "shop/orders";

fn pair(control: Control) -> MeshBuilder {
    Mesh::builder()
        .control(control)
        .pod("orders", |p| p.serves(ORDERS).application(&Application::echo("orders")))
        .pod("storefront", |p| p)
}

async fn calls(pod: &Pod, path: &str) -> (u16, String) {
    let mut client = pod.http(Speaks::Http1, "orders.shop").await;
    let answer = client.get(path).await;
    (answer.status.as_u16(), answer.reason().to_owned())
}

/// Waits until it is known of a service that it has no endpoints.
async fn is_known(pod: &Pod, authority: &str) {
    let known = || async {
        let mut client = pod.http(Speaks::Http1, authority).await;
        (client.get("/").await.reason() == "no_endpoint").then_some(())
    };
    until(&format!("the policy of {authority}"), known).await;
}

fn held(hello: &Hello) -> Vec<String> {
    let names = hello.held.iter().map(|held| held.name.as_ref().unwrap());
    names.map(|name| format!("{} {}", name.kind, name.name)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_serves_what_it_is_told_and_asks_for_what_it_needs() {
    let mut mesh = pair(Control::new())
        .policy(|policy| {
            policy.service("shop/unused", "");
            policy.route(
                ORDERS,
                "filters: [{ responseHeaderModifier: { set: [{ name: x-rule, value: first }] } }]",
            );
        })
        .start()
        .await;
    let mut client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
    let answer = client.get("/first").await;
    assert_eq!((answer.status.as_u16(), &answer.headers["x-rule"]), (200, &"first".parse().unwrap()));
    // A change is in use without a new connection, and what nobody asked for was not sent.
    mesh.publish(|policy| {
        policy.route(
            ORDERS,
            "filters: [{ responseHeaderModifier: { set: [{ name: x-rule, value: second }] } }]",
        );
    });
    let answers =
        async |client: &mut trama_tests::mesh::Client| client.get("/").await.headers["x-rule"] == "second";
    let began = std::time::Instant::now();
    while !answers(&mut client).await {
        assert!(began.elapsed().as_secs() < 20);
    }
    assert_eq!(mesh.pod("storefront").metric("trama_control_plane_connected", &[]).await, 1.0);
    mesh.control().speak().await;
    let mut stream = mesh.control().stream().await;
    let Said::Hello(hello) = stream.heard().await else { panic!("a Hello") };
    assert!(!held(&hello).contains(&"EndpointSet unused".to_owned()), "{hello:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_control_plane_what_holds_goes_on_and_what_nobody_asked_for_is_refused_by_name() {
    let mut mesh = pair(Control::new()).policy(|policy| policy.service("shop/unused", "")).start().await;
    assert_eq!(calls(mesh.pod("storefront"), "/").await.0, 200);
    mesh.control().kill().await;
    mesh.pod("storefront").metric_reaches("trama_control_plane_stream_failures_total", &[], 2.0).await;
    assert_eq!(calls(mesh.pod("storefront"), "/").await.0, 200);
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "unused.shop").await;
    let answer = client.get("/pending").await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, "service_pending"));
    assert_eq!(mesh.pod("storefront").logged("/pending").await["reason"], "service_pending");
    // It asked meanwhile: with the control plane back, it is known that it has no endpoints.
    mesh.control().revive().await;
    is_known(mesh.pod("storefront"), "unused.shop").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_the_control_plane_serves_what_was_kept_at_once_and_nothing_is_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let lines = format!("stateDirectory: {}\nstartup: {{ waitForPolicy: 1h }}", state.display());
    let mut mesh = Mesh::builder()
        .at(Where::Processes)
        .control(Control::new())
        .pod("orders", |p| p.serves(ORDERS).application(&Application::echo("orders")))
        .pod("storefront", |p| p.config(&lines))
        .start()
        .await;
    assert_eq!(calls(mesh.pod("storefront"), "/").await.0, 200);
    kept_whole(&state).await;
    mesh.control().kill().await;
    mesh.stop_sidecar("storefront");
    mesh.start_sidecar("storefront");
    let ready =
        || async { (mesh.pod("storefront").ask(15021, "/readyz").await?.status == 200).then_some(()) };
    until("readiness", ready).await;
    assert_eq!(calls(mesh.pod("storefront"), "/dark").await.0, 200);
    assert_eq!(mesh.pod("storefront").metric("trama_policy_last_good", &[]).await, 1.0);
    let before = mesh.control().hellos().len();
    mesh.control().revive().await;
    mesh.pod("storefront").metric_reaches("trama_control_plane_connected", &[], 1.0).await;
    let connected = || async {
        (mesh.pod("storefront").metric("trama_policy_last_good", &[]).await == 0.0).then_some(())
    };
    until("the policy is its source's", connected).await;
    let hellos = mesh.control().hellos();
    let name = |hello: &Hello| hello.node.as_ref().map(|node| node.name.clone()).unwrap_or_default();
    let hello = hellos[before..].iter().find(|hello| name(hello) == "storefront").unwrap();
    assert_eq!(held(hello), ["EndpointSet orders", "Service orders"]);
    assert_eq!(
        mesh.pod("storefront").metric("trama_policy_pushes_total", &[("result", "acknowledged")]).await,
        1.0
    );
}

/// Waits until what was asked for is on disk too.
async fn kept_whole(state: &Path) {
    let whole = || async {
        let slots = ["policy.0", "policy.1"].iter().filter_map(|name| std::fs::read(state.join(name)).ok());
        slots.into_iter().any(|slot| slot.windows(4).any(|bytes| bytes == b"127.")).then_some(())
    };
    until("the endpoints are kept", whole).await;
}

/// The stream on which a test speaks to the storefront, and what it began with.
async fn spoken(mesh: &mut Mesh) -> (Spoken, Hello) {
    loop {
        let mut stream = mesh.control().stream().await;
        let Said::Hello(hello) = stream.heard().await else { panic!("a Hello") };
        let Said::Subscribe(_) = stream.heard().await else { panic!("a Subscribe") };
        if hello.node.as_ref().is_some_and(|node| node.name == "storefront") {
            return (stream, hello);
        }
    }
}

fn resource(text: &str) -> VersionedResource {
    let document = Document::parse("test", text).unwrap().remove(0);
    let resource = Some(v1::Resource { kind: Some(document.resource) });
    VersionedResource { version: 9, resource, ..VersionedResource::default() }
}

fn service(name: &str) -> VersionedResource {
    resource(&format!(
        "kind: Service\nmetadata: {{ name: {name}, namespace: shop }}\nspec: {{ ports: [{{ port: 80 }}] }}\n"
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_ends_the_stream_and_what_held_stays() {
    let mut mesh = pair(Control::new()).start().await;
    assert_eq!(calls(mesh.pod("storefront"), "/").await.0, 200);
    mesh.control().speak().await;
    let good = Push { epoch: 1, revision: 9, nonce: 7, subscribed: 1, ..Push::default() };
    let nonsense = [
        Push { epoch: 0, ..good.clone() },
        Push { revision: 0, ..good.clone() },
        Push { resources: vec![service("a"), service("a")], ..good.clone() },
    ];
    for (number, push) in nonsense.into_iter().enumerate() {
        let (mut stream, hello) = spoken(&mut mesh).await;
        assert_eq!(held(&hello), ["EndpointSet orders", "Service orders"]);
        stream.teller().push(push).await;
        stream.ended().await;
        mesh.pod("storefront")
            .metric_reaches("trama_policy_pushes_total", &[("result", "fault")], number as f64 + 1.0)
            .await;
        assert_eq!(calls(mesh.pod("storefront"), "/").await.0, 200);
    }
    // One that nobody would hold.
    let (mut stream, _) = spoken(&mut mesh).await;
    let mut huge = service("huge");
    let Some(v1::resource::Kind::Service(it)) = huge.resource.as_mut().and_then(|it| it.kind.as_mut()) else {
        panic!("a service")
    };
    it.metadata.as_mut().unwrap().labels.insert("x".to_owned(), "x".repeat(65 << 20));
    stream.teller().push(Push { resources: vec![huge], ..good.clone() }).await;
    stream.ended().await;
    assert_eq!(calls(mesh.pod("storefront"), "/").await.0, 200);
    // The one after all of them that makes sense is taken.
    let (mut stream, _) = spoken(&mut mesh).await;
    stream.teller().push(good.clone()).await;
    assert!(matches!(stream.heard().await, Said::Ack(ack) if ack.nonce == 7));
    // And what a later version says besides is none.
    stream.teller().say(None).await;
    let later = Push { nonce: 8, resources: vec![VersionedResource::default(), service("a")], ..good };
    stream.teller().push(later).await;
    assert!(matches!(stream.heard().await, Said::Ack(ack) if ack.nonce == 8));
    mesh.pod("storefront").metric_reaches("trama_policy_pushes_total", &[("result", "unknown")], 2.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_answered_push_by_push_while_requests_go_on() {
    let mut mesh = pair(Control::new()).start().await;
    assert_eq!(calls(mesh.pod("storefront"), "/").await.0, 200);
    mesh.control().speak().await;
    let (mut stream, _) = spoken(&mut mesh).await;
    let (flood, teller) = (500, stream.teller());
    let pushes = async {
        for nonce in 1..=flood {
            let resources = vec![service(&format!("s{}", nonce % 50))];
            let push =
                Push { epoch: 1, revision: 100 + nonce, nonce, resources, subscribed: 1, ..Push::default() };
            teller.push(push).await;
        }
    };
    let answered = async {
        for nonce in 1..=flood {
            assert!(matches!(stream.heard().await, Said::Ack(ack) if ack.nonce == nonce));
        }
    };
    let requests = async {
        for _ in 0..20 {
            assert_eq!(calls(mesh.pod("storefront"), "/").await.0, 200);
        }
    };
    tokio::join!(pushes, answered, requests);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_used_is_refused_by_resource_and_field_and_the_rest_arrives() {
    let mut mesh = pair(Control::new()).start().await;
    assert_eq!(calls(mesh.pod("storefront"), "/").await.0, 200);
    // What this version cannot honour, and a new service.
    mesh.publish(|policy| {
        policy.service("shop/new", "");
        policy.route(ORDERS, "retry: { conditions: [CONNECT_FAILURE] }");
    });
    mesh.pod("storefront").metric_reaches("trama_policy_pushes_total", &[("result", "refused")], 1.0).await;
    is_known(mesh.pod("storefront"), "new.shop").await;
    assert_eq!(calls(mesh.pod("storefront"), "/").await.0, 200);
    mesh.control().speak().await;
    let (_, hello) = spoken(&mut mesh).await;
    assert_eq!(hello.refused.len(), 1, "a new stream says what was refused");
    assert_eq!(hello.refused[0].path, "spec.rules[0].retry.conditions");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_ends_while_a_route_names_it_holds_up_nothing_else() {
    let service = |name: &str| {
        format!(
            "kind: Service\nmetadata: {{ name: {name}, namespace: shop }}\nspec: {{ ports: [{{ port: 80 }}] }}\n"
        )
    };
    let to_prices = "matches: [{ path: { value: /prices } }]\nbackendRefs: [{ service: prices }]";
    let mut mesh = pair(Control::new())
        .policy(|policy| {
            policy.route(ORDERS, to_prices);
            policy.more(&service("prices"));
        })
        .start()
        .await;
    let known = |path: &'static str, reason: &'static str| {
        let pod = mesh.pod("storefront");
        async move { until(path, || async { (calls(pod, path).await.1 == reason).then_some(()) }).await }
    };
    known("/prices", "no_endpoint").await;
    // No store of ours would take that, but there are others.
    mesh.publish(|policy| policy.more(&service("later")));
    mesh.pod("storefront").metric_reaches("trama_policy_pushes_total", &[("result", "refused")], 1.0).await;
    is_known(mesh.pod("storefront"), "later.shop").await;
    assert_eq!(calls(mesh.pod("storefront"), "/prices").await.1, "no_endpoint", "the route is as it was");
    assert_eq!(mesh.pod("storefront").metric("trama_control_plane_stream_failures_total", &[]).await, 0.0);
    // With the route the service goes, too.
    mesh.publish(|policy| policy.route(ORDERS, "matches: [{ path: { value: /other } }]"));
    let gone = || async {
        let mut client = mesh.pod("storefront").http(Speaks::Http1, "prices.shop").await;
        (client.get("/").await.reason() == "unknown_authority").then_some(())
    };
    until("the end of prices", gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_that_starts_serves_nothing_without_what_it_refuses_of_it() {
    let good = "filters: [{ responseHeaderModifier: { set: [{ name: x-rule, value: good }] } }]";
    let mut mesh = pair(Control::new())
        .policy(|policy| policy.route(ORDERS, "retry: { conditions: [CONNECT_FAILURE] }"))
        .start()
        .await;
    let storefront = mesh.pod("storefront");
    assert_eq!(calls(storefront, "/").await, (503, "service_pending".to_owned()));
    mesh.publish(|policy| policy.route(ORDERS, good));
    let served = || async { (calls(mesh.pod("storefront"), "/").await.0 == 200).then_some(()) };
    until("the route is good", served).await;
    // And then a bad one costs nothing.
    mesh.publish(|policy| policy.route(ORDERS, "retry: { conditions: [CONNECT_FAILURE] }"));
    mesh.pod("storefront").metric_reaches("trama_policy_pushes_total", &[("result", "refused")], 2.0).await;
    assert_eq!(calls(mesh.pod("storefront"), "/").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chain_of_a_service_stands_before_an_application_whose_sidecar_was_not_told_its_name() {
    let chain = "kind: PluginChain\nmetadata: { name: nobody, namespace: shop }\n\
                 spec: { service: orders, filters: [{ sources: { deny: [0.0.0.0/0] } }] }\n";
    let mesh = Mesh::builder()
        .control(Control::new())
        .pod("orders", |p| p.serves(ORDERS).untold().application(&Application::echo("orders")))
        .pod("storefront", |p| p)
        .policy(|policy| policy.more(chain))
        .start()
        .await;
    assert_eq!(calls(mesh.pod("storefront"), "/").await, (403, "denied".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_nobody_asked_for_is_reached_by_its_own_address_and_in_mutual_tls() {
    let mesh = pair(Control::new()).start().await;
    let authority = mesh.pod("orders").at(8080).to_string();
    let mut client = mesh.pod("storefront").http(Speaks::Http1, &authority).await;
    let answer = client.get("/direct").await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (200, ""));
    assert_eq!(mesh.pod("orders").logged("/direct").await["tls"], "mutual");
}
