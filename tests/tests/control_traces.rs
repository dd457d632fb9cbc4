//! The spans of sidecars at the control plane: who may write what, what is found, and their way to a receiver that is not
//! ours.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status as SpanStatus};
use serde_json::Value as Json;
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
const MILLISECOND: u64 = 1_000_000;
const BEGAN: u64 = 1_795_000_000_000_000_000;

const SHOWN: &str = "\
trace 00000000000000000000000000000001: 3 spans, 3.0 ms, began 2026-11-18T11:06:40.000Z
it goes on from span 0909090909090909, which no sidecar has told of: an application's, or one that has not come

SPAN                    WORKLOAD          REGION   SERVICE       ROUTE             AFTER    TOOK     ANSWER
client GET, attempt 1   shop/storefront   rio      shop/orders   shop/orders/all   0.0 ms   1.0 ms   connect_failed
   to rio (preferred), 127.0.0.1:15001, TLS: mutual
   failed: nobody\\u{7} listens
client GET, attempt 2   shop/storefront   rio      shop/orders   shop/orders/all   2.0 ms   1.0 ms   200
│  to lima (moved; rio: tried), 127.0.0.1:15002 of shop/orders, TLS: mutual
└─ server GET           shop/orders       lima     shop/orders                     2.2 ms   0.8 ms   200
";

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

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn texts(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    pairs.iter().map(|(key, text)| pair(key, Value::StringValue((*text).to_owned()))).collect()
}

/// A span of a trace, both by number.
fn span(trace: u32, id: u8) -> Span {
    Span {
        trace_id: u128::from(trace).to_be_bytes().to_vec(),
        span_id: vec![id; 8],
        name: "GET".to_owned(),
        start_time_unix_nano: BEGAN,
        end_time_unix_nano: BEGAN + MILLISECOND,
        attributes: texts(&[("trama.service", "shop/orders")]),
        ..Span::default()
    }
}

