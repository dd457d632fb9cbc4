//! Kept spans reach a receiver that is not ours by OTLP over gRPC, under the names of the semantic conventions.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: helpers outside #[test] may panic")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, Method};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use tonic::{Request, Response, Status};
use trama_sidecar::{
    config::snapshot::{Revision, TelemetrySettings},
    error::Reason,
    telemetry::{
        Direction, Format, LogOutput, Protocol, Record, Security, TelemetryConfig, TelemetryHub, TraceContext,
    },
};
use trama_tests::ports::free_port;
use trama_tests::{
    mesh::{Application, Mesh, Payload, Speaks, Where, until},
    peers::{Here, OtlpReceiver},
};

#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn receive() -> (Receiver, SocketAddr) {
    let (receiver, address) = (Receiver::default(), SocketAddr::from(([127, 0, 0, 1], free_port())));
    let service = TraceServiceServer::new(receiver.clone());
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve(address));
    (receiver, address)
}

async fn hub(receiver: SocketAddr) -> TelemetryHub {
    let config = TelemetryConfig {
        access_log: LogOutput::None,
        otlp_endpoint: Some(format!("http://{receiver}")),
        otlp_tls: None,
        service: "storefront".into(),
        namespace: "shop".into(),
        region: "sao-paulo".into(),
    };
    let until = Instant::now() + Duration::from_secs(10);
    while tokio::net::TcpStream::connect(receiver).await.is_err() && Instant::now() < until {
        tokio::task::yield_now().await;
    }
    TelemetryHub::start(config).unwrap()
}

fn record(trace: Option<TraceContext>) -> Record {
    Record {
        direction: Direction::Outbound,
        began: SystemTime::UNIX_EPOCH + Duration::from_secs(100),
        started: Instant::now(),
        first_byte: None,
        duration: Duration::from_secs(2),
        revision: Revision { number: 7, digest: 0xab },
        service: "shop/orders".into(),
        peer_service: "shop/orders".into(),
        peer_identity: None,
        route: "shop/orders/0".into(),
        rejected: None,
        peer_region: "rio-de-janeiro".into(),
        method: Some(Method::GET),
        path: Some("/v1/orders?token=secret".parse().unwrap()),
        authority: Some("orders.shop:8080".parse().unwrap()),
        protocol: Protocol::Http11,
        upstream_protocol: Some(Protocol::Http2),
        security: Security::MutualTls,
        status: 503,
        reason: Some(Reason::ConnectFailed),
        detail: None,
        would_deny: None,
        attempts: 2,
        attempt_after: Duration::from_secs(1),
        placement: None,
        downstream: Some(SocketAddr::from(([10, 0, 0, 1], 40_000))),
        upstream: Some(SocketAddr::from(([10, 0, 0, 2], 15_008))),
        bytes_received: 0,
        bytes_sent: 12,
        trace,
    }
}

const SETTINGS: TelemetrySettings = TelemetrySettings { sampling: 1.0, access_log: false };

fn item(item: &AnyValue) -> &str {
    let Some(Value::StringValue(text)) = &item.value else { panic!("{item:?}") };
    text
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.as_ref().and_then(|v| v.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::ArrayValue(array)) => array.values.iter().map(item).collect::<Vec<_>>().join(", "),
        other => panic!("{}: {other:?}", pair.key),
    };
    attributes.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

fn spans(receiver: &Receiver) -> Vec<Span> {
    let requests = receiver.0.lock().unwrap();
    let resources = requests.iter().flat_map(|r| &r.resource_spans);
    resources.flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans).cloned().collect()
}

