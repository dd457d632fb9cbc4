//! Who takes what is there for all: refused by name, and the others are served meanwhile.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rcgen::KeyPair;
use tokio::io::AsyncReadExt;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use trama_proto::discovery::v1::Hello;
use trama_proto::identity::v1::RenewRequest;
use trama_proto::identity::v1::identity_service_client::IdentityServiceClient;
use trama_sidecar::discovery::Parts;
use trama_tests::control_plane::{ControlPlane, Pod, Stream, identity, names, request};
use trama_tests::mesh::until;

/// An address of this machine that is nobody else's here.
const ELSEWHERE: [u8; 4] = [127, 0, 0, 9];

fn service(name: &str) -> String {
    format!(
        "kind: Service\nmetadata: {{ name: {name}, namespace: shop }}\nspec: {{ ports: [{{ port: 80 }}] }}\n---\n"
    )
}

/// Reason and limit of the error's details, and whose share is used up.
fn why(status: &Status) -> (String, String, String) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    let subject = details.quota_failure().unwrap().violations[0].subject.clone();
    (info.reason.clone(), info.metadata["limit"].clone(), subject)
}

async fn connections_ended(control: &ControlPlane, reason: &str) -> f64 {
    control.metric(&format!("trama_control_connections_ended_total{{reason=\"{reason}\"}}")).await
}

/// Somebody new joins, gets what there is, and a change.
async fn another_is_served(control: &ControlPlane) {
    let mut stream = control.stream(&control.joined("shop", "good").await).await;
    stream.subscribe(&[]);
    stream.take().await;
    control.apply(&service("new")).await.unwrap();
    assert_eq!(names(&stream.take().await), ["Service shop/new"]);
}

#[tokio::test]
async fn an_identity_has_its_share_of_streams_and_another_is_served() {
    let control = ControlPlane::start_with("limits: { streams: 4, streamsPerIdentity: 2 }\n").await;
    let flood = control.joined("shop", "flood").await;
    let _first = control.stream(&flood).await;
    let second = control.stream(&flood).await;
    let refused =
        Stream::open(control.channel(Some(&flood)).await.unwrap(), flood.node()).await.err().unwrap();
    let (reason, limit) = ("TOO_MANY_STREAMS_OF_IDENTITY".to_owned(), "limits.streamsPerIdentity".to_owned());
    assert_eq!(why(&refused), (reason, limit, identity("shop", "flood")));
    assert!(refused.message().contains("has 2 policy streams already"), "{refused}");
    let ended = "trama_control_streams_ended_total{reason=\"identity_limit\"}";
    assert_eq!(control.metric(ended).await, 1.0);
    another_is_served(&control).await;

    // Its share is free again with the stream that had it.
    drop(second);
    until("room", || async {
        Stream::open(control.channel(Some(&flood)).await.unwrap(), flood.node()).await.ok()
    })
    .await;
}

#[tokio::test]
async fn an_identity_has_its_share_of_connections_and_another_is_served() {
    let control = ControlPlane::start_with("limits: { connectionsPerIdentity: 2 }\n").await;
    let flood = control.joined("shop", "flood").await;
    let mut first = control.stream(&flood).await;
    first.subscribe(&[]);
    first.take().await;
    let _second = control.stream(&flood).await;
    // Its own end of the handshake may be done before ours knows who it is.
    if let Ok(third) = control.channel(Some(&flood)).await {
        Stream::open(third, flood.node()).await.err().unwrap();
    }
    assert!(connections_ended(&control, "identity_limit").await >= 1.0);
    another_is_served(&control).await;
    assert_eq!(names(&first.take().await), ["Service shop/new"], "what it has it keeps");
}

#[tokio::test]
async fn an_address_that_proves_nothing_has_its_share_of_connections_and_another_is_served() {
    let more = "limits: { connections: 8, connectionsPerAddress: 2 }\ntimeouts: { tlsHandshake: 60s }\n";
    let control = ControlPlane::start_with(more).await;
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(control.connect_from(ELSEWHERE).await);
    }
    for _ in 0..20 {
        let mut refused = control.connect_from(ELSEWHERE).await;
        let read = refused.read(&mut [0]).await;
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    assert_eq!(connections_ended(&control, "address_limit").await, 20.0);
    another_is_served(&control).await;
    drop(silent);
    let joins = || async { control.channel_from(ELSEWHERE, None).await.ok() };
    until("room", joins).await;
}

