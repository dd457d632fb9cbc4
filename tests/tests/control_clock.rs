//! Clocks that are an hour off, of the real programs: what cannot be is refused by name, what is in force goes on, and
//! nothing is lost once the clock is right.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;

use trama_proto::admin::v1::{GetTraceRequest, ListTracesRequest, Trace, TraceSpan, trace_span::Kind};
use trama_tests::clock::Clocked;
use trama_tests::control_plane::ControlPlane;
use trama_tests::joined::{call, given, is_identity, kept_whole, not_joined, pair, pair_by};
use trama_tests::mesh::{Mesh, Pod, until};

const HOUR: i64 = 3600;
const SAMPLING: &str =
    "kind: Telemetry\nmetadata: { name: mesh }\nspec: { tracing: { samplingPercent: 100 } }\n";

fn log(pod: &Pod) -> String {
    fs::read_to_string(pod.folder().join("sidecar.log")).unwrap()
}

async fn connected(pod: &Pod, so: f64) {
    pod.metric_reaches("trama_control_plane_connected", &[], so).await;
}

/// Starts a sidecar again that has forgotten who it was, with a new token.
async fn start_anew(mesh: &mut Mesh, name: &str, control: &ControlPlane) {
    mesh.stop_sidecar(name);
    for slot in ["identity.0", "identity.1"] {
        fs::remove_file(mesh.pod(name).folder().join("state").join(slot)).unwrap();
    }
    control.invite(mesh.pod(name).identity(), mesh.pod(name).folder()).await;
    mesh.start_sidecar(name);
    // It has its policy from disk.
    let pod = mesh.pod(name);
    until("readiness", || async { (pod.ask(15021, "/readyz").await?.status == 200).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_is_ahead_is_refused_by_name_and_nothing_is_lost() {
    let clock = Clocked::new("trama-control-plane");
    let mut control = ControlPlane::spawn_by(&clock, "").await;
    let mut mesh = pair(&control).await;
    assert_eq!(call(mesh.pod("storefront"), "/").await, (200, String::new()));
    kept_whole(mesh.pod("storefront")).await;

    // Its own certificate begins in the future of everybody else.
    control.kill();
    clock.set(HOUR);
    control.respawn().await;
    let orders = mesh.pod("orders");
    let refused = || async { log(orders).contains("not valid yet").then_some(()) };
    until("the refusal", refused).await;
    assert_eq!(orders.metric("trama_control_plane_connected", &[]).await, 0.0);
    assert_eq!(call(mesh.pod("storefront"), "/ahead").await, (200, String::new()));

    // Whoever comes new is told so, and keeps the token.
    start_anew(&mut mesh, "storefront", &control).await;
    let storefront = mesh.pod("storefront");
    until("the refusal", || async { (not_joined(storefront, "clock").await > 0.0).then_some(()) }).await;
    assert!(log(storefront).contains("set them by NTP"), "{}", log(storefront));

    control.kill();
    clock.set(0);
    control.respawn().await;
    until("it has joined", || async { is_identity(storefront, "valid").await.then_some(()) }).await;
    for name in ["orders", "storefront"] {
        connected(mesh.pod(name), 1.0).await;
    }
    assert_eq!(given(storefront, "join").await, 1.0);
    assert_eq!(call(storefront, "/right").await, (200, String::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_token_that_ends_by_the_clock_is_refused_by_name() {
    let clock = Clocked::new("trama-control-plane");
    let mut control = ControlPlane::spawn_by(&clock, "").await;
    let made = control.token("spiffe://mesh.test/ns/shop/sa/orders", 600).await;
    control.kill();
    clock.set(HOUR);
    control.respawn().await;
    let key = rcgen::KeyPair::generate().unwrap();
    let request = || trama_tests::control_plane::request(&key, &[]);
    control.join(&made.token, request()).await.unwrap_err();
    let counted = "trama_control_identity_refusals_total{reason=\"expired_token\"}";
    assert_eq!(control.metric(counted).await, 1.0);
    let made = control.token("spiffe://mesh.test/ns/shop/sa/orders", 600).await;
    control.join(&made.token, request()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_that_is_ahead_joins_serves_and_its_spans_are_kept() {
    let clock = Clocked::new("trama-sidecar");
    clock.set(HOUR);
    let control = ControlPlane::spawn().await;
    control.apply(SAMPLING).await.unwrap();
    let mesh = pair_by(&control, clock.program()).await;
    assert_eq!(call(mesh.pod("storefront"), "/ahead").await, (200, String::new()));

    let trace = until("the trace of both", || async {
        let mut admin = control.admin().await;
        let listed = admin.list_traces(ListTracesRequest::default()).await.unwrap().into_inner().traces;
        let id = listed.first()?.id.clone();
        let trace: Trace = admin.get_trace(GetTraceRequest { id }).await.ok()?.into_inner();
        (trace.spans.len() == 2).then_some(trace)
    })
    .await;
    let begin = |kind: Kind| {
        let span: &TraceSpan = trace.spans.iter().find(|span| span.kind() == kind).unwrap();
        i64::try_from(span.start).unwrap()
    };
    let apart = (begin(Kind::Client) - begin(Kind::Server)) / 1_000_000_000;
    assert!((HOUR - 60..=HOUR).contains(&apart), "{apart} s: each span tells its sidecar's time");
    for reason in ["foreign", "malformed", "flood"] {
        let sample = format!("trama_control_spans_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(control.metric(&sample).await, 0.0, "{reason}");
    }
    assert!(is_identity(mesh.pod("storefront"), "valid").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_that_is_behind_serves_what_it_has_and_joins_once_it_may() {
    let clock = Clocked::new("trama-sidecar");
    let mut control = ControlPlane::spawn().await;
    let mut mesh = pair_by(&control, clock.program()).await;
    assert_eq!(call(mesh.pod("storefront"), "/").await, (200, String::new()));
    kept_whole(mesh.pod("storefront")).await;

    clock.set(-HOUR);
    start_anew(&mut mesh, "storefront", &control).await;
    let storefront = mesh.pod("storefront");
    until("the refusal", || async { (not_joined(storefront, "clock").await > 0.0).then_some(()) }).await;
    assert!(log(storefront).contains("set them by NTP"), "{}", log(storefront));
    // The policy is there, and nobody to be.
    assert_eq!(call(storefront, "/behind").await, (503, "no_identity".to_owned()));

    // What certificates are to allow for is the control plane's to say.
    control.kill();
    let configuration = fs::read_to_string(control.configuration()).unwrap();
    fs::write(control.configuration(), configuration + "certificates: { clockSkew: 2h }\n").unwrap();
    control.respawn().await;
    until("it has joined", || async { is_identity(storefront, "valid").await.then_some(()) }).await;
    // The other one's certificate is of before.
    start_anew(&mut mesh, "orders", &control).await;
    let storefront = mesh.pod("storefront");
    until("requests", || async { (call(storefront, "/behind").await.0 == 200).then_some(()) }).await;
}
