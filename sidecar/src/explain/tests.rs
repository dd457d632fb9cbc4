//! What is told of requests to one service in three regions, and that it is what becomes of them.

mod agreement;
mod comes_in;

use std::sync::atomic::Ordering::Relaxed;

use trama_proto::{
    document::Document,
    explain::v1::{
        DescribedRequest, HeaderField, Inbound, attempt::Why, considered_policy::Action, endpoint::Standing,
        outcome::Result as Ends, region::Verdict, transport, unmet::Part,
    },
};

use super::*;
use crate::config::{
    convert::{self, Extent, Local, convert_part},
    snapshot::{Cluster, UnknownDestination, state::Registry},
};

const POLICY: &str = "
kind: RegionTopology
metadata: { name: mesh }
spec:
  regions: [{ name: sao-paulo }, { name: rio }, { name: bogota }, { name: frankfurt }, { name: lima }]
  order: [{ to: [sao-paulo, rio, bogota, frankfurt, lima] }]
---
kind: Service
metadata: { name: orders, namespace: shop }
spec: { addresses: [10.96.0.10], ports: [{ port: 80, targetPort: 8080 }], outlier: { consecutiveFailures: 3 } }
---
kind: EndpointSet
metadata: { name: orders, namespace: shop }
spec:
  service: orders
  endpoints:
    - { address: 10.1.0.1, region: sao-paulo, weight: 2 }
    - address: 10.2.0.1
      region: rio
      identity: spiffe://mesh.local/ns/shop/sa/orders
      mesh: { address: '10.2.0.1:15008' }
    - { address: 10.2.0.2, region: rio, zone: b }
    - { address: 10.3.0.1, region: bogota }
    - { address: 10.4.0.1, region: frankfurt }
    - { address: 10.5.0.1, region: lima, ready: false }
---
kind: RegionalPolicy
metadata: { name: orders, namespace: shop }
spec: { service: orders, residency: { deny: [frankfurt] } }
---
kind: Route
metadata: { name: r, namespace: shop }
spec:
  parentRefs: [{ service: orders }]
  rules:
    - name: canary
      matches: [{ path: { value: /v1 }, headers: [{ name: x-canary, value: secret }] }]
      backendRefs: [{ service: v2, port: 80 }]
    - name: write
      matches: [{ path: { value: /v1 }, method: POST, queryParams: [{ name: q, value: '1' }] }]
    - name: v1
      matches: [{ path: { value: /v1 } }]
      filters:
        - urlRewrite: { hostname: inner.example, path: { replacePrefixMatch: /inner } }
        - requestHeaderModifier: { set: [{ name: x-a, value: '1' }], remove: [x-b] }
      backendRefs: [{ service: orders, port: 80, weight: 3 }, { service: v2, port: 80, weight: 1 }]
      timeouts: { request: 2s }
      retry: { attempts: 3, codes: [503], backoff: 10ms }
    - name: moved
      matches: [{ path: { type: EXACT, value: /old } }]
      filters: [{ requestRedirect: { hostname: new.example } }]
    - name: all
---
kind: Service
metadata: { name: v2, namespace: shop }
spec: { ports: [{ port: 80 }] }
---
kind: Service
metadata: { name: db, namespace: shop }
spec: { addresses: [10.96.0.20], ports: [{ port: 5432, appProtocol: TCP }] }
---
kind: EndpointSet
metadata: { name: db, namespace: shop }
spec: { service: db, endpoints: [{ address: 10.1.0.9 }, { address: 10.1.0.8 }] }
---
kind: PluginChain
metadata: { name: c, namespace: shop }
spec: { service: db, direction: OUTBOUND, filters: [{ sources: { allow: [127.0.0.0/8] } }] }
";

const NOW: Duration = Duration::from_secs(100);

pub(super) fn compiled(text: &str, extent: Extent<'_>) -> Snapshot {
    let documents = Document::parse("p.yaml", text).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let documents: Vec<_> = documents.iter().collect();
    let local = Local { namespace: "shop".to_owned(), region: "sao-paulo".to_owned() };
    let snapshot = convert_part(&documents, extent, &local, &mut Registry::default(), 1);
    snapshot.unwrap_or_else(|problems| panic!("{problems}"))
}

