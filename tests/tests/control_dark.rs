//! Sidecars that start while their control plane is down: with identity and policy from disk, or with a clear word where
//! the identity has ended meanwhile.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io;
use std::time::UNIX_EPOCH;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use trama_tests::control_plane::ControlPlane;
use trama_tests::joined::{REQUESTS, call, given, is_identity, kept_whole, not_joined, pair};
use trama_tests::mesh::{Mesh, PATIENCE, Pod, until};

async fn ready(pod: &Pod) {
    until("readiness", || async { (pod.ask(15021, "/readyz").await?.status == 200).then_some(()) }).await;
}

/// Starts a killed sidecar again, until it is ready.
async fn restart(mesh: &mut Mesh, name: &str) {
    mesh.start_sidecar(name);
    ready(mesh.pod(name)).await;
}

/// Whether a sidecar that was never answered on this connection still waits, and has not given it up.
fn is_open(connection: &TcpStream) -> bool {
    let mut said = [0; 4096];
    loop {
        match connection.try_read(&mut said) {
            Ok(0) => return false,
            // The begin of its handshake.
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_serves_before_the_first_answer_of_the_control_plane() {
    let mut control = ControlPlane::spawn().await;
    let mut mesh = pair(&control).await;
    assert_eq!(call(mesh.pod("storefront"), "/").await.0, 200);
    kept_whole(mesh.pod("storefront")).await;

    for name in ["storefront", "orders"] {
        mesh.stop_sidecar(name);
    }
    control.kill();
    // It cannot know whether this one will answer. A start that waited for it, with a control plane or without, would wait here.
    let mute = TcpListener::bind(control.address()).await.unwrap();
    restart(&mut mesh, "storefront").await;
    let (asked, _) = timeout(PATIENCE, mute.accept()).await.expect("it asks for policy").unwrap();
    assert!(is_open(&asked), "it was ready after it had given up its first attempt");
    restart(&mut mesh, "orders").await;
    assert_eq!(call(mesh.pod("storefront"), "/dark").await, (200, String::new()));
    assert_eq!(mesh.pod("orders").logged("/dark").await["peer_identity"], mesh.pod("storefront").identity());
    for name in ["storefront", "orders"] {
        let pod = mesh.pod(name);
        assert!(is_identity(pod, "valid").await && given(pod, "join").await == 0.0);
        assert_eq!(pod.metric("trama_policy_last_good", &[]).await, 1.0);
        assert_eq!(pod.metric("trama_control_plane_connected", &[]).await, 0.0);
    }

    drop((asked, mute));
    control.respawn().await;
    mesh.pod("storefront").metric_reaches("trama_control_plane_connected", &[], 1.0).await;
    assert_eq!(mesh.pod("storefront").metric(REQUESTS, &[("result", "failed")]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_that_ended_meanwhile_is_named_and_a_new_token_joins_anew() {
    let mut control = ControlPlane::spawn_with("certificates: { lifetime: 5s }\n").await;
    let mut mesh = pair(&control).await;
    assert_eq!(call(mesh.pod("storefront"), "/").await.0, 200);
    kept_whole(mesh.pod("storefront")).await;
    control.kill();
    let ends = mesh.pod("storefront").metric("trama_identity_expiry_seconds", &[]).await;
    mesh.stop_sidecar("storefront");
    // It began with nothing on disk: what counts is what it was given since.
    let stays = || async {
        let log = fs::read_to_string(mesh.pod("orders").folder().join("sidecar.log")).unwrap();
        log.contains("no policy stream; what holds stays").then_some(())
    };
    until("the word that its policy stays", stays).await;
    let now = || UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    until("the end of its certificate", || async { (now() > ends).then_some(()) }).await;
    let orders = mesh.pod("orders");
    until("the end of the other one", || async { is_identity(orders, "expired").await.then_some(()) }).await;

    // The policy is there, and nobody to be.
    restart(&mut mesh, "storefront").await;
    let storefront = mesh.pod("storefront");
    assert!(is_identity(storefront, "expired").await);
    assert_eq!(call(storefront, "/ended").await, (503, "no_identity".to_owned()));
    let log = fs::read_to_string(storefront.folder().join("sidecar.log")).unwrap();
    assert!(log.contains("the identity on disk has expired") && log.contains("a new token"), "{log}");

    // The first token was for the first key.
    control.respawn().await;
    until("the refusal", || async { (not_joined(storefront, "token_refused").await > 0.0).then_some(()) })
        .await;
    for name in ["storefront", "orders"] {
        let pod = mesh.pod(name);
        control.invite(pod.identity(), pod.folder()).await;
        until("it has joined", || async { is_identity(pod, "valid").await.then_some(()) }).await;
    }
    until("requests", || async { (call(storefront, "/anew").await.0 == 200).then_some(()) }).await;
    assert_eq!(
        storefront.logged_where("the first", |e| e["path"] == "/anew" && e["status"] == 200).await["peer_identity"],
        mesh.pod("orders").identity()
    );
}
