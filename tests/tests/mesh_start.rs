//! How a sidecar's program starts without a good policy: it waits, it serves the last good one, or it does without.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use trama_tests::mesh::{Application, Mesh, MeshBuilder, PATIENCE, Pod, Speaks, Where, until};

const ORDERS: &str = "shop/orders";
const BAD: &str = "kind: Service\nmetadata: { name: orders, namespace: shop }\nspec: { prots: [] }\n";

/// Waits so long for a policy that a test never sees the end of it.
const PATIENT: &str = "startup: { waitForPolicy: 1h }";

/// A pair as processes; the caller's configuration has these lines too, in which `STATE` is a folder of its own.
fn pair(state: &Path, lines: &str) -> MeshBuilder {
    let lines = lines.replace("STATE", &state.display().to_string());
    Mesh::builder()
        .at(Where::Processes)
        .pod("orders", |p| p.serves(ORDERS).application(&Application::echo("orders")))
        .pod("storefront", |p| p.config(&lines))
}

fn state() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    (folder, state)
}

async fn status(pod: &Pod, port: u16, path: &str) -> u16 {
    pod.ask(port, path).await.map_or(0, |answer| answer.status.as_u16())
}

async fn calls(pod: &Pod) -> (u16, String) {
    let mut client = pod.http(Speaks::Http1, "orders.shop").await;
    let answer = client.get("/").await;
    (answer.status.as_u16(), answer.reason().to_owned())
}

async fn is_ready(pod: &Pod) {
    until("readiness", || async { (status(pod, 15021, "/readyz").await == 200).then_some(()) }).await;
}

