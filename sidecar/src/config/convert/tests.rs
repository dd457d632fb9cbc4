//! Good policies mean what they say; each bad one is refused with its message, which the golden file holds.

use std::{fmt::Write, sync::Arc};

use super::*;
use crate::config::snapshot::{
    CertificateName, Cluster, Destination, FilterChain, FilterSpec, PathMatch, PathRewrite, RuleAction,
    Transport,
};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/policy-problems.txt");

/// One service with two ports, in two regions: what the small policies build on.
const BASE: &str = "
kind: RegionTopology
metadata: { name: mesh }
spec:
  regions: [{ name: south, zones: [a, b] }, { name: north }, { name: west }]
  roundTrips: [{ from: south, to: north, rtt: 40ms }, { from: west, to: south, rtt: 10ms }]
---
kind: Service
metadata: { name: orders, namespace: shop }
spec:
  addresses: [10.96.0.10, '::ffff:10.96.0.11']
  ports: [{ port: 80, targetPort: 8080 }, { port: 5432, appProtocol: TCP }]
---
kind: EndpointSet
metadata: { name: orders, namespace: shop }
spec:
  service: orders
  endpoints:
    - { address: 10.1.0.1, region: north }
    - address: 10.1.0.2
      region: south
      zone: a
      weight: 3
      identity: spiffe://mesh.local/ns/shop/sa/orders
      mesh: { address: '10.1.0.2:15008' }
    - { address: 10.1.0.3, region: west }
    - { address: 10.1.0.4, region: south, ready: false }
";

fn local() -> Local {
    Local { namespace: "shop".to_owned(), region: "south".to_owned() }
}

fn compile_at(text: &str, local: &Local) -> Result<Snapshot, Problems> {
    let documents = Document::parse("p.yaml", text).map_err(Problems)?;
    convert(&documents, local, &mut Registry::default(), 7)
}

