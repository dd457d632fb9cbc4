//! Sidecars that join a real control plane: by a token, to mutual TLS among themselves, and on from certificate to
//! certificate and from root to root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use trama_tests::control_plane::{ControlPlane, identity};
use trama_tests::joined::{REQUESTS, call, given, is_identity, load_until, pair};
use trama_tests::mesh::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sidecars_join_and_know_each_other_by_mutual_tls() {
    let control = ControlPlane::spawn().await;
    let mesh = pair(&control).await;
    let (orders, storefront) = (mesh.pod("orders"), mesh.pod("storefront"));
    assert_eq!(call(storefront, "/joined").await, (200, String::new()));
    let inbound = orders.logged("/joined").await;
    assert_eq!(
        (inbound["tls"].as_str(), inbound["peer_identity"].as_str()),
        (Some("mutual"), Some(storefront.identity()))
    );
    assert_eq!(storefront.logged("/joined").await["peer_identity"], orders.identity());

    for pod in [orders, storefront] {
        assert_eq!((given(pod, "join").await, given(pod, "renew").await), (1.0, 0.0));
        assert!(is_identity(pod, "valid").await);
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        let left = pod.metric("trama_identity_expiry_seconds", &[]).await - now;
        assert!((86_000.0..=86_400.0).contains(&left), "a day, and not {left} s");
        for slot in ["state/identity.0", "state/identity.1"] {
            assert_eq!(fs::metadata(pod.folder().join(slot)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let log = fs::read_to_string(pod.folder().join("sidecar.log")).unwrap();
        assert!(!log.contains("trama-join.v1"), "a token is in the log:\n{log}");
    }
    assert_eq!(control.metric("trama_control_identities_total{how=\"join\"}").await, 2.0);
    let streams = control.sidecars().await.into_iter();
    let mut identities: Vec<_> = streams.map(|sidecar| sidecar.node.unwrap().identity).collect();
    identities.sort();
    assert_eq!(identities, [identity("shop", "orders"), identity("shop", "storefront")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_seconds_are_renewed_under_load_without_a_failed_request() {
    let control = ControlPlane::spawn_with("certificates: { lifetime: 5s }\n").await;
    let mesh = pair(&control).await;
    let pods = ["orders", "storefront"].map(|name| mesh.pod(name));
    // Longer than two lives: nothing of the beginning holds any more.
    let renewed = async {
        for pod in pods {
            pod.metric_reaches(REQUESTS, &[("kind", "renew"), ("result", "ok")], 5.0).await;
        }
    };
    let requests = load_until(mesh.pod("storefront"), renewed).await;
    assert!(requests > 100, "{requests} requests are no load");
    for pod in pods {
        assert_eq!(given(pod, "join").await, 1.0);
        assert_eq!(pod.metric(REQUESTS, &[("result", "failed")]).await, 0.0);
        assert_eq!(pod.metric("trama_control_plane_stream_failures_total", &[]).await, 0.0);
    }
}

/// Whether a sidecar trusts a root: its newest slot has those that it does in DER.
fn trusts(state: &Path, root: &[u8]) -> bool {
    let slots = ["identity.0", "identity.1"].iter().filter_map(|name| fs::read(state.join(name)).ok());
    let newest = slots.max_by_key(|slot| u64::from_be_bytes(*slot[8..].first_chunk().unwrap())).unwrap();
    newest.windows(root.len()).any(|bytes| bytes == root)
}

/// Hours before their certificates are renewed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_root_reaches_sidecars_at_once() {
    let lifetime = |hours: u32| format!("certificates: {{ rootLifetime: {hours}h }}\n");
    let mut control = ControlPlane::spawn_with(&lifetime(100)).await;
    let mesh = pair(&control).await;
    let pods = ["orders", "storefront"].map(|name| mesh.pod(name));
    // Less than half of a life is left of the first root now.
    control.kill();
    let configuration = fs::read_to_string(control.configuration()).unwrap();
    fs::write(control.configuration(), configuration.replace(&lifetime(100), &lifetime(300))).unwrap();
    control.respawn().await;
    for pod in pods {
        pod.metric_reaches("trama_identity_roots", &[], 2.0).await;
        assert_eq!((given(pod, "join").await, given(pod, "renew").await), (1.0, 0.0));
    }
    assert_eq!(call(mesh.pod("storefront"), "/after").await, (200, String::new()));
    let bundle = control.token(&identity("shop", "any"), 0).await.bundle;
    assert_eq!(bundle.len(), 2);
    for state in pods.map(|pod| pod.folder().join("state")) {
        let kept = || async { bundle.iter().all(|root| trusts(&state, root)).then_some(()) };
        until("both are kept", kept).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roots_are_replaced_by_overlap_under_load() {
    let lengths = "{ lifetime: 5s, rootLifetime: 16s, overlap: 5s, clockSkew: 1s }";
    let control = ControlPlane::spawn_with(&format!("certificates: {lengths}\n")).await;
    let mesh = pair(&control).await;
    let pods = ["orders", "storefront"].map(|name| mesh.pod(name));
    let states = pods.map(|pod| pod.folder().join("state"));
    let roots = async || control.token(&identity("shop", "any"), 0).await.bundle;
    let first = roots().await.remove(0);
    assert!(states.iter().all(|state| trusts(state, &first)));
    let replaced = async {
        for pod in pods {
            pod.metric_reaches("trama_identity_roots", &[], 2.0).await;
        }
        let second = roots().await.into_iter().find(|root| *root != first).unwrap();
        let has_both = |state| trusts(state, &first) && trusts(state, &second);
        until("both are kept", || async { states.iter().all(|state| has_both(state)).then_some(()) }).await;
        let has_new = |state| !trusts(state, &first) && trusts(state, &second);
        until("the old one is not", || async { states.iter().all(|state| has_new(state)).then_some(()) })
            .await;
    };
    load_until(mesh.pod("storefront"), replaced).await;
    for pod in pods {
        assert_eq!(pod.metric(REQUESTS, &[("result", "failed")]).await, 0.0);
        assert_eq!(pod.metric("trama_control_plane_stream_failures_total", &[]).await, 0.0);
    }
}
