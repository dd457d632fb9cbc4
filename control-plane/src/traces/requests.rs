//! What a trace says of its requests: each one's route, its attempts, and why they went where they went. Pure.
//!
//! The calling side writes a CLIENT span for each attempt, all with the same parent, and numbers them from 1; the called side
//! writes a SERVER span whose parent is the attempt's.

use std::collections::{BTreeMap, btree_map::Entry};

use trama_proto::{
    admin::v1::{
        ExplainedTrace, PassedOver, RejectedRule, Trace, TraceSpan, TracedAttempt, TracedRequest,
        TracedService, trace_span::Kind,
    },
    span::{self, key},
};

/// What the spans of a trace say. They come in the order of their beginnings.
pub(crate) fn explained(Trace { id, spans }: Trace) -> ExplainedTrace {
    let mut servers: BTreeMap<&str, &TraceSpan> = BTreeMap::new();
    let mut alone = Vec::new();
    let clients: Vec<_> = spans.iter().filter(|span| span.kind() == Kind::Client).collect();
    for server in spans.iter().filter(|span| span.kind() == Kind::Server) {
        let Some(caller) = clients.iter().find(|client| client.id == server.parent) else {
            alone.push(received(server));
            continue;
        };
        match servers.entry(&server.parent) {
            Entry::Vacant(free) => drop(free.insert(server)),
            // Anybody can say so; the caller has seen the certificate of one.
            Entry::Occupied(mut taken) => {
                let called = caller.text(key::PEER_IDENTITY) == server.identity;
                alone.push(received(if called { taken.insert(server) } else { server }));
            }
        }
    }
    let mut requests: Vec<Gathering<'_>> = Vec::new();
    for span in clients {
        let attempt = attempt(span, servers.get(span.id.as_str()).copied());
        // The earliest that waits for just this attempt: an application may send several at once.
        let begun = requests.iter_mut().find(|request| request.goes_on_with(span, attempt.number));
        match begun {
            Some(request) => request.add(span, attempt),
            None => requests.push(Gathering::new(span, attempt)),
        }
    }
    let mut requests: Vec<_> = requests.into_iter().map(|gathering| gathering.request).chain(alone).collect();
    requests.sort_by_key(|request| request.start);
    ExplainedTrace { id, requests }
}

/// A request as its attempts come.
struct Gathering<'s> {
    first: &'s TraceSpan,
    last: u32,
    request: TracedRequest,
}

impl<'s> Gathering<'s> {
    fn new(first: &'s TraceSpan, attempt: TracedAttempt) -> Self {
        let request = TracedRequest {
            identity: first.identity.clone(),
            workload: first.workload.clone(),
            region: first.region.clone(),
            duration: first.duration,
            ..described(first)
        };
        let mut gathering = Self { first, last: 0, request };
        gathering.add(first, attempt);
        gathering
    }

    fn goes_on_with(&self, span: &TraceSpan, number: u32) -> bool {
        let same = |key| self.first.text(key) == span.text(key);
        self.last.checked_add(1) == Some(number)
            && number > 1
            && (&self.first.parent, &self.first.identity) == (&span.parent, &span.identity)
            && [key::SERVICE, key::HTTP_METHOD, key::URL_PATH].into_iter().all(same)
    }

    fn add(&mut self, span: &TraceSpan, attempt: TracedAttempt) {
        let TracedRequest { start, duration, .. } = &mut self.request;
        *duration = (*duration).max(span.start.saturating_add(span.duration).saturating_sub(*start));
        self.last = attempt.number;
        self.request.attempts.push(attempt);
    }
}

/// One whose sending no sidecar tells of.
fn received(server: &TraceSpan) -> TracedRequest {
    TracedRequest { duration: server.duration, served: Some(served(server)), ..described(server) }
}

fn described(span: &TraceSpan) -> TracedRequest {
    let text = |key| span.text(key).to_owned();
    TracedRequest {
        service: text(key::SERVICE),
        route: text(key::ROUTE),
        revision: text(key::REVISION),
        method: text(key::HTTP_METHOD),
        path: text(key::URL_PATH),
        start: span.start,
        rejected: span.texts(key::ROUTES_REJECTED).iter().map(|told| rejected(told)).collect(),
        rejected_left_out: number(span, key::ROUTES_LEFT_OUT),
        ..TracedRequest::default()
    }
}

