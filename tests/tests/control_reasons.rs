//! Each status has details: who calls by a program need not read sentences.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;
use trama_control_plane::reason::{DOMAIN, Reason};
use trama_proto::admin::v1::admin_service_client::AdminServiceClient;
use trama_proto::admin::v1::{
    CreateJoinTokenRequest, GetTraceRequest, ListRequest, ProxyConfigRequest, Stamp, StatusRequest,
    WatchRequest,
};
use trama_proto::discovery::v1::sidecar_message::Message;
use trama_proto::discovery::v1::{Ack, Node, ServiceName, Subscribe, Unsubscribe};
use trama_proto::identity::v1::identity_service_client::IdentityServiceClient;
use trama_proto::identity::v1::{JoinRequest, RenewRequest};
use trama_tests::control_plane::{ControlPlane, Stream, identity, request};
use trama_tests::mesh::until;

/// A status says what the reason says, to a person and to a program.
fn expect(reason: Reason, status: &Status) {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no details: {status}"));
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason.name(), DOMAIN), "{status}");
    assert_eq!(status.code(), reason.code(), "{status}");
    assert!(!status.message().is_empty());
}

/// What a method answers to a message that is not its own.
async fn ask(channel: Channel, path: &'static str) -> Status {
    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    let message = Request::new(Stamp { epoch: 7, revision: 7 });
    let codec = ProstCodec::<Stamp, ()>::default();
    client.unary(message, PathAndQuery::from_static(path), codec).await.unwrap_err()
}

#[tokio::test]
async fn who_may_not_ask_is_told_why_by_name() {
    let control = ControlPlane::start().await;
    let storefront = control.joined("shop", "storefront").await;
    let nobody = control.channel(None).await.unwrap();
    let somebody = control.channel(Some(&storefront)).await.unwrap();
    let mut admin = AdminServiceClient::new(nobody.clone());
    expect(Reason::NoCertificate, &admin.status(StatusRequest::default()).await.unwrap_err());
    expect(Reason::NoCertificate, &admin.watch(WatchRequest::default()).await.unwrap_err());
    let refused = AdminServiceClient::new(somebody).list(ListRequest::default()).await.unwrap_err();
    expect(Reason::NotAdmin, &refused);
    let info = refused.get_details_error_info().unwrap();
    assert_eq!(info.metadata["identity"], identity("shop", "storefront"));

    let mut identities = IdentityServiceClient::new(nobody.clone());
    expect(Reason::NoCertificate, &identities.renew(RenewRequest::default()).await.unwrap_err());
    expect(Reason::TokenRefused, &identities.join(JoinRequest::default()).await.unwrap_err());
    let made = control.token(&identity("shop", "orders"), 0).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let foreign = request(&key, &[&identity("shop", "prices")]);
    let refused = control.join(&made.token, foreign).await.unwrap_err();
    expect(Reason::IdentityRefused, &refused);
    assert_eq!(refused.get_details_error_info().unwrap().metadata["allowed"], identity("shop", "orders"));
    expect(Reason::BadRequest, &control.join(&made.token, vec![7]).await.unwrap_err());

    let mut spans = TraceServiceClient::new(nobody);
    expect(Reason::NoCertificate, &spans.export(ExportTraceServiceRequest::default()).await.unwrap_err());
}

#[tokio::test]
async fn a_certificate_that_has_ended_meanwhile_is_named() {
    let control = ControlPlane::start_with("certificates: { lifetime: 2s }\n").await;
    let admin = control.joined("ops", "admin").await;
    let admin = AdminServiceClient::new(control.channel(Some(&admin)).await.unwrap());
    let ended = || async { admin.clone().status(StatusRequest::default()).await.err() };
    expect(Reason::CertificateExpired, &until("the end", ended).await);
}

