//! What is explained is what becomes of the request: any policy, any request, sent through a real worker whose endpoints
//! all refuse connections.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use arc_swap::ArcSwap;
use http::Request;
use proptest::prelude::*;
use tokio::task::LocalSet;
use trama_proto::explain::v1::{ConsideredMatch, DescribedRequest, HeaderField, Routing};

use super::{super::*, compiled};
use crate::{
    config::{
        convert::Extent,
        snapshot::{FilterChain, FilterSpec, HeaderModifier},
    },
    drain::Drain,
    filter::{Action, Chain, Context, Filter, Phases},
    http::{Handler, body::Body, interim::Interim},
    outbound::tests::{connection, settings},
    telemetry::{LogOutput, Record, TelemetryConfig, TelemetryHub},
    upstream::Certificates,
    worker::{Ejections, Needs, Shared, Worker},
};

/// Some rules of one route, some requests, and how the regions stand.
#[derive(Clone, Debug)]
struct Case {
    rules: [Vec<String>; 3],
    /// The weights of the endpoints by region, and whether each is ejected.
    regions: [Vec<(u32, bool)>; 3],
    order: [usize; 3],
    denied: Option<usize>,
    budget: (u32, u32),
    sets_header: bool,
    request: DescribedRequest,
    seed: u64,
}

const HOSTNAMES: [&str; 3] = ["", "hostnames: [a.example], ", "hostnames: ['*.example'], "];

fn rule() -> impl Strategy<Value = String> {
    let path = prop_oneof![
        3 => "(/[ab]{0,1}){1,3}".prop_map(|path| format!("path: {{ value: {path} }}, ")),
        1 => "(/[ab]{1,1}){1,2}".prop_map(|path| format!("path: {{ type: EXACT, value: {path} }}, ")),
        1 => "/[ab]".prop_map(|path| format!("path: {{ type: REGULAR_EXPRESSION, value: '{path}+' }}, ")),
    ];
    let method = prop_oneof![Just(""), Just("method: GET, "), Just("method: POST, ")];
    let header = prop_oneof![3 => Just(""), 1 => Just("headers: [{ name: x-a, value: '1' }], ")];
    let query = prop_oneof![3 => Just(""), 1 => Just("queryParams: [{ name: q, value: '1' }], ")];
    let leads = prop_oneof![
        3 => Just("backendRefs: [{ service: orders, port: 80, weight: 2 }, { service: v2, port: 80 }]"),
        2 => Just("filters: [{ requestHeaderModifier: { set: [{ name: x-a, value: '1' }] } }]"),
        1 => Just("filters: [{ urlRewrite: { path: { replaceFullPath: /new } } }]"),
        1 => Just("filters: [{ requestRedirect: { hostname: new.example } }]"),
        1 => Just("backendRefs: [{ service: none, port: 80 }]"),
    ];
    let attempts = 0..5_u32;
    (path, method, header, query, leads, attempts).prop_map(
        |(path, method, header, query, leads, attempts)| {
            format!(
                "{{ matches: [{{ {path}{method}{header}{query} }}], {leads}, retry: {{ attempts: {attempts}, \
                 backoff: 1ms }} }}"
            )
        },
    )
}

fn request() -> impl Strategy<Value = DescribedRequest> {
    let host = prop_oneof![
        4 => Just("orders.shop"),
        2 => Just("a.example"),
        2 => Just("b.example"),
        1 => Just("V2.shop"),
        1 => Just("unknown.example"),
    ];
    let meant = prop_oneof![
        4 => Just(("", "")),
        2 => Just(("10.96.0.10:80", "")),
        1 => Just(("127.77.0.1:1", "")),
        1 => Just(("", "shop/orders:80")),
    ];
    let method = prop_oneof![Just("GET"), Just("POST"), Just("CONNECT")];
    let version = prop_oneof![Just("HTTP/1.1"), Just("HTTP/2")];
    (host, meant, "(/[ab]{0,1}){1,3}", prop::bool::ANY, prop::bool::ANY, method, version).prop_map(
        |(host, (address, listener), path, query, header, method, version)| DescribedRequest {
            url: format!("http://{host}{path}{}", if query { "?q=1" } else { "" }),
            address: address.to_owned(),
            listener: listener.to_owned(),
            method: method.to_owned(),
            headers: if header { vec![field("x-a", "1")] } else { Vec::new() },
            version: version.to_owned(),
            ..DescribedRequest::default()
        },
    )
}

fn field(name: &str, value: &str) -> HeaderField {
    HeaderField { name: name.to_owned(), value: value.to_owned() }
}

