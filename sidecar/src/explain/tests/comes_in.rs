//! What is told of a request that comes in is what becomes of it: any policy, any request, through the connection of a real
//! worker whose application refuses every connection.

use std::{sync::Arc, time::Instant};

use arc_swap::ArcSwap;
use http::Request;
use http_body_util::BodyExt;
use proptest::prelude::*;
use tokio::task::LocalSet;
use trama_proto::explain::v1::{self, DescribedRequest};

use super::{super::*, compiled};
use crate::{
    config::convert::Extent,
    drain::Drain,
    http::{Abort, Handler, body::Body, fields, interim::Interim},
    inbound::tests::arrives,
    outbound::tests::settings,
    telemetry::{Format, LogOutput, TelemetryConfig, TelemetryHub},
    upstream::Certificates,
    worker::{Ejections, Needs, Settings, Shared, Worker},
};

const OWN_PORT: u16 = 15008;
const OWN_SERVICE: &str = "shop/storefront";
/// Where it comes in; nobody listens on the ports that are asked for, at either.
const CALLED: &str = "127.79.0.1";
/// To a captured address, which loopback is not.
const CAPTURED: &str = "203.0.113.1";
const LISTENS: [u8; 4] = [127, 79, 0, 2];

#[derive(Clone, Debug)]
struct Case {
    policies: Vec<String>,
    strict: bool,
    sources: bool,
    narrow: bool,
    elsewhere: bool,
    request: DescribedRequest,
}

fn authz() -> impl Strategy<Value = String> {
    let rule = {
        let identities = prop_oneof![
            2 => Just(""),
            1 => Just("identities: ['spiffe://mesh.a/ns/shop/*'], "),
            1 => Just("identities: ['spiffe://mesh.a/ns/shop/sa/a'], "),
        ];
        let methods = prop_oneof![2 => Just(""), 1 => Just("methods: [GET], ")];
        let paths = prop_oneof![2 => Just(""), 1 => Just("paths: [/a*], "), 1 => Just("paths: [/a, /b/*], ")];
        let ports = prop_oneof![3 => Just(""), 1 => Just("ports: [1], ")];
        (identities, methods, paths, ports)
            .prop_map(|(identities, methods, paths, ports)| {
                format!("{{ {identities}{methods}{paths}{ports} }}")
            })
            .prop_filter("a rule says something", |rule| rule.contains('['))
    };
    let service = prop_oneof![2 => Just("orders"), 1 => Just("storefront")];
    let action = prop_oneof![Just("ALLOW"), Just("DENY")];
    let mode = prop_oneof![2 => Just("ENFORCE"), 1 => Just("AUDIT")];
    (service, action, mode, prop::collection::vec(rule, 1..3)).prop_map(|(service, action, mode, rules)| {
        format!(
            "spec: {{ service: {service}, action: {action}, enforcement: {mode}, rules: [{}] }}",
            rules.join(", ")
        )
    })
}

fn request() -> impl Strategy<Value = DescribedRequest> {
    let caller = prop_oneof![
        3 => Just("spiffe://mesh.a/ns/shop/sa/a"),
        1 => Just("spiffe://mesh.a/ns/mail/sa/b"),
        1 => Just("spiffe://mesh.b/ns/shop/sa/a"),
        2 => Just(""),
    ];
    let port = prop_oneof![6 => Just(1), 2 => Just(2), 1 => Just(3), 1 => Just(OWN_PORT)];
    let path = prop_oneof![Just("/a"), Just("/a/x"), Just("/b/x"), Just("/c"), Just("/c/../a"), Just("/%61")];
    let method = prop_oneof![3 => Just("GET"), 2 => Just("POST"), 1 => Just("CONNECT")];
    (caller, port, path, method).prop_map(|(caller, port, path, method)| {
        let address = if caller.is_empty() { CAPTURED } else { CALLED };
        let application = format!("{address}:{port}");
        DescribedRequest {
            url: format!("http://orders.shop{path}"),
            method: method.to_owned(),
            inbound: Some(v1::Inbound { application, caller: caller.to_owned() }),
            ..DescribedRequest::default()
        }
    })
}

fn case() -> impl Strategy<Value = Case> {
    let any = prop::bool::ANY;
    let policies = prop::collection::vec(authz(), 0..4);
    (policies, any, any, any, any, request()).prop_map(
        |(policies, strict, sources, narrow, elsewhere, request)| Case {
            policies,
            strict,
            sources,
            narrow,
            elsewhere,
            request,
        },
    )
}

