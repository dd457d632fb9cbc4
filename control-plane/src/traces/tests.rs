//! What comes is what is found.

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, any_value::Value},
    trace::v1::{Span, Status as SpanStatus, span::SpanKind, status::StatusCode},
};
use tonic::Code;
use trama_proto::{
    admin::v1::{Attribute, TextList, attribute, trace_span},
    spiffe::SpiffeId,
};

use super::{testing::*, *};

const SECOND: u64 = 1_000_000_000;

struct Harness {
    traces: Traces,
    ending: watch::Sender<bool>,
}

fn harness(config: &config::Traces) -> Harness {
    let (ending, is_ending) = watch::channel(false);
    Harness { traces: Traces::new(config, Arc::default(), is_ending), ending }
}

impl Harness {
    fn export(&self, from: &SpiffeId, resource: &[(&str, &str)], spans: Vec<Span>) -> (i64, String) {
        let mut message = Request::new(request(resource, spans));
        message.extensions_mut().insert(Peer::proved(from.as_str(), u64::MAX));
        let partial = self.traces.export(message).unwrap().partial_success.unwrap_or_default();
        (partial.rejected_spans, partial.error_message)
    }

    fn found(&self, filter: Filter) -> Vec<String> {
        let page = self.traces.page(&filter, 100, "").unwrap();
        assert_eq!(page.next, "");
        page.traces.into_iter().map(|trace| trace.id[..2].to_owned()).collect()
    }
}

/// An attempt of a request for `shop/orders`.
fn attempt(trace: u8, id: u8, more: &[(&str, &str)], status: i64) -> Span {
    let mut attributes = texts(&[("trama.direction", "outbound"), ("trama.service", "shop/orders")]);
    attributes.extend(texts(more));
    attributes.push(pair("http.response.status_code", Value::IntValue(status)));
    let failed = SpanStatus { code: StatusCode::Error.into(), message: "refused".to_owned() };
    Span {
        kind: SpanKind::Client.into(),
        status: (status >= 500).then_some(failed),
        attributes,
        ..span(trace, id)
    }
}

fn filter() -> Filter {
    Filter::default()
}

#[test]
fn traces_are_found_by_what_one_of_their_spans_says() {
    let harness = harness(&config::Traces::default());
    let orders = sender("orders");
    let good = attempt(1, 1, &[("trama.route", "shop/orders/all"), ("trama.region", "rio")], 200);
    let failed = attempt(2, 1, &[("trama.region", "rio"), ("error.type", "connect_failed")], 503);
    let mut again = attempt(2, 2, &[("trama.region", "lima")], 200);
    again.end_time_unix_nano += SECOND;
    assert_eq!(harness.export(&orders, &[], vec![good, failed, again]), (0, String::new()));
    let inbound = Span { attributes: texts(&[("trama.direction", "inbound")]), ..span(3, 1) };
    harness.export(&orders, &[("cloud.region", "quito")], vec![inbound]);

    let text = str::to_owned;
    for (filter, found) in [
        (filter(), vec!["03", "02", "01"]),
        (Filter { service: text("shop/orders"), ..filter() }, vec!["02", "01"]),
        (Filter { route: text("shop/orders/all"), ..filter() }, vec!["01"]),
        (Filter { region: text("rio"), ..filter() }, vec!["02", "01"]),
        (Filter { region: text("quito"), ..filter() }, vec!["03"]),
        (Filter { status: 503, ..filter() }, vec!["02"]),
        (Filter { failed: true, ..filter() }, vec!["02"]),
        (Filter { reason: text("connect_failed"), ..filter() }, vec!["02"]),
        (Filter { min_duration: 2 * SECOND, ..filter() }, vec!["02"]),
        (Filter { after: 2 * SECOND, ..filter() }, vec!["03", "02"]),
        (Filter { before: 2 * SECOND, ..filter() }, vec!["01"]),
        // No one span says both.
        (Filter { region: text("lima"), failed: true, ..filter() }, vec![]),
    ] {
        assert_eq!(harness.found(filter.clone()), found, "{filter:?}");
    }
}

#[test]
fn pages_follow_each_other_while_traces_come() {
    let harness = harness(&config::Traces::default());
    let orders = sender("orders");
    harness.export(&orders, &[], (1..=5).map(|trace| span(trace, 1)).collect());
    let ids = |page: &Page| page.traces.iter().map(|trace| trace.id[..2].to_owned()).collect::<Vec<_>>();
    let first = harness.traces.page(&filter(), 2, "").unwrap();
    assert_eq!(ids(&first), ["05", "04"]);
    harness.export(&orders, &[], vec![span(6, 1)]);
    let second = harness.traces.page(&filter(), 2, &first.next).unwrap();
    assert_eq!(ids(&second), ["03", "02"]);
    let last = harness.traces.page(&filter(), 2, &second.next).unwrap();
    assert_eq!((ids(&last), last.next.as_str()), (vec!["01".to_owned()], ""));
    for bad in ["x", "1", "1-1", &format!("{:x}-", harness.traces.run)] {
        assert!(harness.traces.page(&filter(), 2, bad).is_none(), "{bad}");
    }
}