fn snapshot() -> Snapshot {
    compiled(POLICY, Extent::Whole)
}

fn orders(snapshot: &Snapshot) -> &Cluster {
    &snapshot.destinations.of_name(&"shop/orders".into(), 80).unwrap().cluster
}

fn described(url: &str) -> DescribedRequest {
    DescribedRequest { url: url.to_owned(), ..DescribedRequest::default() }
}

fn asked(snapshot: &Snapshot, request: &DescribedRequest) -> Explanation {
    let described = Described::read(request).unwrap_or_else(|problems| panic!("{problems}"));
    let view =
        View { snapshot, loads: Loads::default(), now: NOW, incoming: None, knowledge: Knowledge::default() };
    explain(&described, view, 1)
}

fn ends(explanation: &Explanation) -> (Ends, &str) {
    let outcome = explanation.outcome.as_ref().unwrap();
    (outcome.result(), &outcome.reason)
}

fn eject(snapshot: &Snapshot, rank: usize, failures: u32, until: Duration) {
    for endpoint in &orders(snapshot).regions[rank].endpoints {
        endpoint.health.consecutive_failures.store(failures, Relaxed);
        endpoint.health.ejected_until.store(until.as_micros() as u64, Relaxed);
    }
}

#[test]
fn the_rule_is_told_with_what_the_others_miss() {
    let snapshot = snapshot();
    let explanation = asked(&snapshot, &described("http://orders.shop/v1/a?q=2"));
    let routing = explanation.routing.as_ref().unwrap();
    let told: Vec<_> = routing
        .matches
        .iter()
        .map(|it| {
            let unmet: Vec<_> = it.unmet.iter().map(|unmet| (unmet.part(), &*unmet.name)).collect();
            (&*it.rule, &*it.path, it.chosen, unmet, &*it.outranked)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("shop/r/moved", "= /old", false, vec![(Part::Path, "")], ""),
            ("shop/r/write", "/v1/*", false, vec![(Part::Method, ""), (Part::Query, "q")], ""),
            ("shop/r/canary", "/v1/*", false, vec![(Part::Header, "x-canary")], ""),
            ("shop/r/v1", "/v1/*", true, vec![], ""),
            ("shop/r/all", "/*", false, vec![], "the chosen one has a more specific path"),
        ]
    );
    assert_eq!((&*routing.new_host, &*routing.new_path), ("inner.example", "/inner/a?q=2"));
    assert_eq!(explanation.rule_filters[0].does, "sets x-a; removes x-b");
    let shares: Vec<_> = explanation.backends.iter().map(|it| (&*it.service, it.share, it.chosen)).collect();
    assert_eq!(shares, [("shop/orders", 0.75, true), ("shop/v2", 0.25, false)]);
    assert!(!explanation.to_string().contains("secret"), "values of headers are not told");
}

#[test]
fn each_region_has_its_reason() {
    let snapshot = snapshot();
    eject(&snapshot, 0, 3, NOW + Duration::from_secs(7));
    let explanation = asked(&snapshot, &described("http://orders.shop/v1"));
    let regions: Vec<_> = explanation.regions.iter().map(|it| (&*it.name, it.verdict(), &*it.why)).collect();
    assert_eq!(
        regions,
        [
            ("sao-paulo", Verdict::Unusable, "its only endpoint is ejected for another 7.0 s"),
            ("rio", Verdict::Chosen, "the first with an endpoint to use"),
            ("bogota", Verdict::NotNeeded, "a region before it has an endpoint to use"),
            ("frankfurt", Verdict::Residency, "the service's residency forbids it"),
            ("lima", Verdict::NoReadyEndpoint, "it has no ready endpoint"),
        ]
    );
    let ejected = &explanation.regions[0].endpoints[0];
    assert_eq!((ejected.standing(), ejected.consecutive_failures), (Standing::Ejected, 3));
    let rio = &explanation.regions[1].endpoints;
    assert!(rio.iter().all(|it| !it.decision.is_empty()), "the pair was compared: {rio:#?}");
    assert_eq!(rio.iter().filter(|it| it.decision.starts_with("chosen")).count(), 1);
    // Two that cannot be reached are enough of a region, and the ejected one comes last of all.
    let attempts: Vec<_> = explanation.attempts.iter().map(|it| (&*it.region, it.why())).collect();
    assert_eq!(attempts[..3], [("rio", Why::Failover), ("rio", Why::Failover), ("bogota", Why::Moved)]);
    assert_eq!(explanation.attempts.len(), 4);
    assert!(explanation.attempts[1].after.is_some() && explanation.attempts[2].after.is_none());
    assert_eq!(explanation.retries.as_ref().unwrap().end, "the rule allows 3 retries");
}