async fn origin(pod: &Pod) -> String {
    let mut client = pod.http_to(pod.at(15000), Speaks::Http1, "localhost").await;
    let answer = client.get("/policy").await;
    let policy: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    policy["origin"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_start_without_a_good_policy_waits_for_one() {
    let (_folder, state) = state();
    let mut mesh = pair(&state, PATIENT).start().await;
    for bad in [Some(BAD), None] {
        mesh.stop_sidecar("storefront");
        mesh.spoil_policy(bad);
        mesh.start_sidecar("storefront");
        let pod = mesh.pod("storefront");
        until("health", || async { (status(pod, 15021, "/livez").await == 200).then_some(()) }).await;
        assert_eq!(status(pod, 15021, "/startupz").await, 503);
        assert_eq!(status(pod, 15021, "/readyz").await, 503);
        assert!(pod.dial(pod.at(15080)).await.is_err(), "the listener is open");
        let process = mesh.pod_mut("storefront").process();
        let says = |words: &str| process.log().contains(words);
        if bad.is_some() {
            assert!(says("spec.prots: unknown field"), "{}", process.log());
        } else {
            assert!(says("policy.yaml: cannot be read"), "{}", process.log());
        }
        assert!(says("no policy yet: the listeners stay closed"), "{}", process.log());
        // The watcher takes the file as soon as it is good.
        mesh.publish(|_| {});
        is_ready(mesh.pod("storefront")).await;
        assert_eq!(calls(mesh.pod("storefront")).await, (200, String::new()));
        assert_eq!(origin(mesh.pod("storefront")).await, "source");
    }
}

#[tokio::test]
async fn a_signal_ends_the_wait() {
    let (_folder, state) = state();
    let mut mesh = pair(&state, PATIENT).start().await;
    mesh.stop_sidecar("storefront");
    mesh.spoil_policy(None);
    mesh.start_sidecar("storefront");
    let process = mesh.pod_mut("storefront").process();
    let waits = |log: String| log.contains("no policy yet").then_some(());
    process.wait_until("the wait", PATIENCE, |p| waits(p.log())).unwrap();
    process.terminate();
    assert_eq!(process.wait(PATIENCE).unwrap().code(), Some(0));
}

#[tokio::test]
async fn without_a_policy_in_time_names_mean_nothing_and_the_refusal_says_so() {
    let (_folder, state) = state();
    let mut mesh = pair(&state, "startup: { waitForPolicy: 100ms }").start().await;
    mesh.stop_sidecar("storefront");
    mesh.spoil_policy(Some(BAD));
    mesh.start_sidecar("storefront");
    let pod = mesh.pod("storefront");
    is_ready(pod).await;
    assert_eq!(calls(pod).await, (503, "policy_pending".to_owned()));
    assert_eq!(origin(pod).await, "awaited");
    assert!(mesh.pod_mut("storefront").process().log().contains("still no policy"));
    mesh.publish(|_| {});
    mesh.pod("storefront").metric_reaches("trama_policy_revision", &[], 1.0).await;
    assert_eq!(calls(mesh.pod("storefront")).await, (200, String::new()));
}

#[tokio::test]
async fn the_last_good_policy_serves_a_start_whose_file_is_gone_or_bad() {
    let (_folder, state) = state();
    let mut mesh = pair(&state, &format!("stateDirectory: STATE\n{PATIENT}")).start().await;
    until("it is kept", || async { state.join("policy.0").exists().then_some(()) }).await;
    for (bad, revision) in [(None, 1.0), (Some(BAD), 2.0)] {
        mesh.stop_sidecar("storefront");
        mesh.spoil_policy(bad);
        mesh.start_sidecar("storefront");
        let pod = mesh.pod("storefront");
        is_ready(pod).await;
        assert_eq!(calls(pod).await, (200, String::new()));
        assert_eq!(origin(pod).await, "last_good");
        assert_eq!(pod.metric("trama_policy_last_good", &[]).await, 1.0);
        assert_eq!(pod.metric("trama_policy_revision", &[]).await, revision);
        assert!(
            mesh.pod_mut("storefront").process().log().contains("the last good policy, from disk, is in use")
        );
        // A good file takes its place, and is kept.
        mesh.publish(|p| p.route(ORDERS, &format!("timeouts: {{ request: {revision}s }}")));
        mesh.pod("storefront").metric_reaches("trama_policy_revision", &[], revision + 1.0).await;
        assert_eq!(mesh.pod("storefront").metric("trama_policy_last_good", &[]).await, 0.0);
        assert_eq!(origin(mesh.pod("storefront")).await, "source");
        let kept = |name: &str| fs::read(state.join(name)).unwrap_or_default();
        let text = format!("request: {revision}s").into_bytes();
        let is_kept = |name: &str| kept(name).windows(text.len()).any(|part| part == text);
        until("it is kept", || async { (is_kept("policy.0") || is_kept("policy.1")).then_some(()) }).await;
    }
}

#[tokio::test]
async fn a_torn_slot_is_told_and_the_one_before_it_serves() {
    let (_folder, state) = state();
    let mut mesh = pair(&state, &format!("stateDirectory: STATE\n{PATIENT}")).start().await;
    until("the first", || async { state.join("policy.0").exists().then_some(()) }).await;
    mesh.publish(|p| p.route(ORDERS, "timeouts: { request: 7s }"));
    until("the second", || async { state.join("policy.1").exists().then_some(()) }).await;
    mesh.stop_sidecar("storefront");
    let whole = fs::read(state.join("policy.1")).unwrap();
    fs::write(state.join("policy.1"), &whole[..whole.len() / 2]).unwrap();
    mesh.spoil_policy(None);
    mesh.start_sidecar("storefront");
    is_ready(mesh.pod("storefront")).await;
    let pod = mesh.pod("storefront");
    assert_eq!(pod.metric("trama_policy_revision", &[]).await, 1.0);
    assert_eq!(pod.metric("trama_policy_store_failures_total", &[]).await, 1.0);
    assert_eq!(calls(pod).await, (200, String::new()));
    let log = mesh.pod_mut("storefront").process().log();
    assert!(log.contains("policy.1: torn: its checksum is wrong"), "{log}");
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_written_to_disturbs_no_traffic() {
    let (folder, _) = state();
    let in_the_way = folder.path().join("file");
    fs::write(&in_the_way, "").unwrap();
    let mut mesh = pair(&in_the_way, "stateDirectory: STATE").start().await;
    let pod = mesh.pod("storefront");
    pod.metric_reaches("trama_policy_store_failures_total", &[], 1.0).await;
    assert_eq!(calls(pod).await, (200, String::new()));
    mesh.publish(|p| p.route(ORDERS, "timeouts: { request: 7s }"));
    mesh.pod("storefront").metric_reaches("trama_policy_revision", &[], 2.0).await;
    mesh.pod("storefront").metric_reaches("trama_policy_store_failures_total", &[], 2.0).await;
    assert_eq!(calls(mesh.pod("storefront")).await, (200, String::new()));
    let log = mesh.pod_mut("storefront").process().log();
    assert!(log.contains("the policy cannot be kept") && log.contains("traffic goes on"), "{log}");
}
