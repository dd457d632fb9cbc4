//! The spans of sidecars at the control plane: who may write what, what is found, and their way to a receiver that is not
//! ours.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use trama_proto::admin::v1::{GetTraceRequest, ListTracesRequest, Trace};
use trama_tests::authority::Authority;
use trama_tests::control_plane::{ControlPlane, Workload, identity};
use trama_tests::mesh::until;
use trama_tests::peers::{Here, OtlpReceiver};
use trama_tests::ports::free_port;

const IDENTITY: &str = "trama.identity";

/// Who sends spans.
struct Sender(TraceServiceClient<Channel>);

impl Sender {
    async fn of(control: &ControlPlane, workload: &Workload) -> Self {
        let client = TraceServiceClient::new(control.channel(Some(workload)).await.unwrap());
        Self(client.max_encoding_message_size(usize::MAX))
    }

    /// What was refused of these spans.
    async fn send(
        &mut self,
        resource: &[(&str, &str)],
        spans: Vec<Span>,
    ) -> Result<ExportTracePartialSuccess, Status> {
        let resource = Resource { attributes: texts(resource), ..Resource::default() };
        let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
        let resource_spans =
            ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() };
        let request = ExportTraceServiceRequest { resource_spans: vec![resource_spans] };
        let answer = self.0.export(request).await?.into_inner();
        Ok(answer.partial_success.unwrap_or_default())
    }

    /// Sends spans of which none is refused.
    async fn good(&mut self, spans: Vec<Span>) {
        assert_eq!(self.send(&[], spans).await.unwrap(), ExportTracePartialSuccess::default());
    }
}

fn texts(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    let value = |text: &str| AnyValue { value: Some(Value::StringValue(text.to_owned())) };
    let pair = |(key, text): &(&str, &str)| KeyValue {
        key: (*key).to_owned(),
        value: Some(value(text)),
        ..KeyValue::default()
    };
    pairs.iter().map(pair).collect()
}

/// A span of a trace, both by number.
fn span(trace: u32, id: u8) -> Span {
    Span {
        trace_id: u128::from(trace).to_be_bytes().to_vec(),
        span_id: vec![id; 8],
        name: "GET".to_owned(),
        start_time_unix_nano: 1_795_000_000_000_000_000,
        end_time_unix_nano: 1_795_000_000_001_000_000,
        attributes: texts(&[("trama.service", "shop/orders")]),
        ..Span::default()
    }
}

async fn trace(control: &ControlPlane, number: u32) -> Result<Trace, Status> {
    let request = GetTraceRequest { id: format!("{number:032x}") };
    control.admin().await.get_trace(request).await.map(tonic::Response::into_inner)
}

async fn listed(control: &ControlPlane, request: ListTracesRequest) -> Result<Vec<String>, Status> {
    let answer = control.admin().await.list_traces(request).await?.into_inner();
    Ok(answer.traces.into_iter().map(|trace| trace.id.trim_start_matches('0').to_owned()).collect())
}

fn forward(endpoint: &str, more: &str) -> String {
    format!("traces: {{ forward: {{ endpoint: '{endpoint}'{more} }} }}\n")
}

/// Waits until a sample has at least this value.
async fn reaches(control: &ControlPlane, sample: &str, least: f64) {
    let reached = || async { (control.metric(sample).await >= least).then_some(()) };
    until(&format!("{sample} {least}"), reached).await;
}