#[tokio::test]
async fn a_connection_without_a_call_ends_and_one_with_a_stream_stays() {
    let control = ControlPlane::start_with("timeouts: { idle: 1s }\n").await;
    let storefront = control.joined("shop", "storefront").await;
    let mut stream = control.stream(&storefront).await;
    stream.subscribe(&[]);
    stream.take().await;
    let before = connections_ended(&control, "idle").await;
    let proved = control.channel(Some(&storefront)).await.unwrap();
    let nameless = control.channel(None).await.unwrap();
    until("their end", || async {
        (connections_ended(&control, "idle").await >= before + 2.0).then_some(())
    })
    .await;

    control.apply(&service("later")).await.unwrap();
    assert_eq!(names(&stream.take().await), ["Service shop/later"]);
    // Who has something to say connects anew.
    let token = control.token(&identity("shop", "orders"), 0).await.token;
    let csr = request(&KeyPair::generate().unwrap(), &[]);
    control.join_over(nameless, &token, csr.clone()).await.unwrap();
    let renewal = RenewRequest { certificate_signing_request: csr };
    IdentityServiceClient::new(proved).renew(renewal).await.unwrap();
}

#[tokio::test]
async fn wrong_tokens_are_not_tried_for_free_and_another_joins() {
    let control = ControlPlane::start_with("limits: { certificatesPerSecond: 1 }\n").await;
    let channel = control.channel_from(ELSEWHERE, None).await.unwrap();
    let wrong = format!("trama-join.v1.{}.{}", "0".repeat(16), "0".repeat(64));
    let refused = until("the end of patience", || async {
        // Nothing of it is read before the token is known.
        let refused =
            control.join_over(channel.clone(), &wrong, b"no request at all".to_vec()).await.unwrap_err();
        (refused.code() != Code::Unauthenticated).then_some(refused)
    })
    .await;
    let (reason, limit, subject) = why(&refused);
    assert_eq!((reason.as_str(), limit.as_str()), ("TOO_MANY_CERTIFICATES", "limits.certificatesPerSecond"));
    assert!(subject.starts_with("127.0.0.9:"), "{subject}");
    let refusals = |reason: &str| format!("trama_control_identity_refusals_total{{reason=\"{reason}\"}}");
    assert!(control.metric(&refusals("unknown_token")).await >= 10.0);
    assert!(control.metric(&refusals("too_many")).await >= 1.0);
    another_is_served(&control).await;

    // Nor does an identity have the authority sign without end.
    let flood = control.joined("shop", "flood").await;
    let mut client = IdentityServiceClient::new(control.channel(Some(&flood)).await.unwrap());
    let csr = request(&KeyPair::generate().unwrap(), &[]);
    let mut renewed = 0;
    let refused = loop {
        match client.renew(RenewRequest { certificate_signing_request: csr.clone() }).await {
            Ok(_) => renewed += 1,
            Err(refused) => break refused,
        }
    };
    assert!(renewed >= 10 && why(&refused).2.starts_with(&identity("shop", "flood")), "{renewed}: {refused}");
    let other = control.joined("shop", "other").await;
    let mut client = IdentityServiceClient::new(control.channel(Some(&other)).await.unwrap());
    client.renew(RenewRequest { certificate_signing_request: csr }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_beyond_the_largest_message_reaches_a_new_sidecar() {
    const SERVICES: usize = 66;
    let control = ControlPlane::start().await;
    let large = |number: usize| {
        let label = "x".repeat((1 << 20) - 200);
        service(&format!("s{number}"))
            .replace("namespace: shop", &format!("namespace: shop, labels: {{ x: {label} }}"))
    };
    let mut revision = 0;
    for batch in (0..SERVICES).collect::<Vec<_>>().chunks(11) {
        let text: String = batch.iter().map(|number| large(*number)).collect();
        revision = control.apply(&text).await.unwrap().stamp.unwrap().revision;
    }

    let storefront = control.joined("shop", "storefront").await;
    let mut old = control.stream(&storefront).await;
    old.subscribe(&[]);
    let told = old.end().await;
    assert_eq!(told.code(), Code::ResourceExhausted, "{told}");
    assert!(
        told.message().contains("more than the 67108864") && told.message().contains("upgrade it"),
        "{told}"
    );

    let hello = Hello { node: Some(storefront.node()), takes_parts: true, ..Hello::default() };
    let channel = control.channel(Some(&storefront)).await.unwrap();
    let mut new = Stream::open_with(channel, hello).await.unwrap();
    new.subscribe(&[]);
    let (mut parts, mut messages) = (Parts::default(), 0);
    let push = loop {
        messages += 1;
        if let Some(push) = parts.add(new.next().await.unwrap()).unwrap() {
            break push;
        }
    };
    new.ack(&push);
    assert_eq!((names(&push).len(), push.revision), (SERVICES, revision));
    assert!(messages > SERVICES / 4, "{messages} messages");
    control.sidecar("the acknowledgement", |sidecar| sidecar.acknowledged == revision).await;
    drop(new);
    control.sidecar_gone().await;

    let _pod = Pod::start(&control, "orders", "rio", "").await;
    control.sidecar("the sidecar's", |sidecar| sidecar.acknowledged >= revision).await;
}