impl Case {
    fn policy(&self) -> String {
        let mut text = format!(
            "
kind: Service
metadata: {{ name: orders, namespace: shop }}
spec: {{ ports: [{{ port: 80, targetPort: 1 }}] }}
---
kind: EndpointSet
metadata: {{ name: orders, namespace: shop }}
spec: {{ service: orders, endpoints: [{{ address: {CALLED} }}] }}
---
kind: Service
metadata: {{ name: storefront, namespace: shop }}
spec: {{ ports: [{{ port: 80, targetPort: 1 }}] }}
---
kind: MeshSettings
metadata: {{ name: mesh }}
spec: {{ inbound: {{ strict: {} }} }}
",
            self.strict
        );
        if self.sources {
            text += "---\nkind: PluginChain\nmetadata: { name: c, namespace: shop }\nspec: { service: storefront, \
                     direction: INBOUND, filters: [{ sources: { deny: [127.0.0.1/32] } }] }\n";
        }
        for (at, spec) in self.policies.iter().enumerate() {
            text +=
                &format!("---\nkind: AuthzPolicy\nmetadata: {{ name: p{at}, namespace: shop }}\n{spec}\n");
        }
        text
    }

    /// A caller who is captured has to be sent on to loopback, which he cannot name himself.
    fn gate(&self) -> Gate {
        let plain = self.request.inbound.as_ref().is_some_and(|inbound| inbound.caller.is_empty());
        Gate {
            application: (self.elsewhere || plain).then(|| LISTENS.into()),
            own_ports: vec![OWN_PORT],
            application_ports: if self.narrow { vec![1, 2] } else { Vec::new() },
            trust_domain: Some("mesh.a".into()),
        }
    }
}

/// Which policies the metrics say that have refused, or would have.
fn refusing(hub: &TelemetryHub, result: &str) -> Vec<String> {
    let text = hub.scrape(Format::Prometheus);
    let counted = text.lines().filter(|line| line.starts_with("trama_authz_"));
    let counted = counted.filter(|line| line.contains(&format!("result=\"{result}\"")));
    let word = |line: &str, label: &str| {
        line.split_once(&format!("{label}=\"")).unwrap().1.split('"').next().unwrap().to_owned()
    };
    counted.map(|line| format!("{} by {}", word(line, "kind"), word(line, "policy"))).collect()
}

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
    let settings = Settings { gate: Arc::new(case.gate()), service: OWN_SERVICE.into(), ..settings() };
    let worker = Worker::new(settings, shared, hub.worker(), 1);
    let described = Described::read(&case.request).unwrap_or_else(|problems| panic!("{problems}"));
    let Some(inbound::Inbound { caller, application }) = &described.inbound else { panic!("it comes in") };

    let own = SpiffeId::parse("spiffe://mesh.a/ns/shop/sa/orders").unwrap();
    let (gate, identity) = (&*worker.settings.gate, Some(&own));
    let view = View {
        snapshot: &snapshot,
        loads: Loads::default(),
        now: Duration::ZERO,
        incoming: Some(Incoming { gate, identity, service: OWN_SERVICE }),
        knowledge: Knowledge::default(),
    };
    let explanation = explain(&described, view, 1);
    let outcome = explanation.outcome.as_ref().unwrap();
    prop_assert_eq!(&explanation.knowledge.as_ref().unwrap().assumed, &Vec::<String>::new());

    let connection = match arrives(&worker, caller.as_ref(), *application) {
        Ok(connection) => connection,
        Err(reason) => {
            let told = (outcome.result(), outcome.status, &*outcome.reason);
            prop_assert_eq!(told, (outcome::Result::Refused, 0, reason), "{}", explanation);
            return Ok(());
        }
    };
    let request = Request::from_parts(described.head.clone(), Body::empty());
    let (status, reason) = match connection.handle(request, Interim::Nowhere).await {
        Ok(answer) => {
            let (head, body) = answer.into_parts();
            let _ = body.collect().await;
            let reason = head.headers.get(fields::REASON).map_or("", |reason| reason.to_str().unwrap());
            (u32::from(head.status.as_u16()), reason.to_owned())
        }
        // The calling sidecar is told to go elsewhere: the application does not listen.
        Err(Abort::Refused) => (0, "application_unreachable".to_owned()),
        Err(other) => panic!("{other:?}"),
    };
    if outcome.result() == outcome::Result::Forwarded {
        prop_assert_eq!(&reason, "application_unreachable", "{}", explanation);
        let listens = gate.application.map_or(*application, |ip| (ip, application.port()).into());
        prop_assert_eq!(&outcome.detail, &format!("to the application at {listens}"));
    } else {
        prop_assert_eq!((outcome.status, &outcome.reason), (status, &reason), "{}", explanation);
    }
    let authorization = explanation.authorization.clone().unwrap_or_default();
    let would_deny = Some(authorization.would_deny.clone()).filter(|it| !it.is_empty());
    prop_assert_eq!(refusing(hub, "would_deny"), Vec::from_iter(would_deny), "{}", explanation);
    let decides = authorization.policies.iter().filter(|it| it.decides).map(|it| it.name.clone());
    let denied: Vec<_> = refusing(hub, "denied");
    if let Some(denied) = denied.first() {
        let named = decides.map(|name| denied.ends_with(&format!(" by {name}"))).collect::<Vec<_>>();
        prop_assert_eq!(named, [true], "{} {}", denied, explanation);
    }
    prop_assert_eq!(denied.is_empty(), outcome.reason != "authz_denied", "{}", explanation);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn what_is_explained_of_one_that_comes_in_is_what_happens(case in case()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let config = TelemetryConfig { access_log: LogOutput::None, ..Default::default() };
            compare(&case, &TelemetryHub::start(config).unwrap()).await
        })?;
    }
}

