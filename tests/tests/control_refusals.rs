//! Sidecars that may not join: each refusal has a name, a remedy and an end, and is not hammered.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::KeyPair;
use tempfile::TempDir;
use trama_tests::control_plane::{ControlPlane, Skewed, identity, put, request};
use trama_tests::mesh::until;
use trama_tests::process::Process;
use trama_tests::programs;

/// A sidecar that wants to be `orders`, alone.
struct Joining {
    folder: TempDir,
    _sidecar: Process,
}

impl Joining {
    /// With this token.
    async fn start(control: &ControlPlane, token: &str) -> Self {
        Self::start_with(control, |folder| put(&folder.join("token"), token)).await
    }

    /// With what it is invited by, changed.
    async fn start_with(control: &ControlPlane, change: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        control.invite(&identity("shop", "orders"), folder.path()).await;
        change(folder.path());
        Self::start_in(folder, control.address())
    }

    /// With the `token` and the `control-plane.pem` of a folder.
    fn start_in(folder: TempDir, control: SocketAddr) -> Self {
        let own = folder.path().display();
        let text = format!(
            "node: {{ name: orders, namespace: shop }}\nbindAddress: 127.0.0.1\nadmin: {{ port: 0 }}\n\
             ports: {{ outbound: 0, inbound: 0, mesh: 0, metrics: 0, health: 0 }}\n\
             capture: {{ outbound: false, inbound: false }}\nstateDirectory: {own}/state\n\
             controlPlane:\n  address: '{control}'\n  bundle: {own}/control-plane.pem\n  \
             join: {{ identity: {}, token: {own}/token }}\n",
            identity("shop", "orders"),
        );
        fs::write(folder.path().join("sidecar.yaml"), text).unwrap();
        let mut command = Command::new(programs::built("trama-sidecar").unwrap());
        command.arg("--config").arg(folder.path().join("sidecar.yaml"));
        let sidecar = Process::start("sidecar", &mut command, &folder.path().join("log")).unwrap();
        Self { folder, _sidecar: sidecar }
    }

    fn token(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    /// The line of the log that has all of these words, once it is there.
    async fn logs(&self, words: &[&str]) -> String {
        let line = || async {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            log.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
        };
        until(&format!("a line with {words:?}"), line).await
    }

    /// A good token in the place of a refused one is found without a restart, and before the pause is over.
    async fn joins_by(&self, token: &str) {
        put(&self.token(), token);
        self.logs(&["identity in use"]).await;
    }
}

async fn refusals(control: &ControlPlane, reason: &str) -> f64 {
    control.metric(&format!("trama_control_identity_refusals_total{{reason=\"{reason}\"}}")).await
}

#[tokio::test]
async fn a_token_that_does_not_fit_is_refused_once_and_the_next_one_joins() {
    let control = ControlPlane::spawn().await;
    let orders = identity("shop", "orders");
    let used = control.token(&orders, 0).await.token;
    control.join(&used, request(&KeyPair::generate().unwrap(), &[])).await.unwrap();
    let expired = control.token(&orders, 1).await.token;
    let foreign = control.token(&identity("shop", "prices"), 0).await.token;
    let wrong = format!("trama-join.v1.{}.{}", "0".repeat(16), "0".repeat(64));
    for (token, counted, named) in [
        (used.as_str(), "used_token", "token_refused"),
        (&expired, "expired_token", "token_refused"),
        (&wrong, "unknown_token", "token_refused"),
        ("letmein", "malformed_token", "token_refused"),
        (&foreign, "foreign_request", "identity_refused"),
    ] {
        if counted == "expired_token" {
            let csr = request(&KeyPair::generate().unwrap(), &[&identity("shop", "prices")]);
            let late = || async { control.join(&expired, csr.clone()).await.err() };
            let code = tonic::Code::Unauthenticated;
            until("the token's end", || async { late().await.filter(|it| it.code() == code) }).await;
        }
        let before = refusals(&control, counted).await;
        let joining = Joining::start(&control, token).await;
        let line = joining.logs(&["no identity yet", named]).await;
        assert!(line.contains("tramactl join-token") || line.contains("make the token for"), "{line}");
        // What looks for another token does so each second; what would ask again had done so many times by then.
        joining.joins_by(&control.token(&orders, 0).await.token).await;
        assert_eq!(refusals(&control, counted).await - before, 1.0, "{counted}: {line}");
    }
}

#[tokio::test]
async fn a_token_that_is_missing_is_waited_for() {
    let control = ControlPlane::spawn().await;
    let joining =
        Joining::start_with(&control, |folder| fs::remove_file(folder.join("token")).unwrap()).await;
    let line = joining.logs(&["no identity yet", "no_token", "controlPlane.join.token"]).await;
    assert!(line.contains("tramactl join-token"), "{line}");
    joining.joins_by(&control.token(&identity("shop", "orders"), 0).await.token).await;
    assert_eq!(control.metric("trama_control_identities_total{how=\"join\"}").await, 1.0);
}

#[tokio::test]
async fn a_token_is_not_given_to_a_control_plane_that_is_not_pinned() {
    let (control, other) = (ControlPlane::spawn().await, ControlPlane::spawn().await);
    let token = control.token(&identity("shop", "orders"), 0).await.token;
    let foreign = tempfile::tempdir().unwrap();
    other.invite(&identity("shop", "orders"), foreign.path()).await;
    let pinned = fs::read_to_string(foreign.path().join("control-plane.pem")).unwrap();
    let joining =
        Joining::start_with(&control, |folder| put(&folder.join("control-plane.pem"), &pinned)).await;
    let line = joining.logs(&["no identity yet", "untrusted"]).await;
    assert!(line.contains("controlPlane.bundle"), "{line}");
    assert_eq!(refusals(&control, "unknown_token").await, 0.0);
    // Once the right one is pinned, the token is as good as before.
    control.invite(&identity("shop", "orders"), joining.folder.path()).await;
    joining.joins_by(&token).await;
}

#[tokio::test]
async fn a_clock_an_hour_off_is_named_and_the_same_token_is_good_once_it_is_right() {
    const HOUR: i64 = 3600;
    let control = Skewed::start().await;
    for (own, signs) in [(HOUR, 0), (0, HOUR)] {
        control.set(own, signs);
        let folder = tempfile::tempdir().unwrap();
        control.invite(&identity("shop", "orders"), folder.path()).await;
        let joining = Joining::start_in(folder, control.address());
        let line = joining.logs(&["no identity yet", "\"clock\""]).await;
        assert!(line.contains("NTP"), "{line}");
        control.set(0, 0);
        joining.logs(&["identity in use"]).await;
    }
}