#[test]
fn probation_and_panic_are_told() {
    let snapshot = snapshot();
    eject(&snapshot, 0, 3, Duration::ZERO);
    let described = Described::read(&described("http://orders.shop/v1")).unwrap();
    let mut loads = Loads::default();
    let endpoint = &orders(&snapshot).regions[0].endpoints[0];
    let explained = |loads: &Loads| {
        let view = View {
            snapshot: &snapshot,
            loads: loads.clone(),
            now: NOW,
            incoming: None,
            knowledge: Knowledge::default(),
        };
        explain(&described, view, 1)
    };
    let explanation = explained(&loads);
    assert_eq!(explanation.regions[0].verdict(), Verdict::Chosen, "one request at a time is let there");
    assert_eq!(explanation.regions[0].endpoints[0].standing(), Standing::OnProbation);
    loads.observe(endpoint, crate::balance::Event::Started, NOW);
    let explanation = explained(&loads);
    let why = "its only endpoint is on probation with a request under way";
    assert_eq!((explanation.regions[0].verdict(), &*explanation.regions[0].why), (Verdict::Unusable, why));
    assert_eq!(explanation.regions[0].endpoints[0].outstanding, 1);
    for rank in 0..3 {
        eject(&snapshot, rank, 3, NOW + Duration::from_secs(1));
    }
    let explanation = explained(&loads);
    let why = "everything everywhere is ejected, and any is better than none";
    assert_eq!((explanation.regions[0].verdict(), &*explanation.regions[0].why), (Verdict::Chosen, why));
    assert_eq!(explanation.attempts[0].why(), Why::Panic);
}

#[test]
fn the_way_there_is_told_with_who_must_answer() {
    let snapshot = snapshot();
    eject(&snapshot, 0, 3, NOW * 2);
    let ways: Vec<_> = (0..20)
        .map(|draw| {
            let described = Described::read(&described("http://orders.shop/other")).unwrap();
            let view = View {
                snapshot: &snapshot,
                loads: Loads::default(),
                now: NOW,
                incoming: None,
                knowledge: Knowledge::default(),
            };
            explain(&described, view, draw).transport.unwrap()
        })
        .collect();
    let mesh = ways.iter().find(|way| way.kind() == transport::Kind::Mesh).unwrap();
    assert_eq!((&*mesh.address, &*mesh.protocol), ("10.2.0.1:15008", "HTTP/2"));
    assert_eq!(mesh.identity, "spiffe://mesh.local/ns/shop/sa/orders");
    assert_eq!(mesh.server_name, "8080.orders.shop");
    let plain = ways.iter().find(|way| way.kind() == transport::Kind::Plain).unwrap();
    assert_eq!((&*plain.address, &*plain.protocol), ("10.2.0.2:8080", "HTTP/1.1"));
}

