//! Real sidecars of a real control plane: one request is one trace there, which says why it went where it went; how many
//! requests are traced is policy, and changes while they run.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use trama_proto::admin::v1::{
    Attribute, GetTraceRequest, ListTracesRequest, SidecarStatus, Trace, TraceSpan, attribute::Value,
    trace_span::Kind,
};
use trama_tests::control_plane::{ControlPlane, Pod, application, identity};
use trama_tests::mesh::until;
use trama_tests::peers::{Here, OtlpReceiver};
use trama_tests::ports::free_port;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// Two regions: the first has an endpoint at which nobody listens.
fn policy(application: u16, mesh: u16) -> String {
    let orders = identity("shop", "orders");
    let dead = free_port();
    format!(
        "kind: Service\nmetadata: {{ name: orders, namespace: shop }}\n\
         spec: {{ ports: [{{ port: 80, appProtocol: HTTP }}] }}\n---\n\
         kind: RegionTopology\nmetadata: {{ name: mesh }}\n\
         spec: {{ regions: [{{ name: rio }}, {{ name: lima }}], order: [{{ to: [rio, lima] }}] }}\n---\n\
         kind: EndpointSet\nmetadata: {{ name: orders, namespace: shop }}\nspec:\n  service: orders\n  endpoints:\n\
         \x20   - {{ address: 127.0.0.1, port: {dead}, region: rio, identity: '{orders}', mesh: {{ address: '127.0.0.1:{dead}' }} }}\n\
         \x20   - {{ address: 127.0.0.1, port: {application}, region: lima, identity: '{orders}', mesh: {{ address: '127.0.0.1:{mesh}' }} }}\n"
    )
}

fn sampling(percent: u8) -> String {
    format!(
        "kind: Telemetry\nmetadata: {{ name: mesh }}\nspec: {{ tracing: {{ samplingPercent: {percent} }} }}\n"
    )
}