/// A request that goes on from a span of an application's: an attempt that fails, one that does not, and the called side of
/// that.
fn moved(trace: u32, start: u64) -> ([Span; 2], Span) {
    let placed = |id: u8, region: &str, why: &str, after: u64| {
        let mut attributes = texts(&[
            ("trama.direction", "outbound"),
            ("trama.service", "shop/orders"),
            ("trama.route", "shop/orders/all"),
            ("trama.region", region),
            ("trama.region.why", why),
            ("trama.tls", "mutual"),
            ("network.peer.address", "127.0.0.1"),
        ]);
        attributes.push(pair("trama.attempt", Value::IntValue(id.into())));
        attributes.push(pair("network.peer.port", Value::IntValue(15000 + i64::from(id))));
        let (kind, parent_span_id) = (SpanKind::Client.into(), vec![9; 8]);
        let (start, end) = (start + after, start + after + MILLISECOND);
        Span {
            kind,
            parent_span_id,
            attributes,
            start_time_unix_nano: start,
            end_time_unix_nano: end,
            ..span(trace, id)
        }
    };
    let (mut failed, mut client) =
        (placed(1, "rio", "preferred", 0), placed(2, "lima", "moved", 2 * MILLISECOND));
    failed.attributes.extend(texts(&[("error.type", "connect_failed")]));
    failed.status =
        Some(SpanStatus { code: StatusCode::Error.into(), message: "nobody\u{7} listens".into() });
    client.attributes.extend(texts(&[("trama.peer.identity", &identity("shop", "orders"))]));
    let passed_over = AnyValue { value: Some(Value::StringValue("rio: tried".to_owned())) };
    let passed_over = Value::ArrayValue(ArrayValue { values: vec![passed_over] });
    client.attributes.push(pair("trama.regions.passed_over", passed_over));
    let mut server = Span { kind: SpanKind::Server.into(), parent_span_id: vec![2; 8], ..span(trace, 3) };
    server.attributes.extend(texts(&[("trama.direction", "inbound")]));
    server.start_time_unix_nano = client.start_time_unix_nano + MILLISECOND / 4;
    server.end_time_unix_nano = client.end_time_unix_nano;
    for span in [&mut client, &mut server] {
        span.attributes.push(pair("http.response.status_code", Value::IntValue(200)));
    }
    ([failed, client], server)
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
async fn traces_are_listed_by_what_is_asked_of_them_the_newest_first() {
    let control = ControlPlane::start().await;
    let storefront = control.joined("shop", "storefront").await;
    let mut sender = Sender::of(&control, &storefront).await;
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    sender.good(moved(1, now - 7200 * 1_000_000_000).0.to_vec()).await;
    sender.good(vec![span(2, 1), span(2, 2)]).await;
    sender.good(vec![Span { start_time_unix_nano: now, end_time_unix_nano: now + 9, ..span(3, 1) }]).await;

    let run = async |line: &str| control.tramactl(Path::new("/"), &format!("trace list {line}")).await;
    let listed = async |line: &str| {
        let listed: Json = serde_json::from_str(&run(&format!("{line} -o json")).await.done()).unwrap();
        let traces = listed["traces"].as_array().unwrap().iter();
        let ids: String =
            traces.map(|trace| trace["trace"].as_str().unwrap().trim_start_matches('0')).collect();
        (ids, listed["nextPage"].as_str().unwrap_or_default().to_owned())
    };
    for (line, ids) in [
        ("", "321"),
        ("--service shop/orders --route shop/orders/all", "1"),
        ("--service orders", ""),
        ("--region lima --status 200", "1"),
        ("--region rio --status 200", ""),
        ("--failed", "1"),
        ("--reason connect_failed", "1"),
        ("--min-duration 1ms", "21"),
        ("--since 1h", "3"),
        ("--since 3h --until 1h", "1"),
    ] {
        assert_eq!(listed(line).await, (ids.to_owned(), String::new()), "{line}");
    }
    let (first, next) = listed("--limit 2").await;
    assert_eq!(first, "32");
    assert_eq!(listed(&format!("--limit 2 --page {next}")).await, ("1".to_owned(), String::new()));
    assert!(
        run("--limit 1")
            .await
            .done()
            .ends_with(&format!("\nthere are more: --page {}\n", listed("--limit 1").await.1))
    );
    assert!(run("--page 1").await.failed(3).contains("page_token"));

    let table = run("--failed").await.done();
    let rows: Vec<Vec<_>> = table
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(
        rows[0],
        ["TRACE", "BEGAN", "TOOK", "REQUEST", "SERVICE", "ROUTE", "STATUS", "REGIONS", "SPANS", "FAILURES"]
    );
    let (id, regions) = (format!("{:032x}", 1), "lima, rio");
    assert_eq!(
        (rows[1][0], &rows[1][2..]),
        (
            &*id,
            &["3.0 ms", "GET", "shop/orders", "shop/orders/all", "200", regions, "2", "connect_failed"][..]
        )
    );
    assert!(run("--region quito").await.done().starts_with("no such trace is kept; "));
}

#[tokio::test]
async fn a_trace_is_shown_as_the_tree_that_all_its_sidecars_have_told() {
    let control = ControlPlane::start().await;
    let (attempts, server) = moved(1, BEGAN);
    for (account, region, spans) in
        [("orders", "lima", vec![server]), ("storefront", "rio", attempts.to_vec())]
    {
        let workload = control.joined("shop", account).await;
        let resource = [("cloud.region", region), ("service.name", account)];
        let refused = Sender::of(&control, &workload).await.send(&resource, spans).await.unwrap();
        assert_eq!(refused.rejected_spans, 0);
    }
    let run = async |line: &str| control.tramactl(Path::new("/"), &format!("trace show {line}")).await;
    let id = format!("{:032x}", 1);
    assert_eq!(run(&id).await.done(), SHOWN);
    let shown: Json = serde_json::from_str(&run(&format!("{id} -o json")).await.done()).unwrap();
    assert_eq!(
        (&shown["trace"], &shown["absent"][0]),
        (&Json::from(id.as_str()), &Json::from("09".repeat(8)))
    );
    let [failed, client, server] = &shown["spans"].as_array().unwrap()[..] else { panic!("{shown:#}") };
    assert_eq!((&failed["attempt"], &failed["to"]["why"]), (&Json::from(1), &Json::from("preferred")));
    assert_eq!((&failed["reason"], &failed["failed"]), (&Json::from("connect_failed"), &Json::from(true)));
    assert_eq!(
        (&client["attempt"], &client["to"]["passedOver"][0]),
        (&Json::from(2), &Json::from("rio: tried"))
    );
    assert_eq!((&server["depth"], &server["parent"]), (&Json::from(1), &client["id"]));
    assert_eq!(
        (&server["identity"], &server["region"]),
        (&Json::from(identity("shop", "orders")), &Json::from("lima"))
    );
    assert_eq!(server["attributes"]["http.response.status_code"], 200);
    let yaml = run(&format!("{id} -o yaml")).await.done();
    assert!(yaml.contains("\n  kind: server\n") && yaml.contains("\n  id: \"0303030303030303\"\n"), "{yaml}");

    let other = format!("{:032X}", 0xabc);
    let told = run(&other).await.failed(4);
    for part in [
        &other.to_lowercase(),
        "at most (`traces.window`",
        "3600s",
        "the oldest came ",
        "policy has 0 % traced",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let telemetry =
        "kind: Telemetry\nmetadata: { name: mesh }\nspec: { tracing: { samplingPercent: 2.5 } }\n";
    control.apply(telemetry).await.unwrap();
    assert!(run(&other).await.failed(4).contains("policy has 2.5 % traced (`tracing.samplingPercent`"));
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
async fn spans_are_sent_on_to_a_receiver_of_opentelemetrys_own_with_their_writer() {
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

/// A receiver of OTLP over HTTP, as far as a connection of HTTP/2 goes.
fn over_http() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // Whoever is gone by then needs no answer.
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    address
}

#[tokio::test]
async fn a_receiver_that_speaks_something_else_is_told_of_with_what_is_spoken() {
    let control = ControlPlane::spawn_with(&forward(&format!("http://{}", over_http()), "")).await;
    let orders = control.joined("shop", "orders").await;
    Sender::of(&control, &orders).await.good(vec![span(1, 1)]).await;
    reaches(&control, "trama_control_spans_lost_total{reason=\"refused\"}", 1.0).await;
    let hint = "it does not speak OTLP over gRPC, which most receivers have on port 4317";
    let told = || async { control.log().contains(hint).then_some(()) };
    until("the log's line", told).await;
}