#[test]
fn an_answer_of_the_sidecars_own_ends_it() {
    let snapshot = snapshot();
    let explanation = asked(&snapshot, &described("http://orders.shop/old"));
    assert_eq!(ends(&explanation), (Ends::Answered, ""));
    let outcome = explanation.outcome.as_ref().unwrap();
    assert_eq!((outcome.status, &*outcome.location), (302, "http://new.example/old"));
    assert!(explanation.regions.is_empty() && explanation.attempts.is_empty());

    let canary = HeaderField { name: "x-canary".to_owned(), value: "secret".to_owned() };
    let request = DescribedRequest { headers: vec![canary], ..described("http://orders.shop/v1") };
    let explanation = asked(&snapshot, &request);
    assert_eq!(ends(&explanation), (Ends::Refused, "no_endpoint"), "v2 has none");
    assert_eq!(explanation.backends[0].service, "shop/v2");

    let explanation = asked(&snapshot, &described("http://nobody.shop/"));
    assert_eq!(ends(&explanation), (Ends::Refused, "unknown_authority"));
    let destination = explanation.destination.unwrap();
    assert_eq!(destination.by, "no policy has the authority nobody.shop");

    orders(&snapshot).state.requests.store(16_384, Relaxed);
    let explanation = asked(&snapshot, &described("http://orders.shop/v1"));
    assert_eq!(ends(&explanation), (Ends::Refused, "circuit_open"));
}

#[test]
fn an_address_decides_whatever_the_host_says() {
    let mut snapshot = snapshot();
    let at =
        |address: &str| DescribedRequest { address: address.to_owned(), ..described("http://x.example/v1") };
    let explanation = asked(&snapshot, &at("10.96.0.10:80"));
    assert_eq!(explanation.destination.as_ref().unwrap().service, "shop/orders");
    assert_eq!(ends(&explanation), (Ends::Forwarded, ""));

    let explanation = asked(&snapshot, &at("10.2.0.2:8080"));
    assert_eq!(explanation.destination.as_ref().unwrap().endpoint, "10.2.0.2:8080");
    assert_eq!(explanation.attempts[0].why(), Why::Meant);
    assert_eq!(explanation.routing.as_ref().unwrap().rule, "shop/r/v1", "its time-outs and filters hold");

    assert_eq!(ends(&asked(&snapshot, &at("10.9.9.9:80"))), (Ends::PassedThrough, ""));
    snapshot.mesh.unknown = UnknownDestination::Refuse;
    assert_eq!(ends(&asked(&snapshot, &at("10.9.9.9:80"))), (Ends::Refused, "destination_refused"));
}

#[test]
fn bytes_have_no_routes_and_filters_see_where_they_come_from() {
    let snapshot = snapshot();
    let at = |source: &str| DescribedRequest {
        address: "10.96.0.20:5432".to_owned(),
        source: source.to_owned(),
        ..described("/")
    };
    let explanation = asked(&snapshot, &at("127.0.0.1"));
    assert_eq!(ends(&explanation), (Ends::Forwarded, ""));
    assert_eq!(
        (explanation.attempts.len(), explanation.transport.as_ref().unwrap().protocol.as_str()),
        (3, "TCP")
    );
    assert!(explanation.routing.is_none() && explanation.retries.is_none());
    let explanation = asked(&snapshot, &at("10.0.0.1"));
    assert_eq!(ends(&explanation), (Ends::Refused, "denied"));
    assert_eq!(explanation.service_filters[0].does, "10.0.0.1 may not connect");
}

#[test]
fn what_is_known_by_name_only_is_not_guessed() {
    let snapshot = compiled(POLICY, Extent::Part(&convert::Part::default()));
    let explanation = asked(&snapshot, &described("http://orders.shop/v1"));
    assert_eq!(ends(&explanation), (Ends::Undecided, "service_pending"));
    assert!(explanation.routing.is_none());
}

#[test]
fn a_budget_that_is_spent_ends_the_attempts() {
    let snapshot = snapshot();
    let state = &orders(&snapshot).state;
    state.retry_refilled.store(NOW.as_micros() as u64, Relaxed);
    let explanation = asked(&snapshot, &described("http://orders.shop/v1"));
    let retries = explanation.retries.as_ref().unwrap();
    assert_eq!((retries.budget, explanation.attempts.len()), (0, 1));
    assert_eq!(retries.end, "the service's retry budget is spent");
    assert_eq!(state.retry_tokens.load(Relaxed), 0, "nothing is earned or spent by asking");
}