/// The status that is answered to a request with these header lines; `None`: nobody answers.
fn call(pod: &Pod, headers: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", pod.listener)).ok()?;
    write!(stream, "GET /v1 HTTP/1.1\r\nhost: orders.shop\r\nconnection: close\r\n{headers}\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

async fn served(pod: &Pod, headers: &str) {
    until("an answer", || async { (call(pod, headers)? == 200).then_some(()) }).await;
}

/// The trace, once it has so many spans.
async fn trace(control: &ControlPlane, id: &str, spans: usize) -> Trace {
    until("the trace", || async {
        let request = GetTraceRequest { id: id.to_owned() };
        let trace = control.admin().await.get_trace(request).await.ok()?.into_inner();
        (trace.spans.len() >= spans).then_some(trace)
    })
    .await
}

async fn listed(control: &ControlPlane, request: ListTracesRequest) -> Vec<String> {
    let answer = control.admin().await.list_traces(request).await.unwrap().into_inner();
    answer.traces.into_iter().map(|trace| trace.id).collect()
}

fn text(span: &TraceSpan, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|Attribute { value, .. }| value.as_ref()) {
        Some(Value::Text(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Texts(list)) => list.texts.join(", "),
        None => String::new(),
        other => panic!("{key}: {other:?}"),
    }
}

#[tokio::test]
async fn a_request_through_two_sidecars_is_one_trace_that_says_why_it_went_there() {
    let here = Here::new().unwrap();
    let receiver = OtlpReceiver::start(&here).unwrap();
    let forward = format!("traces: {{ forward: {{ endpoint: 'http://{}' }} }}\n", receiver.address);
    let control = ControlPlane::spawn_with(&forward).await;
    let orders = Pod::start(&control, "orders", "lima", "").await;
    let storefront = Pod::start(&control, "storefront", "rio", "").await;
    let applied = control.apply(&policy(application(""), orders.mesh)).await.unwrap().stamp.unwrap();
    // Nothing is traced yet.
    served(&storefront, "").await;
    let context = format!("traceparent: 00-{TRACE}-{CALLER}-01\r\n");
    assert_eq!(call(&storefront, &context), Some(200));

    let trace = trace(&control, TRACE, 3).await;
    assert_eq!(trace.spans.len(), 3, "{trace:#?}");
    let of = |kind: Kind, error: bool| {
        let mut found = trace.spans.iter().filter(|span| span.kind() == kind && span.failed == error);
        let span = found.next().unwrap_or_else(|| panic!("{kind:?}: {trace:#?}"));
        assert!(found.next().is_none(), "{trace:#?}");
        span
    };
    let (failed, client, server) = (of(Kind::Client, true), of(Kind::Client, false), of(Kind::Server, false));
    for (span, who, region, parent) in [
        (failed, "storefront", "rio", CALLER),
        (client, "storefront", "rio", CALLER),
        (server, "orders", "lima", client.id.as_str()),
    ] {
        assert_eq!(span.identity, identity("shop", who), "{span:#?}");
        assert_eq!((span.region.as_str(), span.parent.as_str()), (region, parent), "{span:#?}");
        let revision = text(span, "trama.policy.revision");
        assert_eq!(revision.split('-').next().unwrap(), applied.revision.to_string(), "{span:#?}");
    }
    for (span, expected) in [
        (failed, ["1", "rio", "preferred", "", "connect_failed"]),
        (client, ["2", "lima", "moved", "rio: tried", ""]),
    ] {
        let keys =
            ["trama.attempt", "trama.region", "trama.region.why", "trama.regions.passed_over", "error.type"];
        assert_eq!(keys.map(|key| text(span, key)), expected, "{span:#?}");
        assert_eq!(text(span, "trama.service"), "shop/orders", "{span:#?}");
    }
    assert_eq!(text(client, "network.peer.port"), orders.mesh.to_string());
    assert_eq!(text(client, "trama.peer.identity"), identity("shop", "orders"));

    // Both sidecars' spans are one tree.
    let shown = control.tramactl(Path::new("/"), &format!("trace show {TRACE}")).await.done();
    let (before, served) = shown.split_once("\nclient GET, attempt 2 ").unwrap_or_else(|| panic!("{shown}"));
    assert!(
        before.contains("\nclient GET, attempt 1 ") && before.contains("   to rio (preferred), "),
        "{shown}"
    );
    let to =
        format!("\n│  to lima (moved; rio: tried), 127.0.0.1:{} of shop/orders, TLS: mutual\n", orders.mesh);
    assert!(served.contains(&to) && served.contains("\n└─ server GET  "), "{shown}");

    let all = ListTracesRequest::default;
    for request in [
        ListTracesRequest { service: "shop/orders".into(), status: 200, ..all() },
        ListTracesRequest { reason: "connect_failed".into(), failed: true, ..all() },
        ListTracesRequest { region: "lima".into(), ..all() },
    ] {
        assert!(listed(&control, request.clone()).await.contains(&TRACE.to_owned()), "{request:?}");
    }
    let whole = || async { Some(receiver.spans()).filter(|spans| spans.len() >= 3) };
    let sent_on = until("the spans at the receiver", whole).await;
    let server = sent_on.iter().find(|span| span["kind"] == 2).unwrap();
    assert_eq!(server["resource"]["trama.identity"], identity("shop", "orders"), "{server:#}");
    let moved = sent_on.iter().find(|span| span["attributes"]["trama.region.why"] == "moved").unwrap();
    assert_eq!(moved["attributes"]["trama.regions.passed_over"][0], "rio: tried", "{moved:#}");
}

#[tokio::test]
async fn how_many_requests_are_traced_is_policy_and_changes_without_a_start() {
    let control = ControlPlane::spawn().await;
    let orders = Pod::start(&control, "orders", "lima", "").await;
    let storefront = Pod::start(&control, "storefront", "rio", "").await;
    control.apply(&policy(application(""), orders.mesh)).await.unwrap();
    served(&storefront, "").await;
    let calls = |number: u32| (0..number).for_each(|_| assert_eq!(call(&storefront, ""), Some(200)));
    let all = ListTracesRequest::default;

    calls(10);
    sampled(&control, 100).await;
    calls(3);
    let three = || async { Some(listed(&control, all()).await).filter(|ids| ids.len() >= 3) };
    let traced = until("three traces", three).await;
    assert_eq!(traced.len(), 3, "those of before are none");
    for id in &traced {
        // The called side is told by its caller's sidecar.
        let spans = trace(&control, id, 2).await.spans;
        assert!(spans.iter().any(|span| span.kind() == Kind::Server), "{spans:#?}");
    }

    sampled(&control, 0).await;
    calls(10);
    sampled(&control, 100).await;
    calls(1);
    let more = || async { Some(listed(&control, all()).await).filter(|ids| ids.len() > 3) };
    assert_eq!(until("a fourth trace", more).await.len(), 4);
}

#[tokio::test]
async fn a_control_plane_that_comes_back_is_sent_spans_again_and_no_request_waits_for_it() {
    let mut control = ControlPlane::spawn().await;
    let orders = Pod::start(&control, "orders", "lima", "").await;
    let storefront = Pod::start(&control, "storefront", "rio", "").await;
    control.apply(&policy(application(""), orders.mesh)).await.unwrap();
    served(&storefront, "").await;
    sampled(&control, 100).await;
    control.kill();
    assert_eq!(call(&storefront, ""), Some(200));
    control.respawn().await;
    let found = || async {
        assert_eq!(call(&storefront, ""), Some(200));
        let ids = listed(&control, ListTracesRequest::default()).await;
        (!ids.is_empty()).then_some(())
    };
    until("a trace at the new one", found).await;
}

/// Sets the share of requests that are traced, and waits until both sidecars have it.
async fn sampled(control: &ControlPlane, percent: u8) {
    let revision = control.apply(&sampling(percent)).await.unwrap().stamp.unwrap().revision;
    for name in ["orders-1", "storefront-1"] {
        let has = |it: &SidecarStatus| {
            it.acknowledged >= revision && it.node.as_ref().is_some_and(|node| node.name == name)
        };
        control.sidecar("the sampling in force", has).await;
    }
}