#[tokio::test]
async fn a_kept_attempt_arrives_as_a_client_span() {
    let (receiver, address) = receive();
    let hub = hub(address).await;
    let trace = {
        let worker = hub.worker();
        let mut headers = HeaderMap::new();
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        headers.insert("traceparent", traceparent.parse().unwrap());
        let trace = worker.trace(Direction::Outbound, Security::Plain, &mut headers, &SETTINGS).unwrap();
        worker.finish(record(Some(trace)), &SETTINGS);
        worker.finish(record(Some(TraceContext { sampled: false, ..trace })), &SETTINGS);
        worker.finish(record(None), &SETTINGS);
        trace
    };
    assert!(hub.flush(Duration::from_secs(10)).await, "the spans were not sent in time");
    let spans = spans(&receiver);
    assert_eq!(spans.len(), 1, "only what is kept is sent");
    let span = &spans[0];
    assert_eq!(span.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
    assert_eq!(span.span_id, trace.span_id.to_be_bytes());
    assert_eq!(span.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!((span.kind(), span.name.as_str()), (SpanKind::Client, "GET"));
    let seconds = |nanos: u64| nanos / 1_000_000_000;
    assert_eq!((seconds(span.start_time_unix_nano), seconds(span.end_time_unix_nano)), (101, 102));
    assert_eq!(span.status.as_ref().unwrap().code(), StatusCode::Error);
    let attributes = texts(&span.attributes);
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "503"),
        ("server.address", "orders.shop"),
        ("server.port", "8080"),
        ("url.path", "/v1/orders"),
        ("network.protocol.name", "http"),
        ("network.protocol.version", "1.1"),
        ("network.peer.address", "10.0.0.2"),
        ("error.type", "connect_failed"),
        ("trama.region", "rio-de-janeiro"),
        ("trama.attempt", "2"),
        ("trama.policy.revision", "7-00000000000000ab"),
        ("trama.route", "shop/orders/0"),
    ] {
        assert_eq!(attributes.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(attributes.values().all(|value| !value.contains("secret")));
    let resource = receiver.0.lock().unwrap()[0].resource_spans[0].resource.clone().unwrap();
    assert_eq!(texts(&resource.attributes)["service.name"], "storefront");
    assert!(hub.scrape(Format::OpenMetrics).contains("trama_spans_exported_total 1\n"));
}

#[tokio::test]
async fn spans_that_nobody_takes_are_lost_and_counted() {
    let hub = {
        let otlp_endpoint = Some(format!("http://127.0.0.1:{}", free_port()));
        let config = TelemetryConfig { access_log: LogOutput::None, otlp_endpoint, ..Default::default() };
        TelemetryHub::start(config).unwrap()
    };
    {
        let worker = hub.worker();
        let context = || worker.trace(Direction::Outbound, Security::Plain, &mut HeaderMap::new(), &SETTINGS);
        worker.finish(record(context()), &SETTINGS);
        worker.retried(record(context()));
    }
    assert!(hub.flush(Duration::from_secs(20)).await);
    let text = hub.scrape(Format::OpenMetrics);
    assert!(
        text.contains("trama_spans_dropped_total 2\n") && text.contains("trama_spans_exported_total 0\n")
    );
}

#[tokio::test]
async fn spans_that_find_the_queue_full_are_lost_and_counted() {
    const QUEUE: u64 = 4096;
    const MORE: u64 = 1000;
    // Who accepts and never answers.
    let receiver = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let otlp_endpoint = Some(format!("http://{}", receiver.local_addr().unwrap()));
    let config = TelemetryConfig { access_log: LogOutput::None, otlp_endpoint, ..Default::default() };
    let hub = TelemetryHub::start(config).unwrap();
    let worker = hub.worker();
    for _ in 0..QUEUE + MORE {
        let trace = worker.trace(Direction::Outbound, Security::Plain, &mut HeaderMap::new(), &SETTINGS);
        worker.finish(record(trace), &SETTINGS);
    }
    let text = hub.scrape(Format::OpenMetrics);
    let dropped = text.lines().find_map(|line| line.strip_prefix("trama_spans_dropped_total "));
    // Nothing is awaited above, so nobody has taken one off the queue.
    assert_eq!(dropped, Some(MORE.to_string().as_str()));
}

/// Two sidecars as processes of their own, one of which fails: the spans of one request.
#[tokio::test]
async fn a_request_through_running_sidecars_is_one_trace() {
    let (receiver, address) = receive();
    let (application, seen) = Application::recording("orders");
    let telemetry =
        "kind: Telemetry\nmetadata: { name: mesh }\nspec: { tracing: { samplingPercent: 100 } }\n";
    let mesh = Mesh::builder()
        .at(Where::Processes)
        // Its sidecar finds no application: the first attempt fails, and may be made again elsewhere.
        .pod("empty", |p| p.serves("shop/orders").region("rio").spans_to(address))
        .pod("orders", |p| {
            p.serves("shop/orders").region("frankfurt").application(&application).spans_to(address)
        })
        .pod("storefront", |p| p.region("rio").spans_to(address))
        .policy(|p| {
            p.order(&["rio", "frankfurt"]);
            p.more(telemetry);
        })
        .start()
        .await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = client.request("GET", "/traced").header("traceparent", parent);
    assert_eq!(client.call(request.body(Payload::empty()).unwrap()).await.unwrap().status.as_u16(), 200);
    let spans =
        until("four spans", || async { Some(spans(&receiver)).filter(|spans| spans.len() >= 4) }).await;
    assert_eq!(spans.len(), 4, "{spans:#?}");
    let trace = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes();
    assert!(spans.iter().all(|span| span.trace_id == trace), "{spans:#?}");

    let of = |kind: SpanKind| -> Vec<&Span> { spans.iter().filter(|span| span.kind() == kind).collect() };
    let attribute = |span: &Span, name: &str| texts(&span.attributes).get(name).cloned();
    let [mut failed, mut served] = of(SpanKind::Client)[..] else { panic!("{spans:#?}") };
    if attribute(failed, "error.type").is_none() {
        std::mem::swap(&mut failed, &mut served);
    }
    assert_eq!(attribute(failed, "error.type").as_deref(), Some("application_unreachable"));
    assert_eq!(
        (attribute(failed, "trama.region").as_deref(), attribute(served, "trama.region").as_deref()),
        (Some("rio"), Some("frankfurt"))
    );
    assert_eq!(
        (attribute(served, "trama.attempt"), attribute(served, "error.type")),
        (Some("2".to_owned()), None)
    );
    let placed = |span| {
        ["trama.region.why", "trama.regions.passed_over"]
            .map(|name| attribute(span, name).unwrap_or_default())
    };
    assert_eq!(placed(failed), ["preferred", ""]);
    assert_eq!(placed(served), ["moved", "rio: tried"]);
    // Each attempt is a child of what the application said; each server's span one of the attempt that reached it.
    let caller = 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes();
    assert!([failed, served].iter().all(|span| span.parent_span_id == caller), "{spans:#?}");
    assert_ne!(failed.span_id, served.span_id);
    for attempt in [failed, served] {
        let children = of(SpanKind::Server).into_iter().filter(|span| span.parent_span_id == attempt.span_id);
        let [server] = children.collect::<Vec<_>>()[..] else { panic!("{spans:#?}") };
        assert_eq!(attribute(server, "error.type").is_some(), attempt.span_id == failed.span_id);
        if attempt.span_id == served.span_id {
            let arrived = seen.of("/traced")[0].values("traceparent")[0].to_owned();
            let id = u64::from_be_bytes(server.span_id[..].try_into().unwrap());
            assert_eq!(arrived.split('-').nth(2), Some(&*format!("{id:016x}")), "the application's parent");
        }
    }
}

/// How many requests begin a trace is policy, and changes while the sidecar runs.
#[tokio::test]
async fn a_file_that_changes_the_sampling_holds_for_the_next_requests() {
    let tracing = |percent: u8| {
        format!(
            "kind: Telemetry\nmetadata: {{ name: mesh }}\nspec: {{ tracing: {{ samplingPercent: {percent} }} }}\n"
        )
    };
    let (receiver, address) = receive();
    let mut mesh = Mesh::builder()
        .pod("orders", |p| p.serves("shop/orders").application(&Application::echo("orders")))
        .pod("storefront", |p| p.spans_to(address))
        .policy(|p| p.more(&tracing(0)))
        .start()
        .await;
    for (updates, percent, calls, traced) in
        [(1.0, 0, 5, 0), (2.0, 100, 1, 1), (3.0, 0, 5, 1), (4.0, 100, 2, 3)]
    {
        if updates > 1.0 {
            mesh.publish(|p| p.more(&tracing(percent)));
        }
        let storefront = mesh.pod("storefront");
        storefront.metric_reaches("trama_policy_updates_total", &[("result", "accepted")], updates).await;
        let mut client = storefront.http(Speaks::Http1, "orders.shop").await;
        for _ in 0..calls {
            assert_eq!(client.get("/").await.status.as_u16(), 200);
        }
        let found = || async { Some(spans(&receiver).len()).filter(|found| *found >= traced) };
        assert_eq!(until("the spans", found).await, traced, "at {percent} percent");
    }
}

/// The same to a receiver that shares no code with the sender: OpenTelemetry's own in Go, by gRPC's server in Go.
#[tokio::test]
async fn a_receiver_of_opentelemetrys_own_reads_the_same() {
    let here = Here::new().unwrap();
    let receiver = OtlpReceiver::start(&here).unwrap();
    let telemetry =
        "kind: Telemetry\nmetadata: { name: mesh }\nspec: { tracing: { samplingPercent: 100 } }\n";
    let mesh = Mesh::builder()
        .at(Where::Processes)
        .pod("orders", |p| {
            p.serves("shop/orders").application(&Application::echo("orders")).spans_to(receiver.address)
        })
        .pod("storefront", |p| p.spans_to(receiver.address))
        .policy(|p| p.more(telemetry))
        .start()
        .await;
    let mut client = mesh.pod("storefront").http(Speaks::Http1, "orders.shop").await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = client.request("POST", "/v1/orders?token=secret").header("traceparent", parent);
    assert_eq!(client.call(request.body(Payload::of("tea")).unwrap()).await.unwrap().status.as_u16(), 200);

    let spans =
        until("two spans", || async { Some(receiver.spans()).filter(|spans| spans.len() >= 2) }).await;
    // The numbers of the enumeration `SpanKind`.
    let of = |kind: u64| {
        let found = spans.iter().filter(|span| span["kind"] == kind).collect::<Vec<_>>();
        let [span] = found[..] else { panic!("kind {kind}: {spans:#?}") };
        span
    };
    let (server, client) = (of(2), of(3));
    for (span, service, parent) in [
        (client, "storefront", "00f067aa0ba902b7"),
        (server, "shop/orders", client["span_id"].as_str().unwrap()),
    ] {
        assert_eq!(span["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736", "{span:#}");
        assert_eq!(span["parent_span_id"], parent, "{span:#}");
        assert_eq!((&span["name"], &span["status"]), (&"POST".into(), &0.into()), "{span:#}");
        assert_eq!(span["resource"]["service.name"], service, "{span:#}");
        let attributes = &span["attributes"];
        assert_eq!(attributes["http.request.method"], "POST", "{span:#}");
        assert_eq!(attributes["http.response.status_code"], 200, "{span:#}");
        assert_eq!(attributes["url.path"], "/v1/orders", "{span:#}");
        assert!(!span.to_string().contains("secret"), "{span:#}");
        assert!(span["start"].as_u64().unwrap() < span["end"].as_u64().unwrap(), "{span:#}");
    }
}

/// Of requests that bring no context a share is kept, by what their traces' ids say (the low 56 bits against the threshold),
/// and all that concerns a request follows that one draw.
#[tokio::test]
async fn the_share_that_policy_says_is_kept_by_the_traces_ids() {
    const REQUESTS: usize = 1000;
    // A quarter: nine standard deviations of the number of those kept are half of it.
    const KEPT: std::ops::RangeInclusive<usize> = 125..=375;
    const THRESHOLD: u64 = 3 << 54;
    let (receiver, address) = receive();
    let (application, seen) = Application::recording("orders");
    let telemetry = "kind: Telemetry\nmetadata: { name: mesh }\nspec: { tracing: { samplingPercent: 25 } }\n";
    let mesh = Mesh::builder()
        .pod("orders", |p| p.serves("shop/orders").application(&application).spans_to(address))
        .pod("storefront", |p| p.spans_to(address))
        .policy(|p| p.more(telemetry))
        .start()
        .await;
    let mut client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
    for _ in 0..REQUESTS {
        assert_eq!(client.get("/drawn").await.status.as_u16(), 200);
    }
    let requests = seen.of("/drawn");
    assert_eq!(requests.len(), REQUESTS);
    let mut kept = BTreeMap::new();
    for request in &requests {
        let [context] = request.values("traceparent")[..] else { continue };
        let ["00", trace, parent, "03"] = context.split('-').collect::<Vec<_>>()[..] else {
            panic!("{context}")
        };
        let trace = u128::from_str_radix(trace, 16).unwrap();
        assert!(trace as u64 & ((1 << 56) - 1) >= THRESHOLD, "{context} is not of the quarter that is kept");
        kept.insert(trace.to_be_bytes().to_vec(), u64::from_str_radix(parent, 16).unwrap());
    }
    assert!(KEPT.contains(&kept.len()), "{} of {REQUESTS} are kept", kept.len());

    // Two spans for each that is kept, of either sidecar, and none for the others.
    let all = || async { Some(spans(&receiver)).filter(|spans| spans.len() >= 2 * kept.len()) };
    let spans = until("the spans", all).await;
    assert_eq!(spans.len(), 2 * kept.len());
    for span in &spans {
        let parent = kept.get(&span.trace_id).unwrap_or_else(|| panic!("a trace that is not kept: {span:?}"));
        let is_server = span.span_id == parent.to_be_bytes();
        assert_eq!(is_server, span.kind() == SpanKind::Server, "{span:?}");
    }
}
