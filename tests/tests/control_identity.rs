//! Identities over real sockets: who gets one, who does not, and that certificates are renewed in time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rcgen::KeyPair;
use tonic::{Code, Status};
use trama_proto::identity::v1::RenewRequest;
use trama_proto::identity::v1::identity_service_client::IdentityServiceClient;
use trama_tests::control_plane::{ControlPlane, Workload, identity, request};
use trama_tests::mesh::until;

async fn refusals(control: &ControlPlane, reason: &str) -> f64 {
    control.metric(&format!("trama_control_identity_refusals_total{{reason=\"{reason}\"}}")).await
}

async fn renew(control: &ControlPlane, workload: Option<&Workload>, csr: Vec<u8>) -> Result<String, Status> {
    let mut client = IdentityServiceClient::new(control.channel(workload).await.unwrap());
    let renewed = client.renew(RenewRequest { certificate_signing_request: csr }).await?;
    Ok(renewed.into_inner().identity)
}

#[tokio::test]
async fn a_token_that_does_not_fit_is_refused_and_counted() {
    let control = ControlPlane::start().await;
    let orders = identity("shop", "orders");
    let key = KeyPair::generate().unwrap();
    let csr = request(&key, &[]);
    let made = control.token(&orders, 600).await.token;

    let mut wrong = made.clone();
    let last = wrong.pop().unwrap();
    wrong.push(if last == '0' { '1' } else { '0' });
    let unknown = control.join(&wrong, csr.clone()).await.unwrap_err();
    let malformed = control.join("letmein", csr.clone()).await.unwrap_err();
    control.join(&made, csr.clone()).await.unwrap();
    let used = control.join(&made, request(&KeyPair::generate().unwrap(), &[])).await.unwrap_err();
    for refused in [&unknown, &malformed, &used] {
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert_eq!(refused.message(), unknown.message(), "who asks cannot tell which tokens exist");
    }
    for reason in ["unknown_token", "malformed_token", "used_token"] {
        assert_eq!(refusals(&control, reason).await, 1.0, "{reason}");
    }
    control.join(&made, csr).await.unwrap();
    assert_eq!(control.metric("trama_control_identities_total{how=\"join\"}").await, 2.0);
}

#[tokio::test]
async fn a_request_for_somebody_else_is_refused_and_a_late_token_too() {
    let control = ControlPlane::start().await;
    let made = control.token(&identity("shop", "orders"), 3).await.token;
    let key = KeyPair::generate().unwrap();
    let foreign = request(&key, &[&identity("shop", "prices")]);
    // The token is looked at first: once it has ended, that is what is said.
    let mut denied = 0;
    let late = until("the token's end", || async {
        control
            .join(&made, foreign.clone())
            .await
            .err()
            .filter(|status| status.code() != Code::PermissionDenied)
    });
    assert_eq!(late.await.code(), Code::Unauthenticated);
    denied += refusals(&control, "foreign_request").await as u32;
    assert!(denied > 0);
    assert_eq!(refusals(&control, "expired_token").await, 1.0);
    let late = control.join(&made, request(&key, &[])).await.unwrap_err();
    assert_eq!(late.code(), Code::Unauthenticated);

    let made = control.token(&identity("shop", "orders"), 0).await.token;
    let bad = control.join(&made, b"no request at all".to_vec()).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
    assert_eq!(refusals(&control, "bad_request").await, 1.0);
}

#[tokio::test]
async fn a_certificate_is_renewed_for_whom_the_old_one_names() {
    let control = ControlPlane::start().await;
    let orders = control.joined("shop", "orders").await;
    let key = KeyPair::generate().unwrap();
    let own = identity("shop", "orders");
    assert_eq!(renew(&control, Some(&orders), request(&key, &[])).await.unwrap(), own);
    assert_eq!(renew(&control, Some(&orders), request(&key, &[&own])).await.unwrap(), own);
    let foreign = request(&key, &[&identity("shop", "prices")]);
    assert_eq!(renew(&control, Some(&orders), foreign).await.unwrap_err().code(), Code::PermissionDenied);
    let nobody = renew(&control, None, request(&key, &[])).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated);
    assert_eq!(control.metric("trama_control_identities_total{how=\"renew\"}").await, 2.0);
    assert_eq!(refusals(&control, "no_certificate").await, 1.0);
}

#[tokio::test]
async fn a_connection_that_outlives_its_certificate_proves_nothing_any_more() {
    let control = ControlPlane::start_with("certificates: { lifetime: 5s }\n").await;
    let orders = control.joined("shop", "orders").await;
    let mut client = IdentityServiceClient::new(control.channel(Some(&orders)).await.unwrap());
    let csr = request(&KeyPair::generate().unwrap(), &[]);
    let ended = until("the certificate's end", || {
        let (mut client, csr) = (client.clone(), csr.clone());
        async move { client.renew(RenewRequest { certificate_signing_request: csr }).await.err() }
    });
    let ended = ended.await;
    assert_eq!((ended.code(), ended.message().contains("expired")), (Code::Unauthenticated, true), "{ended}");
    client.renew(RenewRequest::default()).await.unwrap_err();
}

#[tokio::test]
async fn the_control_plane_renews_its_own_certificate_in_time() {
    let control = ControlPlane::start_with("certificates: { lifetime: 4s }\n").await;
    let expiry = || control.metric("trama_control_certificate_expiry");
    let first = expiry().await;
    assert!(first > 0.0);
    until("two certificates later", || async { (expiry().await > first + 4.0).then_some(()) }).await;
    control.joined("shop", "late").await;
}

#[tokio::test]
async fn an_identity_of_another_mesh_is_given_to_nobody() {
    use trama_proto::admin::v1::CreateJoinTokenRequest;

    let control = ControlPlane::start().await;
    let mut admin = control.admin().await;
    for (identity, lifetime) in [
        ("spiffe://other.test/ns/shop/sa/orders", 0),
        ("orders", 0),
        ("spiffe://mesh.test/ns/a/sa/b", 86_401),
    ] {
        let request = CreateJoinTokenRequest { identity: identity.into(), lifetime };
        let refused = admin.create_join_token(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{identity}");
    }
}