fn rejected(told: &str) -> RejectedRule {
    let (rule, why) = span::read_not_chosen(told);
    RejectedRule { rule: rule.to_owned(), why: why.to_owned() }
}

fn passed_over(told: &str) -> PassedOver {
    let (region, why) = span::read_region_passed_over(told);
    PassedOver { region: region.to_owned(), why: why.to_owned() }
}

fn attempt(span: &TraceSpan, server: Option<&TraceSpan>) -> TracedAttempt {
    let text = |key| span.text(key).to_owned();
    TracedAttempt {
        number: number(span, key::ATTEMPT),
        span: span.id.clone(),
        region: text(key::REGION),
        why: text(key::REGION_WHY),
        passed_over: span.texts(key::REGIONS_PASSED_OVER).iter().map(|told| passed_over(told)).collect(),
        endpoint: span.peer(),
        identity: text(key::PEER_IDENTITY),
        start: span.start,
        duration: span.duration,
        status: number(span, key::HTTP_STATUS),
        failed: span.failed,
        reason: text(key::ERROR_TYPE),
        failure: span.failure.clone(),
        served: server.map(served),
    }
}

fn served(server: &TraceSpan) -> TracedService {
    TracedService {
        identity: server.identity.clone(),
        workload: server.workload.clone(),
        region: server.region.clone(),
        duration: server.duration,
        status: number(server, key::HTTP_STATUS),
        reason: server.text(key::ERROR_TYPE).to_owned(),
    }
}