#[test]
fn what_is_no_request_is_told_by_field() {
    let request = DescribedRequest {
        url: "ftp://orders.shop/".to_owned(),
        address: "orders:80".to_owned(),
        listener: String::new(),
        method: "GE T".to_owned(),
        headers: vec![HeaderField { name: "x y".to_owned(), value: "1".to_owned() }],
        version: "HTTP/3".to_owned(),
        source: "here".to_owned(),
        draw: None,
        worker: 0,
        inbound: Some(Inbound { application: "8080".to_owned(), caller: "orders".to_owned() }),
    };
    let problems = Described::read(&request).unwrap_err();
    let fields: Vec<_> = problems.0.iter().map(|it| (&*it.field, &*it.value)).collect();
    assert_eq!(
        fields,
        [
            ("address", "\"orders:80\""),
            ("address", "\"orders:80\""),
            ("inbound.caller", "\"orders\""),
            ("inbound.application", "\"8080\""),
            ("url", "\"ftp://orders.shop/\""),
            ("method", "\"GE T\""),
            ("version", "\"HTTP/3\""),
            ("headers[0].name", "\"x y\""),
            ("source", "\"here\""),
        ]
    );
    for (request, field) in [
        (described(""), "url"),
        (described("/v1"), "url"),
        (DescribedRequest { listener: "orders".to_owned(), ..described("http://o/") }, "listener"),
        (
            DescribedRequest {
                listener: "shop/orders:80".to_owned(),
                address: "10.0.0.1:80".to_owned(),
                ..described("http://o/")
            },
            "listener",
        ),
    ] {
        let problems = Described::read(&request).unwrap_err();
        assert_eq!((problems.0.len(), &*problems.0[0].field), (1, field), "{request:?}: {problems}");
    }
}

const AUTHZ: &str = "
kind: Service
metadata: { name: orders, namespace: shop }
spec: { ports: [{ port: 80, targetPort: 8080 }, { port: 90, targetPort: 9090 }] }
---
kind: EndpointSet
metadata: { name: orders, namespace: shop }
spec: { service: orders, endpoints: [{ address: 10.1.0.1 }] }
---
kind: AuthzPolicy
metadata: { name: a-audit, namespace: shop }
spec: { service: orders, action: DENY, enforcement: AUDIT, rules: [{ methods: [PUT] }] }
---
kind: AuthzPolicy
metadata: { name: b-admin, namespace: shop }
spec: { service: orders, action: DENY, rules: [{ paths: [/admin*], ports: [9090] }, { paths: [/admin*] }] }
---
kind: AuthzPolicy
metadata: { name: c-shop, namespace: shop }
spec: { service: orders, action: ALLOW, rules: [{ identities: ['spiffe://mesh.local/ns/shop/*'] }] }
";

/// What is told of a request that comes in, from an account of the shop or plainly.
fn coming_in(snapshot: &Snapshot, method: &str, url: &str, account: &str) -> Explanation {
    let caller = match account {
        "" => String::new(),
        account => format!("spiffe://mesh.local/ns/{account}"),
    };
    let inbound = Some(Inbound { application: "10.1.0.1:8080".to_owned(), caller });
    asked(snapshot, &DescribedRequest { inbound, method: method.to_owned(), ..described(url) })
}

/// Of what is not HTTP nobody knows the path: a DENY for one holds for all of it, and an ALLOW for one for nothing.
#[test]
fn who_may_open_an_opaque_connection_is_told_without_a_path() {
    let opaque = AUTHZ.replace("{ port: 80,", "{ appProtocol: TCP, port: 80,");
    for (policy, ending) in [
        (opaque.replace("ports: [9090]", "ports: [8080]"), (Ends::Refused, "authz_denied")),
        (
            opaque.replace("paths: [/admin*]", "identities: ['spiffe://mesh.local/ns/none/*']"),
            (Ends::Forwarded, ""),
        ),
        (
            opaque
                .replace("paths: [/admin*]", "identities: ['spiffe://mesh.local/ns/none/*']")
                .replace("[{ identities", "[{ paths: [/*], identities"),
            (Ends::Refused, "authz_denied"),
        ),
    ] {
        let explanation = coming_in(&compiled(&policy, Extent::Whole), "GET", "/v1", "shop/sa/a");
        assert_eq!(ends(&explanation), ending, "{explanation}");
    }
}