fn case() -> impl Strategy<Value = Case> {
    let rules = || prop::collection::vec(rule(), 0..5);
    let region = || prop::collection::vec((1..4_u32, prop::bool::weighted(0.3)), 0..4);
    let order = Just([0, 1, 2]).prop_shuffle();
    (
        [rules(), rules(), rules()],
        [region(), region(), region()],
        order,
        prop::option::of(0..3_usize),
        prop_oneof![3 => Just((20, 10)), 1 => Just((0, 0))],
        prop::bool::ANY,
        request(),
        any::<u64>(),
    )
        .prop_map(|(rules, regions, order, denied, budget, sets_header, request, seed)| Case {
            rules,
            regions,
            order,
            denied,
            budget,
            sets_header,
            request,
            seed,
        })
}

impl Case {
    fn policy(&self) -> String {
        let region = |at: usize| format!("r{at}");
        let order: Vec<_> = self.order.iter().copied().map(region).collect();
        let residency =
            self.denied.map_or_else(String::new, |at| format!("\n  residency: {{ deny: [r{at}] }}"));
        let (percent, floor) = self.budget;
        let endpoints = |base: u8| {
            let all = self.regions.iter().enumerate().flat_map(|(region, endpoints)| {
                endpoints.iter().enumerate().map(move |(host, (weight, _))| {
                    let (region, host) = (region, host + 1);
                    // Nobody listens on port 1.
                    format!("{{ address: 127.{base}.{region}.{host}, region: r{region}, weight: {weight} }}")
                })
            });
            all.collect::<Vec<_>>().join(", ")
        };
        let header = if self.sets_header { "set: [{ name: x-a, value: '1' }]" } else { "" };
        let mut text = format!(
            "
kind: Service
metadata: {{ name: orders, namespace: shop }}
spec:
  addresses: [10.96.0.10]
  hosts: [a.example, b.example]
  ports: [{{ port: 80, targetPort: 1 }}]
  outlier: {{ consecutiveFailures: 50 }}
---
kind: Service
metadata: {{ name: v2, namespace: shop }}
spec: {{ ports: [{{ port: 80, targetPort: 1 }}] }}
---
kind: Service
metadata: {{ name: none, namespace: shop }}
spec: {{ ports: [{{ port: 80 }}] }}
---
kind: EndpointSet
metadata: {{ name: orders, namespace: shop }}
spec: {{ service: orders, endpoints: [{}] }}
---
kind: EndpointSet
metadata: {{ name: v2, namespace: shop }}
spec: {{ service: v2, endpoints: [{}] }}
---
kind: RegionalPolicy
metadata: {{ name: orders, namespace: shop }}
spec:
  service: orders
  order: [{{ to: [{}] }}]
  retryBudget: {{ percent: {percent}, minPerSecond: {floor} }}{residency}
---
kind: PluginChain
metadata: {{ name: c, namespace: shop }}
spec: {{ service: orders, direction: OUTBOUND, filters: [{{ requestHeaderModifier: {{ {header} }} }}] }}
---
kind: PluginChain
metadata: {{ name: d, namespace: shop }}
spec: {{ service: v2, direction: OUTBOUND, filters: [{{ requestHeaderModifier: {{}} }}] }}
",
            endpoints(77),
            endpoints(78),
            order.join(", "),
        );
        for (at, rules) in self.rules.iter().enumerate().filter(|(_, rules)| !rules.is_empty()) {
            let (hostnames, rules) = (HOSTNAMES[at], rules.join(", "));
            text += &format!(
                "---\nkind: Route\nmetadata: {{ name: r{at}, namespace: shop }}\nspec: {{ {hostnames}parentRefs: \
                 [{{ service: orders }}], rules: [{rules}] }}\n"
            );
        }
        text
    }
}

/// Does what a filter of the policy does, and keeps the record.
struct Witness(HeaderModifier, Rc<RefCell<Option<Record>>>);

impl Filter for Witness {
    fn name(&self) -> &'static str {
        "witness"
    }
    fn phases(&self) -> Phases {
        Phases::REQUEST_HEADERS | Phases::LOG
    }
    fn on_request_headers(&self, _: &Context, parts: &mut request::Parts) -> Action {
        self.0.apply(&mut parts.headers);
        Action::Continue
    }
    fn on_log(&self, _: &Context, record: &Record) {
        *self.1.borrow_mut() = Some(record.clone());
    }
}

const KEPT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The rules that an explanation rejects, each with why.
fn why_not(routing: Option<&Routing>) -> Vec<(String, String)> {
    let Some(Routing { matches, rule, .. }) = routing else { return Vec::new() };
    let others = matches.iter().filter(|it| it.rule != *rule);
    let why = |it: &ConsideredMatch| match it.outranked.as_str() {
        "" => it.unmet.iter().map(|unmet| unmet.why.as_str()).collect::<Vec<_>>().join("; "),
        outranked => format!("holds too, but {outranked}"),
    };
    others.map(|it| (it.rule.clone(), why(it))).collect()
}