#[tokio::test]
async fn a_sidecar_writes_spans_as_itself_and_whoever_asks_finds_them() {
    let control = ControlPlane::start().await;
    let (orders, storefront) =
        (control.joined("shop", "orders").await, control.joined("shop", "storefront").await);
    let mut sender = Sender::of(&control, &storefront).await;
    sender.good(vec![span(1, 1)]).await;
    Sender::of(&control, &orders).await.good(vec![span(1, 2), span(2, 1)]).await;

    let found = trace(&control, 1).await.unwrap();
    let mut writers: Vec<_> =
        found.spans.iter().map(|span| (span.id.as_str(), span.identity.clone())).collect();
    writers.sort_unstable();
    assert_eq!(
        writers,
        [
            ("0101010101010101", identity("shop", "storefront")),
            ("0202020202020202", identity("shop", "orders"))
        ]
    );
    let all = ListTracesRequest::default;
    assert_eq!(listed(&control, all()).await.unwrap(), ["2", "1"]);
    let other = ListTracesRequest { service: "shop/prices".into(), ..all() };
    assert_eq!(listed(&control, other).await.unwrap(), Vec::<String>::new());

    for foreign in [(IDENTITY, identity("shop", "orders")), ("service.namespace", "bank".to_owned())] {
        let refused = sender.send(&[(foreign.0, &foreign.1)], vec![span(3, 1)]).await.unwrap();
        assert_eq!((refused.rejected_spans, refused.error_message.as_str()), (1, "refused: 1 foreign"));
    }
    assert_eq!(trace(&control, 3).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(control.metric("trama_control_spans_refused_total{reason=\"foreign\"}").await, 2.0);
}

#[tokio::test]
async fn nobody_else_writes_and_no_sidecar_reads() {
    let control = ControlPlane::start().await;
    let mut stranger = Sender(TraceServiceClient::new(control.channel(None).await.unwrap()));
    assert_eq!(stranger.send(&[], vec![span(1, 1)]).await.unwrap_err().code(), Code::Unauthenticated);

    let orders = control.joined("shop", "orders").await;
    let channel = control.channel(Some(&orders)).await.unwrap();
    let mut admin = trama_proto::admin::v1::admin_service_client::AdminServiceClient::new(channel);
    let refused = admin.list_traces(ListTracesRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let refused = admin.get_trace(GetTraceRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_refused_by_field() {
    let control = ControlPlane::start().await;
    let all = ListTracesRequest::default;
    for (request, field) in [
        (ListTracesRequest { service: "orders".into(), ..all() }, "service"),
        (ListTracesRequest { status: 1000, ..all() }, "status"),
        (ListTracesRequest { page_size: 1001, ..all() }, "page_size"),
        (ListTracesRequest { page_token: "next".into(), ..all() }, "page_token"),
        (ListTracesRequest { after: 2, before: 1, ..all() }, "before"),
    ] {
        let status = listed(&control, request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert_eq!(status.get_error_details().bad_request().unwrap().field_violations[0].field, field);
    }
    let request = GetTraceRequest { id: "4bf9".into() };
    let status = control.admin().await.get_trace(request).await.unwrap_err();
    assert_eq!(status.get_error_details().bad_request().unwrap().field_violations[0].field, "id");
    let missing = trace(&control, 1).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!(missing.get_error_details().resource_info().unwrap().resource_type, "Trace");
}

#[tokio::test]
async fn a_message_is_bounded_and_a_flood_costs_its_sender_alone() {
    let limits = "traces: { messageBytes: 65536, spansPerSecond: 5, window: { traces: 20 } }\n";
    let control = ControlPlane::start_with(limits).await;
    let (flood, orders) = (control.joined("shop", "flood").await, control.joined("shop", "orders").await);
    let (mut flood, mut orders) = (Sender::of(&control, &flood).await, Sender::of(&control, &orders).await);
    orders.good(vec![span(1, 1)]).await;
    let mut large = span(2, 1);
    large.name = "x".repeat(100_000);
    assert_eq!(flood.send(&[], vec![large]).await.unwrap_err().code(), Code::OutOfRange);
    let began = Instant::now();
    let (mut sent, mut refused) = (0, 0);
    for request in 0..50_u32 {
        let spans = (0..20).map(|number| span(100 + request * 20 + number, 1)).collect();
        refused += flood.send(&[], spans).await.unwrap().rejected_spans;
        sent += 20;
    }
    let most = 50 + 5 * (began.elapsed().as_secs() as i64 + 1);
    assert!(sent - refused <= most, "{} of {sent} taken, at most {most} were allowed", sent - refused);
    orders.good(vec![span(1, 2)]).await;
    assert_eq!(trace(&control, 1).await.unwrap().spans.len(), 2, "the flood has pushed out its own traces");
    assert_eq!(control.metric("trama_control_traces").await, 20.0);
}

#[tokio::test]
async fn spans_are_sent_on_to_a_receiver_in_another_language_with_their_writer() {
    let here = Here::new().unwrap();
    let authority = Authority::new().unwrap();
    let own = authority.issue_for_host("127.0.0.1").unwrap();
    let receiver = OtlpReceiver::start_sealed(&here, &own, None).unwrap();
    let file = tempfile::tempdir().unwrap();
    let ca = file.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let more = format!(", authorities: {}", ca.display());
    let control = ControlPlane::start_with(&forward(&format!("https://{}", receiver.address), &more)).await;
    let orders = control.joined("shop", "orders").await;
    Sender::of(&control, &orders).await.good(vec![span(1, 1), span(1, 2)]).await;
    let spans =
        until("two spans", || async { Some(receiver.spans()).filter(|spans| spans.len() >= 2) }).await;
    for (span, id) in spans.iter().zip(["0101010101010101", "0202020202020202"]) {
        assert_eq!(span["span_id"], id, "{span:#}");
        assert_eq!(span["trace_id"], format!("{:032x}", 1), "{span:#}");
        assert_eq!(span["resource"][IDENTITY], identity("shop", "orders"), "{span:#}");
        assert_eq!(span["attributes"]["trama.service"], "shop/orders", "{span:#}");
    }
    reaches(&control, "trama_control_spans_forwarded_total", 2.0).await;
}

#[tokio::test]
async fn a_receiver_that_comes_back_is_sent_what_it_missed() {
    let (here, port) = (Here::new().unwrap(), free_port());
    let control = ControlPlane::start_with(&forward(&format!("http://127.0.0.1:{port}"), "")).await;
    let orders = control.joined("shop", "orders").await;
    let mut sender = Sender::of(&control, &orders).await;
    sender.good(vec![span(1, 1)]).await;
    reaches(&control, "trama_control_forward_retries_total", 2.0).await;
    sender.good(vec![span(2, 1)]).await;
    let receiver = OtlpReceiver::start_at(&here, port).unwrap();
    let spans =
        until("two spans", || async { Some(receiver.spans()).filter(|spans| spans.len() >= 2) }).await;
    let traces: Vec<_> = spans.iter().map(|span| span["trace_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(traces, [format!("{:032x}", 1), format!("{:032x}", 2)], "once each, in their order");
    assert_eq!(control.metric("trama_control_spans_lost_total{reason=\"queue_full\"}").await, 0.0);
}

#[tokio::test]
async fn a_receiver_that_never_answers_costs_spans_and_no_sidecar_waits() {
    let here = Here::new().unwrap();
    let receiver = OtlpReceiver::start_silent(&here).unwrap();
    let more = ", queueSpans: 10, timeout: 200ms, giveUpAfter: 1s";
    let control = ControlPlane::start_with(&forward(&format!("http://{}", receiver.address), more)).await;
    let orders = control.joined("shop", "orders").await;
    let mut sender = Sender::of(&control, &orders).await;
    let began = Instant::now();
    sender.good((1..=90).map(|number| span(number, 1)).collect()).await;
    for number in 91..=100 {
        sender.good(vec![span(number, 1)]).await;
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    reaches(&control, "trama_control_spans_lost_total{reason=\"queue_full\"}", 80.0).await;
    reaches(&control, "trama_control_spans_lost_total{reason=\"given_up\"}", 1.0).await;
    assert!(control.metric("trama_control_spans_queued").await <= 10.0);
    assert_eq!(trace(&control, 100).await.unwrap().spans.len(), 1, "the window has them all");
    assert_eq!(listed(&control, ListTracesRequest::default()).await.unwrap().len(), 100);
}

#[tokio::test]
async fn what_waits_at_the_end_is_sent_before_it() {
    let here = Here::new().unwrap();
    let receiver = OtlpReceiver::start(&here).unwrap();
    let mut control = ControlPlane::start_with(&forward(&format!("http://{}", receiver.address), "")).await;
    let orders = control.joined("shop", "orders").await;
    let mut sender = Sender::of(&control, &orders).await;
    for number in 1..=20 {
        sender.good(vec![span(number, 1)]).await;
    }
    control.stop().await;
    assert_eq!(receiver.spans().len(), 20);
}