#[test]
fn a_request_that_comes_in_is_told_which_policy_decides_and_why() {
    let snapshot = compiled(AUTHZ, Extent::Whole);
    for (method, path, account, ending, decides, why) in [
        (
            "GET",
            "/admin/x",
            "shop/sa/a",
            (Ends::Refused, "authz_denied"),
            "shop/b-admin",
            "the DENY policy shop/b-admin matches",
        ),
        (
            "GET",
            "/v1",
            "mail/sa/b",
            (Ends::Refused, "authz_denied"),
            "shop/c-shop",
            "none of the ALLOW policies matches",
        ),
        (
            "GET",
            "/v1",
            "",
            (Ends::Refused, "authz_denied"),
            "shop/c-shop",
            "none of the ALLOW policies matches",
        ),
        (
            "GET",
            "/v1",
            "shop/sa/a",
            (Ends::Forwarded, ""),
            "shop/c-shop",
            "the ALLOW policy shop/c-shop matches",
        ),
    ] {
        let explanation = coming_in(&snapshot, method, path, account);
        assert_eq!(ends(&explanation), ending, "{explanation}");
        let told = explanation.authorization.as_ref().unwrap();
        assert_eq!((told.why.as_str(), told.would_deny.as_str()), (why, ""), "{explanation}");
        let deciding: Vec<_> =
            told.policies.iter().filter(|it| it.decides).map(|it| it.name.as_str()).collect();
        assert_eq!(deciding, [decides], "{explanation}");
    }
    let explanation = coming_in(&snapshot, "PUT", "/v1", "shop/sa/a");
    let told = explanation.authorization.as_ref().unwrap();
    assert_eq!((ends(&explanation).0, told.would_deny.as_str()), (Ends::Forwarded, "denied by shop/a-audit"));
    let audit = &told.policies[0];
    assert_eq!(
        (audit.action(), audit.enforced, audit.matches, audit.decides),
        (Action::Deny, false, true, false)
    );
    assert_eq!(
        told.policies[1].why,
        "rule 1: the port is none of its, the path is none of its; rule 2: the path is none of its"
    );
    let text = explanation.to_string();
    for line in [
        "PUT /v1 of 10.1.0.1:8080, HTTP/1.1, coming in from spiffe://mesh.local/ns/shop/sa/a for the application at 10.1.0.1:8080",
        "=> forwarded: to the application at 10.1.0.1:8080",
        "caller      the ALLOW policy shop/c-shop matches",
        "            if all policies were enforced it would be denied by shop/a-audit",
        "policies    + shop/a-audit (DENY, in AUDIT): rule 1 matches",
        "            * shop/c-shop (ALLOW): rule 1 matches",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
}

#[test]
fn without_a_policy_whoever_the_mesh_lets_come_may_call() {
    let open = compiled(
        "kind: Service\nmetadata: { name: orders, namespace: shop }\nspec: { ports: [{ port: 80 }] }\n",
        Extent::Whole,
    );
    let explanation = coming_in(&open, "GET", "/v1", "");
    assert_eq!(ends(&explanation).0, Ends::Forwarded);
    assert!(explanation.authorization.unwrap().why.starts_with("no AuthzPolicy is for this application"));
    let mut strict = open;
    strict.mesh.strict_ports = vec![8080];
    let explanation = coming_in(&strict, "GET", "/v1", "");
    assert_eq!(ends(&explanation), (Ends::Refused, "plain_refused"));
    assert_eq!(explanation.authorization, None);
    assert_eq!(ends(&coming_in(&strict, "GET", "/v1", "shop/sa/a")).0, Ends::Forwarded);
}