/// Explained by a worker, and sent by its twin, which draws the same numbers.
async fn compare(case: &Case, hub: &TelemetryHub) -> Result<(), TestCaseError> {
    let snapshot = Arc::new(compiled(&case.policy(), Extent::Whole));
    let shared = Shared {
        snapshot: Arc::new(ArcSwap::new(Arc::clone(&snapshot))),
        certificates: Certificates::default(),
        needs: Needs::new().0,
        ejections: Ejections::new().0,
        drain: Drain::new().1,
        started: Instant::now(),
    };
    let [worker, twin] = [0, 1].map(|_| Worker::new(settings(), shared.clone(), hub.worker(), case.seed));
    let record = Rc::default();
    for service in ["shop/orders", "shop/v2"] {
        let service = snapshot.destinations.of_name(&service.into(), 80).unwrap();
        let ejected = case.regions.iter().flatten().map(|(_, ejected)| *ejected);
        let groups = service.cluster.regions.iter().flat_map(|group| &group.endpoints);
        for (endpoint, ejected) in groups.zip(ejected) {
            endpoint.health.ejected_until.store(if ejected { u64::MAX } else { 0 }, Relaxed);
        }
        let chain: &Arc<FilterChain> = service.filters.as_ref().unwrap();
        let Some(FilterSpec::RequestHeaders(changes)) = chain.0.first() else { panic!("{chain:?}") };
        let witness = Witness(changes.clone(), Rc::clone(&record));
        twin.chains.borrow_mut().put(chain, Chain::new(vec![Rc::new(witness)]));
    }

    let described = Described::read(&case.request).unwrap_or_else(|problems| panic!("{problems}"));
    let view = View {
        snapshot: &snapshot,
        loads: worker.loads.borrow().clone(),
        now: worker.now(),
        incoming: None,
        knowledge: Knowledge::default(),
    };
    let explanation = explain_with(&described, view, &mut || worker.draw());

    let mut request = Request::from_parts(described.head.clone(), Body::empty());
    // Its trace is kept: its record says why not the other rules.
    request.headers_mut().insert("traceparent", HeaderValue::from_static(KEPT));
    let connection = connection(twin, described.meant.clone());
    let answer = connection.handle(request, Interim::Nowhere).await.unwrap();
    let (head, body) = answer.into_parts();
    drop(body);

    let outcome = explanation.outcome.as_ref().unwrap();
    if outcome.result() == outcome::Result::PassedThrough {
        // As bytes: no request of it ever comes here.
        return Ok(());
    }
    let record: Option<Record> = record.borrow_mut().take();
    let reason = head.headers.get("trama-reason").map_or("", |reason| reason.to_str().unwrap());
    let route = record.as_ref().map_or("", |record| &record.route);
    prop_assert_eq!(explanation.routing.as_ref().map_or("", |it| &*it.rule), route);
    if let Some(record) = &record {
        let rejected = record.rejected.as_deref().cloned().unwrap_or_default();
        let rules = rejected.rules.iter().map(|it| (it.rule.to_string(), it.why.clone()));
        prop_assert_eq!(rules.collect::<Vec<_>>(), why_not(explanation.routing.as_ref()));
        prop_assert_eq!(rejected.left_out, 0);
    }
    if outcome.result() != outcome::Result::Forwarded {
        let location = head.headers.get("location").map_or("", |location| location.to_str().unwrap());
        prop_assert_eq!(
            (&*outcome.reason, outcome.status, &*outcome.location),
            (reason, u32::from(head.status.as_u16()), location)
        );
        prop_assert!(record.is_none_or(|record| record.upstream.is_none()));
        return Ok(());
    }
    let record = record.expect("what is forwarded has a service, and it a chain");
    prop_assert_eq!(reason, "connect_failed");
    prop_assert_eq!(record.attempts as usize, explanation.attempts.len());
    let last = explanation.attempts.last().unwrap();
    prop_assert_eq!(record.upstream.unwrap().to_string(), last.endpoint.as_str());
    prop_assert_eq!(&*record.peer_region, last.region.as_str());
    Ok(())
}

fn agrees(case: &Case) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let config = TelemetryConfig { access_log: LogOutput::None, ..Default::default() };
        compare(case, &TelemetryHub::start(config).unwrap()).await
    })
}

/// The third attempt has to take one of both again, which would cost the same had no time passed.
#[test]
fn of_two_that_failed_alike_the_earlier_is_taken_again() {
    let case = Case {
        rules: [vec!["{ retry: { attempts: 2, backoff: 1ms } }".to_owned()], Vec::new(), Vec::new()],
        regions: [vec![(2, false), (1, false)], Vec::new(), Vec::new()],
        order: [0, 1, 2],
        denied: None,
        budget: (20, 10),
        sets_header: false,
        request: DescribedRequest { url: "http://orders.shop/".to_owned(), ..DescribedRequest::default() },
        seed: 0,
    };
    for seed in 0..50 {
        agrees(&Case { seed, ..case.clone() }).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn what_is_explained_is_what_happens(case in case()) {
        agrees(&case)?;
    }
}