#[tokio::test]
async fn what_an_admin_asks_in_vain_is_named() {
    let control = ControlPlane::start().await;
    let mut admin = control.admin().await;
    let refused = admin.list(ListRequest { page_size: 5000, ..ListRequest::default() }).await;
    expect(Reason::BadRequest, &refused.unwrap_err());
    let refused =
        admin.proxy_config(ProxyConfigRequest { sidecar: "shop/none".into(), ..Default::default() }).await;
    expect(Reason::NotFound, &refused.unwrap_err());
    let refused = admin.get_trace(GetTraceRequest { id: "7".repeat(32) }).await;
    expect(Reason::NotFound, &refused.unwrap_err());
    let identity = "spiffe://elsewhere.test/ns/shop/sa/orders".to_owned();
    let refused = admin.create_join_token(CreateJoinTokenRequest { identity, lifetime: 0 }).await;
    expect(Reason::BadRequest, &refused.unwrap_err());
    let after = Some(Stamp { epoch: 1, revision: 1 });
    let refused = admin.watch(WatchRequest { after, ..WatchRequest::default() }).await;
    expect(Reason::RevisionOutOfRange, &refused.unwrap_err());
}

#[tokio::test]
async fn the_end_of_a_policy_stream_is_named() {
    let more = "limits: { messagesPerSecond: 5 }\ntimeouts: { hello: 2s }\n";
    let mut control = ControlPlane::start_with(more).await;
    let storefront = control.joined("shop", "storefront").await;
    let channel = control.channel(Some(&storefront)).await.unwrap();
    let opened = async |node: Node| Stream::open(channel.clone(), node).await.unwrap();

    let mut foreign = opened(Node::default()).await;
    expect(Reason::ForeignHello, &foreign.end().await);
    let mut early = Stream::silent(channel.clone()).await.unwrap();
    early.subscribe(&[]);
    expect(Reason::NoHello, &early.end().await);
    let mut silent = Stream::silent(channel.clone()).await.unwrap();
    expect(Reason::HelloLate, &silent.end().await);
    let mut wrong = opened(storefront.node()).await;
    wrong.say(Message::Ack(Ack { nonce: 7, ..Ack::default() }));
    expect(Reason::BadMessage, &wrong.end().await);
    let mut large = opened(storefront.node()).await;
    let name = ServiceName { namespace: "shop".into(), name: "x".repeat(17 << 20) };
    large.say(Message::Subscribe(Subscribe { services: vec![name] }));
    expect(Reason::MessageTooLarge, &large.end().await);
    let mut flood = opened(storefront.node()).await;
    for _ in 0..1000 {
        flood.say(Message::Unsubscribe(Unsubscribe::default()));
    }
    expect(Reason::Flood, &flood.end().await);

    let mut good = opened(storefront.node()).await;
    good.subscribe(&[]);
    good.take().await;
    let mut watch = control.admin().await.watch(WatchRequest::default()).await.unwrap().into_inner();
    control.stop().await;
    expect(Reason::Ending, &good.end().await);
    expect(Reason::Ending, &watch.message().await.unwrap_err());
}

#[tokio::test]
async fn a_stream_too_many_is_named_with_the_limit() {
    let control = ControlPlane::start_with("limits: { streams: 1 }\n").await;
    let storefront = control.joined("shop", "storefront").await;
    let mut only = control.stream(&storefront).await;
    only.subscribe(&[]);
    only.take().await;
    let channel = control.channel(Some(&storefront)).await.unwrap();
    let refused = Stream::open(channel, storefront.node()).await.err().unwrap();
    expect(Reason::TooManyStreams, &refused);
    assert_eq!(refused.get_details_error_info().unwrap().metadata["limit"], "limits.streams");
}

#[tokio::test]
async fn what_the_library_refuses_is_named_too() {
    let control = ControlPlane::start().await;
    let channel = control.channel(None).await.unwrap();
    for path in [
        "/trama.admin.v1.AdminService/Destroy",
        "/trama.discovery.v1.PolicyService/Listen",
        "/opentelemetry.proto.collector.trace.v1.TraceService/Import",
        "/trama.nothing.v1.Nothing/At",
    ] {
        expect(Reason::UnknownMethod, &ask(channel.clone(), path).await);
    }
    // The first field of a List is a text.
    expect(Reason::Internal, &ask(channel.clone(), "/trama.admin.v1.AdminService/List").await);
    let kind = "x".repeat(17 << 20);
    let large = AdminServiceClient::new(channel).list(ListRequest { kind, ..ListRequest::default() }).await;
    expect(Reason::MessageTooLarge, &large.unwrap_err());
}