fn told(application: &str, caller: &str, incoming: Option<Incoming<'_>>) -> Explanation {
    let snapshot = Snapshot::default();
    let inbound = Some(v1::Inbound { application: application.to_owned(), caller: caller.to_owned() });
    let request = DescribedRequest { url: "/".to_owned(), inbound, ..DescribedRequest::default() };
    let described = Described::read(&request).unwrap_or_else(|problems| panic!("{problems}"));
    let (loads, now, knowledge) = (Loads::default(), Duration::ZERO, Knowledge::default());
    explain(&described, View { snapshot: &snapshot, loads, now, incoming, knowledge }, 1)
}

#[test]
fn what_is_closed_before_a_request_is_read_says_why() {
    let own = SpiffeId::parse("spiffe://mesh.a/ns/shop/sa/orders").unwrap();
    let gate = Gate { own_ports: vec![OWN_PORT], application_ports: vec![8080, OWN_PORT], ..Gate::default() };
    let [ours, theirs] = ["mesh.a", "mesh.b"].map(|domain| format!("spiffe://{domain}/ns/shop/sa/a"));
    for (port, caller, identity, ending) in [
        (8080, &ours, Some(&own), ("", "to the application at 10.0.0.7:8080")),
        (8081, &ours, Some(&own), ("port_refused", "the connection is closed: port 8081")),
        (OWN_PORT, &ours, Some(&own), ("port_refused", "the connection is closed: port 15008")),
        (
            8080,
            &theirs,
            Some(&own),
            ("wrong_identity", "the connection is closed: the trust domain `mesh.b` is not the sidecar's"),
        ),
        (
            8080,
            &ours,
            None,
            (
                "no_identity",
                "the connection is closed: the sidecar has no identity, so no other one gets through to it",
            ),
        ),
    ] {
        let incoming = Incoming { gate: &gate, identity, service: "" };
        let outcome = told(&format!("10.0.0.7:{port}"), caller, Some(incoming)).outcome.unwrap();
        assert_eq!((&*outcome.reason, &*outcome.detail, outcome.status), (ending.0, ending.1, 0));
    }
}

#[test]
fn where_no_sidecar_says_it_what_is_assumed_is_told() {
    let explanation = told("10.0.0.7:8080", "spiffe://mesh.a/ns/shop/sa/a", None);
    let text = explanation.to_string();
    for line in [
        "assumed     port 8080 is one of the application's that its sidecar lets be reached (`application.allowedPorts`), and none of the sidecar's own",
        "            the application is called where it listens (`application.address`)",
        "            its sidecar takes callers of the trust domain `mesh.a`",
        "            whose the application is its address alone says, not its sidecar's `node.service`",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    assert_eq!(told("10.0.0.7:8080", "", None).knowledge.unwrap().assumed.len(), 3);
}