/// What is no number here, is none that a sidecar would write.
fn number(span: &TraceSpan, key: &str) -> u32 {
    span.number(key).and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use trama_proto::admin::v1::{Attribute, TextList, attribute::Value};

    use super::*;

    fn attribute(key: &str, value: Value) -> Attribute {
        Attribute { key: key.to_owned(), value: Some(value) }
    }

    fn span(id: &str, parent: &str, start: u64, kind: Kind, path: &str) -> TraceSpan {
        TraceSpan {
            id: id.to_owned(),
            parent: parent.to_owned(),
            kind: kind.into(),
            identity: "storefront".to_owned(),
            start,
            duration: 10,
            attributes: vec![
                attribute("trama.service", Value::Text("shop/orders".to_owned())),
                attribute("url.path", Value::Text(path.to_owned())),
            ],
            ..TraceSpan::default()
        }
    }

    fn client(id: &str, number: i64, start: u64, path: &str) -> TraceSpan {
        let mut span = span(id, "caller", start, Kind::Client, path);
        span.attributes.push(attribute("trama.attempt", Value::Number(number)));
        span
    }

    fn told(spans: Vec<TraceSpan>) -> Vec<TracedRequest> {
        explained(Trace { id: "1".to_owned(), spans }).requests
    }

    fn attempts(request: &TracedRequest) -> Vec<(u32, &str)> {
        request.attempts.iter().map(|attempt| (attempt.number, attempt.span.as_str())).collect()
    }

    #[test]
    fn attempts_of_one_request_belong_together_and_those_of_others_do_not() {
        let mut other = client("o", 2, 22, "/a");
        other.identity = "basket".to_owned();
        let requests = told(vec![
            client("a1", 1, 10, "/a"),
            client("b1", 1, 11, "/a"),
            client("x1", 1, 12, "/x"),
            client("a2", 2, 20, "/a"),
            client("b2", 2, 21, "/a"),
            other,
            client("x2", 2, 30, "/x"),
        ]);
        let found: Vec<_> = requests.iter().map(attempts).collect();
        let expected: [&[_]; 4] =
            [&[(1, "a1"), (2, "a2")], &[(1, "b1"), (2, "b2")], &[(1, "x1"), (2, "x2")], &[(2, "o")]];
        assert_eq!(found, expected);
        assert_eq!((requests[2].start, requests[2].duration), (12, 28), "until its last attempt's end");
        assert_eq!((requests[0].service.as_str(), requests[0].path.as_str()), ("shop/orders", "/a"));
    }

    #[test]
    fn an_attempt_says_where_it_went_why_and_who_served_it() {
        let mut sent = client("c", 1, 10, "/a");
        let passed_over =
            TextList { texts: vec!["rio: ejected".to_owned(), "no region: residency".to_owned()] };
        let rejected = TextList { texts: vec!["shop/orders/v1: the path is `/a`".to_owned()] };
        sent.attributes.extend([
            attribute("trama.region", Value::Text("lima".to_owned())),
            attribute("trama.region.why", Value::Text("failover".to_owned())),
            attribute("trama.regions.passed_over", Value::Texts(passed_over)),
            attribute("network.peer.address", Value::Text("fd00::7".to_owned())),
            attribute("network.peer.port", Value::Number(15008)),
            attribute("trama.routes.rejected", Value::Texts(rejected)),
            attribute("trama.routes.left_out", Value::Number(3)),
            attribute("http.response.status_code", Value::Number(200)),
        ]);
        let server = TraceSpan { identity: "orders".to_owned(), ..span("s", "c", 12, Kind::Server, "/a") };
        let requests = told(vec![sent, server]);
        assert_eq!(requests.len(), 1);
        let TracedAttempt { region, why, passed_over, endpoint, status, served, .. } =
            &requests[0].attempts[0];
        assert_eq!((region.as_str(), why.as_str(), *status), ("lima", "failover", 200));
        assert_eq!(endpoint, "[fd00::7]:15008");
        let passed_over: Vec<_> =
            passed_over.iter().map(|it| (it.region.as_str(), it.why.as_str())).collect();
        assert_eq!(passed_over, [("rio", "ejected"), ("", "residency")]);
        assert_eq!(served.as_ref().unwrap().identity, "orders");
        let TracedRequest { rejected, rejected_left_out, served, .. } = &requests[0];
        assert_eq!((rejected.len(), *rejected_left_out, served), (1, 3, &None));
        assert_eq!((&*rejected[0].rule, &*rejected[0].why), ("shop/orders/v1", "the path is `/a`"));
    }

    #[test]
    fn a_request_that_no_sidecar_has_sent_is_told_by_who_served_it() {
        let requests = told(vec![span("s", "browser", 5, Kind::Server, "/a")]);
        assert_eq!((requests.len(), requests[0].attempts.len()), (1, 0));
        assert_eq!(requests[0].served.as_ref().unwrap().identity, "storefront");
        assert_eq!(requests[0].identity, "");
    }

    #[test]
    fn what_spans_lie_about_makes_no_harm() {
        let mut odd = client("c", -1, u64::MAX, "/a");
        odd.duration = 0;
        odd.attributes.push(attribute(
            "trama.regions.passed_over",
            Value::Texts(TextList { texts: vec!["rio".to_owned()] }),
        ));
        let requests = told(vec![odd]);
        assert_eq!(requests[0].attempts[0].number, 0);
        assert_eq!(requests[0].attempts[0].passed_over[0].region, "rio");

        let last = i64::from(u32::MAX);
        assert_eq!(told(vec![client("m", last, 1, "/a"), client("n", last, 2, "/a")]).len(), 2);
    }

    #[test]
    fn who_was_called_is_believed_before_others_who_say_that_they_were() {
        let mut sent = client("c", 1, 10, "/a");
        sent.attributes.push(attribute("trama.peer.identity", Value::Text("orders".to_owned())));
        let server = |identity: &str| TraceSpan {
            identity: identity.to_owned(),
            ..span(identity, "c", 12, Kind::Server, "/a")
        };
        for [first, then] in [["basket", "orders"], ["orders", "basket"]] {
            let requests = told(vec![sent.clone(), server(first), server(then)]);
            assert_eq!(requests[0].attempts[0].served.as_ref().unwrap().identity, "orders");
            assert_eq!(requests[1].served.as_ref().unwrap().identity, "basket");
        }
    }
}