fn compile(text: &str) -> Snapshot {
    compile_at(text, &local()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn cluster(snapshot: &Snapshot) -> &Cluster {
    &snapshot.destinations.of_name(&"shop/orders".into(), 80).unwrap().cluster
}

fn regions(snapshot: &Snapshot) -> Vec<&str> {
    cluster(snapshot).regions.iter().map(|group| &*group.region).collect()
}

fn skipped(snapshot: &Snapshot) -> Vec<(&str, &str)> {
    cluster(snapshot).skipped.iter().map(|skipped| (&*skipped.region, skipped.why)).collect()
}

#[test]
fn the_example_compiles() {
    let text = include_str!("../../../../proto/examples/orders.yaml");
    let snapshot = compile_at(text, &Local { namespace: "default".into(), region: "rio-de-janeiro".into() })
        .unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(snapshot.revision.number, 7);
    assert_eq!(
        regions(&snapshot),
        ["sao-paulo", "rio-de-janeiro"],
        "the policy's order comes before our own region"
    );
    assert_eq!(cluster(&snapshot).retry_budget.percent, 30);
    assert_eq!(cluster(&snapshot).retry_budget.min_per_second, 10);
    assert_eq!(cluster(&snapshot).circuit.max_connections, 512);
    let port = snapshot.destinations.of_name(&"shop/orders".into(), 80).unwrap();
    let exact = &port.routes.any_host.exact["/v1/reports"][0];
    assert_eq!(&*exact.rule.name, "shop/orders/reports");
    assert!(matches!(&exact.rule.action, RuleAction::Forward(backends) if backends.len() == 1));
}

#[test]
fn addresses_authorities_and_endpoints_mean_their_service() {
    let snapshot = compile(BASE);
    let index = &snapshot.destinations;
    let is_service = |destination: Destination, port: u16| matches!(destination, Destination::Service(service) if service.port == port && &*service.service.label == "shop/orders");
    assert!(is_service(index.of_address("10.96.0.10:80".parse().unwrap()), 80));
    assert!(is_service(index.of_address("10.96.0.11:5432".parse().unwrap()), 5432), "v4 in v6 is v4");
    for host in ["orders", "orders.shop", "orders.shop.svc", "Orders.shop.svc.cluster.local"] {
        assert!(is_service(index.of_authority(host, Some(80)), 80), "{host}");
    }
    let elsewhere = compile_at(BASE, &Local::default()).unwrap();
    let bare = elsewhere.destinations.of_authority("orders", Some(80));
    assert!(matches!(bare, Destination::External), "a bare name is looked up in the own namespace only");

    let Destination::Direct(direct) = index.of_address("10.1.0.2:8080".parse().unwrap()) else {
        panic!("direct")
    };
    assert_eq!(direct.owner.unwrap().port, 80);
    let Transport::Mesh(record) = &direct.endpoint.transport else { panic!("by mTLS") };
    assert_eq!(record.server_name.to_str(), "8080.orders.shop");
    assert_eq!((direct.endpoint.weight, &*direct.endpoint.zone), (3, "a"));
    let Destination::Direct(tcp) = index.of_address("10.1.0.2:5432".parse().unwrap()) else {
        panic!("direct")
    };
    let Transport::Mesh(record) = &tcp.endpoint.transport else { panic!("by mTLS") };
    assert_eq!(record.server_name.to_str(), "5432.orders.shop");
    assert!(
        matches!(index.of_address("10.1.0.4:8080".parse().unwrap()), Destination::Direct(_)),
        "ready or not"
    );
    assert!(matches!(index.of_address("10.1.0.2:9999".parse().unwrap()), Destination::External));
}

#[test]
fn an_endpoint_of_two_services_has_no_owner() {
    let snapshot = compile(&format!(
        "{BASE}---\nkind: Service\nmetadata: {{name: all}}\nspec: {{ports: [{{port: 8080}}]}}\n---\n\
         kind: EndpointSet\nmetadata: {{name: all}}\nspec: {{service: all, endpoints: [{{address: 10.1.0.1}}]}}\n"
    ));
    let Destination::Direct(direct) = snapshot.destinations.of_address("10.1.0.1:8080".parse().unwrap())
    else {
        panic!("direct")
    };
    assert!(direct.owner.is_none());
}

#[test]
fn without_a_policy_the_own_region_comes_first_then_the_nearest() {
    assert_eq!(regions(&compile(BASE)), ["south", "west", "north"]);
    let nowhere = compile_at(BASE, &Local::default()).unwrap();
    assert_eq!(regions(&nowhere), [""], "where nothing is nearer, all are one group");
    assert_eq!(cluster(&nowhere).regions[0].endpoints.len(), 3);
}

fn policy(spec: &str) -> String {
    format!(
        "{BASE}---\nkind: RegionalPolicy\nmetadata: {{name: orders, namespace: shop}}\nspec: {{service: orders, {spec}}}\n"
    )
}

#[test]
fn an_order_is_that_of_the_own_region_or_of_any() {
    let order = "order: [{to: [north]}, {from: south, to: [west, south]}]";
    assert_eq!(regions(&compile(&policy(order))), ["west", "south", "north"]);
    let elsewhere = Local { region: "west".into(), ..local() };
    assert_eq!(regions(&compile_at(&policy(order), &elsewhere).unwrap()), ["north", "west", "south"]);
}

#[test]
fn residency_is_kept_whatever_the_order_says() {
    let denied = compile(&policy("order: [{to: [north, south]}], residency: {deny: [north]}"));
    assert_eq!(regions(&denied), ["south", "west"]);
    assert_eq!(skipped(&denied), [("north", "residency")]);
    let allowed = compile(&policy("residency: {allow: [north]}"));
    assert_eq!(regions(&allowed), ["north"]);
    assert_eq!(skipped(&allowed), [("south", "residency"), ("west", "residency")]);
}

#[test]
fn an_endpoint_without_region_comes_last_and_never_under_residency() {
    let unnamed = "---\nkind: EndpointSet\nmetadata: {name: more, namespace: shop}\n\
                   spec: {service: orders, endpoints: [{address: 10.1.0.9}]}\n";
    assert_eq!(regions(&compile(&format!("{BASE}{unnamed}"))), ["south", "west", "north", ""]);
    let kept = compile(&format!("{}{unnamed}", policy("residency: {deny: [north]}")));
    assert_eq!(skipped(&kept), [("", "residency"), ("north", "residency")]);
}

#[test]
fn a_region_without_a_ready_endpoint_is_skipped_with_the_reason() {
    let text = BASE
        .replace("{ address: 10.1.0.3, region: west }", "{ address: 10.1.0.3, region: west, ready: false }");
    assert_eq!(skipped(&compile(&text)), [("west", "no_ready_endpoint")]);
}

fn route(spec: &str) -> String {
    format!(
        "{BASE}---\nkind: Route\nmetadata: {{name: r, namespace: shop}}\nspec: {{parentRefs: [{{service: orders}}], {spec}}}\n"
    )
}

#[test]
fn a_replaced_prefix_is_the_one_that_matched() {
    let text = route(
        "rules: [{matches: [{path: {value: /a/}}, {path: {value: /b}}], \
         filters: [{urlRewrite: {path: {replacePrefixMatch: /c/}}}]}]",
    );
    let snapshot = compile(&text);
    let table = &snapshot.destinations.of_name(&"shop/orders".into(), 80).unwrap().routes.any_host;
    for prefix in ["/a", "/b"] {
        let rewrite = table.prefix[prefix][0].rule.rewrite.as_ref().expect("a rewrite");
        let Some(PathRewrite::Prefix { matched, replacement }) = &rewrite.path else { panic!("of a prefix") };
        assert_eq!((&**matched, &**replacement), (prefix, "/c"));
    }
}

#[test]
fn a_regular_expression_matches_the_whole_path() {
    let snapshot =
        compile(&route("rules: [{matches: [{path: {type: REGULAR_EXPRESSION, value: '/a|/b'}}]}]"));
    let table = &snapshot.destinations.of_name(&"shop/orders".into(), 80).unwrap().routes.any_host;
    let PathMatch::Regex(regex) = &table.regex[0].condition.path else { panic!("a regular expression") };
    assert!(regex.is_match("/b") && !regex.is_match("/bc") && !regex.is_match("x/a"));
}

#[test]
fn opaque_ports_have_no_routes() {
    let snapshot = compile(&route("rules: [{}]"));
    assert!(!snapshot.destinations.of_name(&"shop/orders".into(), 80).unwrap().routes.is_empty());
    assert!(snapshot.destinations.of_name(&"shop/orders".into(), 5432).unwrap().routes.is_empty());
}

fn chain(name: &str, service: &str, direction: &str, range: &str) -> String {
    format!(
        "---\nkind: PluginChain\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{service: {service}, direction: {direction}, filters: [{{sources: {{allow: [{range}]}}}}]}}\n"
    )
}

/// The ranges that a chain's filters allow.
fn allowed(chain: Option<&Arc<FilterChain>>) -> Vec<String> {
    let of = |filter: &FilterSpec| match filter {
        FilterSpec::Sources(ranges) => ranges.allow[0].network.to_string(),
        other => panic!("{other:?}"),
    };
    chain.map(|chain| chain.0.iter().map(of).collect()).unwrap_or_default()
}

#[test]
fn the_applications_address_selects_the_inbound_chain_and_else_the_pods_own_service() {
    let more = "---\nkind: Service\nmetadata: {name: more, namespace: shop}\n\
                spec: {ports: [{port: 80, targetPort: 8080}, {port: 81, targetPort: 9090}]}\n---\n\
                kind: EndpointSet\nmetadata: {name: more, namespace: shop}\n\
                spec: {service: more, endpoints: [{address: 10.1.0.1}]}\n";
    let chains =
        chain("a", "orders", "INBOUND", "10.1.0.0/16") + &chain("b", "more", "INBOUND", "10.2.0.0/16");
    let index = compile(&format!("{BASE}{more}{chains}")).destinations;
    let inbound = |address: &str, own| allowed(index.inbound(address.parse().unwrap(), own));
    assert_eq!(
        inbound("10.1.0.3:8080", "shop/more"),
        ["10.1.0.0"],
        "the address goes before the pod's own service"
    );
    assert_eq!(inbound("10.1.0.1:9090", "shop/orders"), ["10.2.0.0"]);
    // Which of its two services a caller means cannot be told for sure: both chains hold.
    assert_eq!(inbound("10.1.0.1:8080", ""), ["10.2.0.0", "10.1.0.0"]);
    assert_eq!(inbound("10.1.0.3:7070", "shop/orders"), ["10.1.0.0"]);
    assert!(inbound("10.1.0.3:7070", "shop/other").is_empty());
}

#[test]
fn an_outbound_chain_is_the_services_and_says_nothing_about_inbound() {
    let index = compile(&(BASE.to_owned() + &chain("a", "orders", "OUTBOUND", "10.1.0.0/16"))).destinations;
    for port in [80, 5432] {
        let service = index.of_name(&"shop/orders".into(), port).unwrap();
        assert_eq!(allowed(service.filters.as_ref()), ["10.1.0.0"]);
    }
    assert!(index.inbound("10.1.0.3:8080".parse().unwrap(), "shop/orders").is_none());
}

#[test]
fn authorisation_is_of_the_service_of_its_namespace_and_of_all_that_an_application_serves() {
    let policy = |name: &str, spec: &str| {
        format!(
            "---\nkind: AuthzPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{action: DENY, rules: [{{}}]{spec}}}\n"
        )
    };
    let more = "---\nkind: Service\nmetadata: {name: more, namespace: shop}\nspec: {ports: [{port: 8080}]}\n\
                ---\nkind: EndpointSet\nmetadata: {name: more, namespace: shop}\nspec: {service: more, endpoints: [{address: 10.1.0.1}]}\n\
                ---\nkind: Service\nmetadata: {name: other}\nspec: {ports: [{port: 80}]}\n";
    let policies = policy("a", ", service: orders") + &policy("b", ", service: more") + &policy("c", "");
    let index = compile(&format!("{BASE}{more}{policies}")).destinations;
    let names = |address: &str, own| {
        let found = index.authorization(address.parse().unwrap(), own);
        let names = found.iter().flat_map(|found| &found.0).map(|policy| policy.name.to_string());
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        names("10.1.0.3:8080", "shop/more"),
        "shop/a shop/c",
        "the address goes before the pod's own service"
    );
    assert_eq!(names("10.1.0.1:8080", ""), "shop/b shop/c shop/a");
    assert_eq!(names("10.1.0.3:7070", "shop/orders"), "shop/a shop/c");
    assert_eq!(names("10.1.0.3:7070", "default/other"), "", "of another namespace");
}

#[test]
fn health_survives_a_new_snapshot() {
    let documents = Document::parse("p.yaml", BASE).unwrap();
    let mut registry = Registry::default();
    let first = convert(&documents, &local(), &mut registry, 1).unwrap();
    let second = convert(&documents, &local(), &mut registry, 2).unwrap();
    let id = |snapshot: &Snapshot| cluster(snapshot).regions[0].endpoints[0].health.id;
    assert_eq!(id(&first), id(&second));
    assert_eq!(first.revision.digest, second.revision.digest);
}

#[test]
fn the_digest_is_of_the_content_not_of_the_layout() {
    let (head, tail) = BASE.split_once("---\n").unwrap();
    assert_eq!(compile(&format!("{tail}---\n{head}")).revision.digest, compile(BASE).revision.digest);
    assert_ne!(
        compile(&BASE.replace("weight: 3", "weight: 4")).revision.digest,
        compile(BASE).revision.digest
    );
}

#[test]
fn tls_is_for_endpoints_without_a_mesh_record() {
    let tls = "{ port: 80, targetPort: 8080, tls: { hostname: orders.example, files: partner } }";
    let snapshot = compile(&BASE.replace("{ port: 80, targetPort: 8080 }", tls));
    let at = |address: &str| match snapshot.destinations.of_address(address.parse().unwrap()) {
        Destination::Direct(direct) => direct.endpoint,
        other => panic!("{other:?}"),
    };
    let without = at("10.1.0.1:8080");
    let Transport::Tls(tls) = &without.transport else { panic!("{without:?}") };
    assert_eq!((tls.server_name.to_str(), &*tls.files), ("orders.example".into(), "partner"));
    assert_eq!(tls.names, [CertificateName::Host(tls.server_name.clone())]);
    assert!(
        matches!(at("10.1.0.2:8080").transport, Transport::Mesh(_)),
        "a mesh record is never stepped over"
    );
    assert!(matches!(at("10.1.0.1:5432").transport, Transport::Plain), "the other port says nothing of TLS");
    assert_eq!(snapshot.tls_files, ["partner".into()].into());
}

/// Bad policies: a title and what is added to, or replaced in, the base.
const BAD: &[(&str, &str)] = &[
    (
        "a route to an unknown service",
        "kind: Route\nmetadata: {name: r, namespace: shop}\nspec:\n  parentRefs: [{service: order}]\n  rules:\n    - backendRefs: [{service: nowhere}, {service: orders, namespace: elsewhere}]\n",
    ),
    (
        "endpoints of an unknown service",
        "kind: EndpointSet\nmetadata: {name: e, namespace: shop}\nspec: {service: ordres, endpoints: [{address: 10.9.0.1}]}\n",
    ),
    (
        "regions and zones that the topology has not",
        "kind: EndpointSet\nmetadata: {name: e, namespace: shop}\nspec:\n  service: orders\n  endpoints:\n    - {address: 10.9.0.1, region: sout}\n    - {address: 10.9.0.2, region: south, zone: c}\n---\nkind: RegionalPolicy\nmetadata: {name: p, namespace: shop}\nspec:\n  service: orders\n  order: [{from: east, to: [north, north, souht]}]\n  residency: {allow: [north], deny: [north, mars]}\n",
    ),
    (
        "two routes with the same match",
        "kind: Route\nmetadata: {name: a, namespace: shop}\nspec:\n  parentRefs: [{service: orders}]\n  rules: [{matches: [{path: {value: /v1/}, headers: [{name: A, value: '1'}, {name: B, value: '2'}]}]}]\n---\nkind: Route\nmetadata: {name: b, namespace: shop}\nspec:\n  parentRefs: [{service: orders, port: 80}]\n  rules:\n    - matches:\n        - {path: {value: /v2}}\n        - {path: {value: /v1}, headers: [{name: b, value: '2'}, {name: a, value: '1'}]}\n",
    ),
    (
        "a second resource of a name, and of a kind of which there is one",
        "kind: Service\nmetadata: {name: orders, namespace: shop}\nspec: {ports: [{port: 1}]}\n---\nkind: RegionTopology\nmetadata: {name: other}\nspec: {regions: [{name: x}]}\n",
    ),
    (
        "addresses and hosts that two services claim",
        "kind: Service\nmetadata: {name: a}\nspec: {addresses: [10.96.0.10], hosts: [x.test], ports: [{port: 80}, {port: 80, name: a}, {port: 81, name: a}]}\n---\nkind: Service\nmetadata: {name: b}\nspec: {hosts: [x.test], ports: [{port: 80}]}\n",
    ),
    (
        "addresses that no client dials",
        "kind: Service\nmetadata: {name: a}\nspec:\n  addresses: [0.0.0.0, '::', 127.0.0.9, '::1', '::ffff:127.0.0.1', 224.0.0.5, 'ff02::1', 10.96.0.99]\n  ports: [{port: 80}]\n",
    ),
    (
        "malformed addresses and identities",
        "kind: EndpointSet\nmetadata: {name: e, namespace: shop}\nspec:\n  service: orders\n  endpoints:\n    - {address: 10.0.0.999}\n    - {address: 10.0.0.1, identity: spiffe://mesh.local/ns/../x, mesh: {address: '10.0.0.1:99999'}}\n    - {address: 10.0.0.2, mesh: {address: '10.0.0.2:15008'}}\n",
    ),
    (
        "an identity outside the trust domain",
        "kind: MeshSettings\nmetadata: {name: mesh}\nspec: {trustDomain: other.local}\n",
    ),
    (
        "endpoints named twice, or on no port of the service",
        "kind: EndpointSet\nmetadata: {name: e, namespace: shop}\nspec:\n  service: orders\n  endpoints:\n    - {address: 10.1.0.1}\n    - {address: 10.9.0.1, port: 8080}\n    - {address: 10.9.0.2, port: 8080, servicePort: 443}\n",
    ),
    (
        "an endpoint that two services reach in different ways",
        "kind: Service\nmetadata: {name: all}\nspec: {ports: [{port: 8080}]}\n---\nkind: EndpointSet\nmetadata: {name: all}\nspec: {service: all, endpoints: [{address: 10.1.0.2}]}\n",
    ),
    (
        "conditions that cannot be read",
        "kind: Route\nmetadata: {name: r, namespace: shop}\nspec:\n  parentRefs: [{service: orders}]\n  rules:\n    - matches:\n        - {path: {value: v1}}\n        - {path: {type: EXACT, value: '/a?b=c'}}\n        - {path: {type: REGULAR_EXPRESSION, value: 'a)(b'}}\n        - {headers: [{name: x, value: a}, {name: X, value: b}]}\n        - {queryParams: [{name: q, type: REGULAR_EXPRESSION, value: '['}]}\n",
    ),
    (
        "filters that contradict each other",
        "kind: Route\nmetadata: {name: r, namespace: shop}\nspec:\n  parentRefs: [{service: orders}]\n  rules:\n    - matches: [{path: {type: EXACT, value: /a}}]\n      filters:\n        - requestRedirect: {scheme: ftp, statusCode: 304, path: {replacePrefixMatch: /b}}\n        - urlRewrite: {hostname: x.test}\n        - requestHeaderModifier: {set: [{name: host, value: x}, {name: x-a, value: \"a\\nb\"}], remove: [Transfer-Encoding]}\n      backendRefs: [{service: orders, port: 80}]\n",
    ),
    (
        "backends, parents and time-outs that do not fit",
        "kind: Route\nmetadata: {name: r, namespace: shop}\nspec:\n  parentRefs: [{service: orders, port: 5432}, {service: orders, port: 81}, {service: orders, port: 80}, {service: orders, port: 80}]\n  rules:\n    - name: one\n      backendRefs: [{service: orders, port: 81, weight: 0}]\n      timeouts: {request: 1s, backendRequest: 2s}\n    - name: one\n",
    ),
    (
        "an ejection longer than the longest",
        "kind: RegionalPolicy\nmetadata: {name: p, namespace: shop}\nspec: {service: orders, outlier: {baseEjection: 10m}}\n---\nkind: RegionalPolicy\nmetadata: {name: q, namespace: shop}\nspec: {service: orders}\n",
    ),
    (
        "what this version does not keep",
        "kind: RegionalPolicy\nmetadata: {name: p, namespace: shop}\nspec: {service: orders, mode: LATENCY, spill: {requestsPerEndpoint: 3}, outlier: {latencyFactor: 2}}\n---\nkind: Route\nmetadata: {name: r, namespace: shop}\nspec: {parentRefs: [{service: orders}], rules: [{filters: [{pluginChain: {name: x}}], retry: {conditions: [RESET]}}]}\n",
    ),
    (
        "TLS to names that no certificate can carry",
        "kind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 444, tls: {hostname: 1.2.3.4.5}}, {port: 445, tls: {hostname: a.example, subjectAltNames: [{uri: nothing}]}}, {port: 446, tls: {hostname: a.example, subjectAltNames: [{hostname: 10.0.0.999}]}}]}\n",
    ),
    (
        "an endpoint that one service reaches in TLS and another plainly",
        "kind: Service\nmetadata: {name: all}\nspec: {ports: [{port: 8080, tls: {hostname: a.example}}]}\n---\nkind: EndpointSet\nmetadata: {name: all}\nspec: {service: all, endpoints: [{address: 10.1.0.1}]}\n",
    ),
    (
        "chains of a service that they cannot be for, and two for one",
        "kind: PluginChain\nmetadata: {name: a, namespace: shop}\nspec: {service: ordres, filters: [{sources: {allow: [10.0.0.0/8]}}]}\n---\nkind: PluginChain\nmetadata: {name: b, namespace: shop}\nspec: {filters: [{sources: {allow: [10.0.0.0/8]}}]}\n---\nkind: PluginChain\nmetadata: {name: c, namespace: shop}\nspec: {service: orders, filters: [{sources: {allow: [10.0.0.0/8]}}]}\n---\nkind: PluginChain\nmetadata: {name: d, namespace: shop}\nspec: {service: orders, filters: [{sources: {allow: [10.0.0.0/8]}}]}\n",
    ),
    (
        "filters of a chain that cannot be",
        "kind: PluginChain\nmetadata: {name: a, namespace: shop}\nspec:\n  service: orders\n  direction: OUTBOUND\n  filters:\n    - sources: {}\n    - sources: {allow: [10.1.0.0/8, 10.0.0.0/33], deny: [everybody]}\n    - requestHeaderModifier: {set: [{name: host, value: x}], remove: [Trama-Reason, Keep-Alive]}\n    - plugin: {name: quota, source: /plugins/quota.wasm}\n",
    ),
    (
        "authorisation that nobody or nothing could match",
        "kind: MeshSettings\nmetadata: {name: mesh}\nspec: {trustDomain: mesh.local}\n---\nkind: AuthzPolicy\nmetadata: {name: a, namespace: shop}\nspec:\n  service: ordres\n  action: ALLOW\n  rules: [{}]\n---\nkind: AuthzPolicy\nmetadata: {name: b, namespace: shop}\nspec:\n  service: orders\n  action: DENY\n  rules:\n    - identities: ['*', spiffe://mesh.local/ns/shop/*, 'spiffe://mesh.local/*/sa', ns/shop/*, spiffe://other.local/ns/shop/sa/a, spiffe://mesh.local/ns/../a]\n      paths: [/a, /a/*, /*/b]\n      ports: [80, 8080]\n",
    ),
    (
        "a namespace that makes no server name",
        "kind: Service\nmetadata: {name: a, namespace: '1'}\nspec: {ports: [{port: 80}]}\n",
    ),
];

#[test]
fn each_bad_policy_is_refused_with_its_message() {
    let mut told = String::new();
    for (title, text) in BAD {
        let problems = compile_at(&format!("{BASE}---\n{text}"), &local()).map(|_| ()).expect_err(title);
        writeln!(told, "# {title}\n{problems}\n").unwrap();
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(GOLDEN, &told).unwrap();
    }
    let expected = std::fs::read_to_string(GOLDEN).unwrap_or_default();
    assert!(told == expected, "{GOLDEN} is out of date: run with UPDATE_GOLDEN=1. Now:\n{told}");
}

#[test]
fn what_this_version_does_not_keep_is_told_with_what_cannot_be_read() {
    let text = "kind: RegionalPolicy
metadata: { name: p, namespace: shop }
spec: { service: orders, mode: LATENCY, orders: [], spill: { requestsPerEndpoint: '3' } }
---
kind: Route
metadata: { name: r, namespace: shop }
spec:
  parentRefs: [{ service: orders }]
  rules:
    - { filters: 7 }
    - { timeouts: { request: 5 seconds }, filters: [{ requestRedirekt: {} }, { pluginChain: { name: x } }] }
";
    let told: Vec<_> =
        unreadable(Document::read("p.yaml", text)).0.into_iter().map(|p| (p.field, p.problem)).collect();
    let told: Vec<_> = told.iter().map(|(field, problem)| (field.as_str(), problem.as_str())).collect();
    let unkept = "not supported";
    assert_eq!(
        told,
        [
            ("spec.mode", unkept),
            ("spec.orders", "unknown field"),
            ("spec.spill", unkept),
            ("spec.spill.requestsPerEndpoint", "a string where a whole number is needed"),
            ("spec.rules[0].filters", "a number where a list is needed"),
            ("spec.rules[1].timeouts.request", "malformed"),
            ("spec.rules[1].filters[0].requestRedirekt", "unknown field"),
            ("spec.rules[1].filters[1].pluginChain", unkept),
        ]
    );
}

#[test]
fn what_nobody_asked_for_is_known_by_name_only() {
    let text = format!(
        "{BASE}---\nkind: Service\nmetadata: {{ name: prices, namespace: shop }}\nspec: {{ ports: [{{ port: 80 }}] }}\n"
    );
    let documents = Document::parse("p.yaml", &text).unwrap();
    let documents: Vec<_> = documents.iter().collect();
    let whole = |known: Extent<'_>| {
        let snapshot = convert_part(&documents, known, &local(), &mut Registry::default(), 1).unwrap();
        ["shop/orders", "shop/prices"]
            .map(|label| snapshot.destinations.of_name(&label.into(), 80).unwrap().whole)
    };
    assert_eq!(whole(Extent::Whole), [true, true]);
    assert_eq!(whole(Extent::Part(&Part::of(["shop/orders"]))), [true, false]);
}

#[test]
fn an_endpoint_of_which_only_the_address_is_known_means_its_service_and_nobody_outside() {
    let text = "kind: Service\nmetadata: { name: a, namespace: shop }\n\
                spec: { ports: [{ port: 80, targetPort: 8080, appProtocol: HTTP }, { port: 5432, appProtocol: TCP }] }\n---\n\
                kind: Service\nmetadata: { name: b, namespace: shop }\nspec: { ports: [{ port: 80 }] }\n---\n\
                kind: EndpointSet\nmetadata: { name: b, namespace: shop }\n\
                spec: { service: b, endpoints: [{ address: 10.1.0.5, port: 9090 }] }\n";
    let documents = Document::parse("p.yaml", text).unwrap();
    let documents: Vec<_> = documents.iter().collect();
    let at = |address: &str, port, service_port| EndpointAddress {
        address: address.parse().unwrap(),
        port,
        service_port,
    };
    let a = [
        at("10.1.0.1", None, None),
        at("10.1.0.2", None, Some(5432)),
        at("10.1.0.3", Some(9090), Some(80)),
        at("10.1.0.4", Some(9090), None),
        at("10.1.0.5", Some(9090), Some(80)),
    ];
    let mut part = Part::of(["shop/b"]);
    part.endpoints = vec![("shop/a".into(), a.into())];
    let compiled = |part: &Part| {
        convert_part(&documents, Extent::Part(part), &local(), &mut Registry::default(), 1).unwrap()
    };
    let means =
        |snapshot: &Snapshot, address: &str| match snapshot.destinations.of_address(address.parse().unwrap())
        {
            Destination::Service(service) => {
                format!("{} {}, whole: {}", service.service, service.port, service.whole)
            }
            Destination::Direct(direct) => format!("itself, of {:?}", direct.owner.map(|owner| owner.port)),
            Destination::Pending(service) => format!("pending, of {service}"),
            Destination::External => "external".to_owned(),
        };
    let snapshot = compiled(&part);
    for (address, meant) in [
        ("10.1.0.1:8080", "shop/a 80, whole: false"),
        ("10.1.0.1:5432", "shop/a 5432, whole: false"),
        ("10.1.0.1:80", "external"),
        ("10.1.0.2:5432", "shop/a 5432, whole: false"),
        ("10.1.0.2:8080", "external"),
        ("10.1.0.3:9090", "shop/a 80, whole: false"),
        // Which of two ports it serves is not said: that is refused where it was written.
        ("10.1.0.4:9090", "external"),
        // Of two services it is nobody's alone, though one of them is known by name only.
        ("10.1.0.5:9090", "itself, of None"),
    ] {
        assert_eq!(means(&snapshot, address), meant, "{address}");
    }
    // All is known, but how this endpoint is reached: then it is not reached.
    part.whole.insert("shop/a".into());
    assert_eq!(means(&compiled(&part), "10.1.0.1:8080"), "pending, of shop/a");
    part.endpoints.clear();
    assert_eq!(means(&compiled(&part), "10.1.0.5:9090"), "itself, of Some(80)");
}