#[test]
fn a_trace_shows_who_wrote_each_span_and_all_that_it_says() {
    let harness = harness(&config::Traces::default());
    let storefront = sender("storefront");
    let mut client = attempt(1, 1, &[("error.type", "503")], 503);
    client.start_time_unix_nano += 5;
    let skipped = ["rio: ejected", "lima: residency"]
        .map(|text| AnyValue { value: Some(Value::StringValue(text.to_owned())) });
    let skipped = Value::ArrayValue(ArrayValue { values: skipped.to_vec() });
    client.attributes = vec![pair("trama.regions.skipped", skipped), pair("a", Value::DoubleValue(0.5))];
    let server = Span {
        parent_span_id: vec![1; 8],
        kind: SpanKind::Server.into(),
        start_time_unix_nano: SECOND,
        ..span(1, 2)
    };
    harness.export(&storefront, &[("service.name", "storefront"), ("cloud.region", "rio")], vec![client]);
    harness.export(&sender("orders"), &[], vec![server]);

    let trace = harness.traces.trace(&[1; 16]).unwrap();
    assert_eq!(trace.id, "01".repeat(16));
    let [server, client] = &trace.spans[..] else { panic!("{trace:?}") };
    assert_eq!((server.kind(), server.parent.as_str()), (trace_span::Kind::Server, "0101010101010101"));
    assert_eq!(server.identity, sender("orders").as_str());
    assert_eq!((client.kind(), client.parent.as_str()), (trace_span::Kind::Client, ""));
    assert_eq!((client.identity.as_str(), client.workload.as_str()), (storefront.as_str(), "storefront"));
    assert_eq!((client.region.as_str(), client.start), ("rio", SECOND + 5));
    assert_eq!((client.failed, client.failure.as_str()), (true, "refused"));
    let texts = TextList { texts: vec!["rio: ejected".into(), "lima: residency".into()] };
    let expected = [
        Attribute { key: "trama.regions.skipped".into(), value: Some(attribute::Value::Texts(texts)) },
        Attribute { key: "a".into(), value: Some(attribute::Value::Fraction(0.5)) },
    ];
    assert_eq!(client.attributes, expected);
    assert!(harness.traces.trace(&[2; 16]).is_none());
}

#[test]
fn a_request_is_told_by_its_last_attempt_and_not_by_the_next_request() {
    let harness = harness(&config::Traces::default());
    let mut start = 0;
    let mut told = |trace, parent: u8, attempts: &[(i64, i64)]| {
        let spans = attempts.iter().zip(1..).map(|((number, status), id)| {
            start += 1;
            let mut span = attempt(trace, id, &[], *status);
            span.attributes.push(pair("trama.attempt", Value::IntValue(*number)));
            Span { parent_span_id: vec![parent; 8], start_time_unix_nano: start, ..span }
        });
        harness.export(&sender("storefront"), &[], spans.collect());
        let page = harness.traces.page(&filter(), 1, "").unwrap();
        (page.traces[0].status, page.traces[0].failed)
    };
    assert_eq!(told(1, 0, &[(1, 503), (2, 502), (3, 200)]), (200, false));
    assert_eq!(told(2, 0, &[(1, 503), (2, 502)]), (502, true));
    assert_eq!(told(3, 9, &[(1, 200), (1, 503), (1, 404)]), (200, false));
    assert_eq!(told(4, 9, &[(1, 503), (2, 200), (1, 500), (2, 500)]), (200, false));
    assert_eq!(told(5, 0, &[(0, 200), (1, 503)]), (200, false));
}

#[test]
fn what_is_refused_is_told_and_not_to_be_sent_again() {
    let config = config::Traces { spans_per_second: 1, ..config::Traces::default() };
    let harness = harness(&config);
    let spans = |trace| (1..=12).map(|id| span(trace, id)).collect::<Vec<_>>();
    assert_eq!(harness.export(&sender("flood"), &[], spans(1)), (2, "refused: 2 flood".to_owned()));
    assert_eq!(harness.export(&sender("orders"), &[], spans(2)[..10].to_vec()).0, 0);
    let foreign = [("service.namespace", "bank")];
    assert_eq!(harness.export(&sender("orders"), &foreign, spans(3)), (12, "refused: 12 foreign".to_owned()));
    assert_eq!(harness.found(filter()), ["02", "01"]);
    let counted = harness.traces.metrics.scrape();
    for line in [
        "trama_control_spans_total 20",
        "trama_control_spans_refused_total{reason=\"flood\"} 2",
        "trama_control_spans_refused_total{reason=\"foreign\"} 12",
        "trama_control_traces 2",
    ] {
        assert!(counted.lines().any(|found| found == line), "{line}\nin\n{counted}");
    }
}

#[test]
fn nobody_is_let_in_without_a_certificate_or_at_the_end() {
    let harness = harness(&config::Traces::default());
    let let_in = |peer| harness.traces.let_in(peer).map(drop).map_err(|status| status.code());
    let known = Peer::proved(sender("orders").as_str(), u64::MAX);
    let expired = Peer::proved(sender("orders").as_str(), 1);
    assert_eq!(let_in(Some(&known)), Ok(()));
    let socket = Peer::of_socket();
    for peer in [None, Some(&socket), Some(&expired)] {
        assert_eq!(let_in(peer), Err(Code::Unauthenticated), "{peer:?}");
    }
    harness.ending.send_replace(true);
    assert_eq!(let_in(Some(&known)), Err(Code::Unavailable));
}
