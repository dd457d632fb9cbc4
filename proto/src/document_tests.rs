use super::*;
use crate::{Problems, policy::v1::regional_policy_spec::Mode};

const ORDERS: &str = include_str!("../examples/orders.yaml");

fn problems(text: &str) -> String {
    match Document::parse("p.yaml", text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(found) => Problems(found).to_string(),
    }
}

#[test]
fn the_example_is_read_into_typed_resources() {
    let documents = Document::parse("orders.yaml", ORDERS).unwrap_or_else(|e| panic!("{}", Problems(e)));
    let ids: Vec<_> = documents.iter().map(|document| document.id.to_string()).collect();
    assert_eq!(
        ids,
        [
            "RegionTopology default/mesh",
            "MeshSettings default/mesh",
            "Service shop/orders",
            "EndpointSet shop/orders",
            "Route shop/orders",
            "RegionalPolicy shop/orders",
        ]
    );
    let Resource::Route(route) = &documents[4].resource else { panic!("a route") };
    let rule = &route.spec.as_ref().unwrap().rules[1];
    let timeout = rule.timeouts.as_ref().unwrap().backend_request.as_ref().unwrap();
    assert_eq!((timeout.seconds, timeout.nanos), (0, 500_000_000));
    assert_eq!(rule.retry.as_ref().unwrap().attempts, Some(2));
    let Resource::RegionalPolicy(policy) = &documents[5].resource else { panic!("a policy") };
    assert_eq!(policy.spec.as_ref().unwrap().mode(), Mode::Ordered);
}

#[test]
fn a_field_knows_its_line() {
    let documents = Document::parse("orders.yaml", ORDERS).unwrap();
    let line =
        ORDERS.lines().position(|line| line.contains("port: 80") && !line.contains("- ")).unwrap() as u64 + 1;
    let place = documents[4].line_of("spec.rules[1].backendRefs[0].port").unwrap();
    assert_eq!((place.line, place.column), (line, 17));
    let missing = documents[4].line_of("spec.rules[1].backendRefs[0].namespace").unwrap();
    assert_eq!(missing.line, line - 1, "a field that is not there is where its group begins");
}

#[test]
fn every_problem_of_a_file_is_told_with_place_value_and_remedy() {
    let found = problems(
        "kind: Service\n\
         metadata: { name: Orders, namespce: shop }\n\
         spec:\n\
         \x20 addresses: [10.0.0.300x]\n\
         \x20 ports:\n\
         \x20   - { port: \"80\", appProtocol: HTTPS }\n\
         \x20   - port: 70000\n\
         \x20     targetPort:\n\
         \x20 outlier: { baseEjection: 10, honourRetryAfter: yes }\n\
         ---\n\
         kind: Rout\n\
         ---\n\
         kind: Route\n\
         metadata: { name: orders }\n\
         spec:\n\
         \x20 rules:\n\
         \x20   - filters:\n\
         \x20       - requestHeaderModifier: { remove: [x y] }\n\
         \x20         urlRewrite: {}\n\
         \x20     backendRefs:\n\
         \x20       - weight: 1.5\n",
    );
    let expected = include_str!("../tests/golden/problems.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/problems.txt");
        std::fs::write(path, format!("{found}\n")).unwrap();
        return;
    }
    assert_eq!(format!("{found}\n"), expected);
}

#[test]
fn what_is_not_yaml_is_refused_with_its_place() {
    let found = problems("kind: Service\nmetadata: {name: a\nspec: ]\n");
    assert!(found.starts_with("p.yaml:3:"), "{found}");
    assert!(found.contains("not valid YAML"), "{found}");
}

#[test]
fn a_key_given_twice_is_refused() {
    let found = problems("kind: Service\nmetadata:\n  name: a\n  name: b\nspec: {ports: [{port: 80}]}\n");
    let told = "p.yaml:4:3: not valid YAML: the key `name` is there twice; keep one of them";
    assert!(found.starts_with(told), "{found}");
}

#[test]
fn aliases_cannot_grow_without_bound() {
    let mut text =
        "kind: Service\nmetadata:\n  labels:\n    l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let items = vec![format!("*l{}", level - 1); 10].join(", ");
        text.push_str(&format!("    l{level}: &l{level} [{items}]\n"));
    }
    assert!(problems(&text).contains("not valid YAML"));
}

#[test]
fn what_is_no_resource_says_what_a_resource_is() {
    assert!(problems("- a\n- b\n").contains("write `kind:`, `metadata:` and `spec:`"));
    assert!(problems("metadata: {name: a}\n").contains("kind: missing; write one of: Service, EndpointSet"));
    assert!(
        problems("kind: Service\napiVersion: v1\nmetadata: {name: a}\nspec: {ports: [{port: 1}]}\n")
            .contains("apiVersion: not an allowed value, got \"v1\"; known: trama.dev/v1alpha1")
    );
}

#[test]
fn an_empty_text_has_no_resources() {
    assert_eq!(Document::parse("p.yaml", "").unwrap().len(), 0);
    assert_eq!(Document::parse("p.yaml", "---\n# nothing\n---\n").unwrap().len(), 0);
}

#[test]
fn what_was_written_is_the_same_as_a_message() {
    for document in Document::parse("orders.yaml", ORDERS).unwrap() {
        let received = Document::received("push 7", document.resource.clone())
            .unwrap_or_else(|e| panic!("{}", Problems(e)));
        assert_eq!((&received.id, received.encode()), (&document.id, document.encode()));
    }
    let text = "kind: EndpointSet\nmetadata: { name: a }\nspec: { service: a, endpoints: [] }\n";
    let empty = Document::parse("p.yaml", text).unwrap().remove(0);
    let received =
        Document::received("push 7", empty.resource.clone()).unwrap_or_else(|e| panic!("{}", Problems(e)));
    assert_eq!((&received.id, received.encode()), (&empty.id, empty.encode()), "an empty list is left out");
}

#[test]
fn a_message_that_no_file_could_hold_is_refused_with_its_field() {
    let mut document = Document::parse("orders.yaml", ORDERS).unwrap().remove(3);
    let Resource::EndpointSet(set) = &mut document.resource else { panic!("endpoints") };
    set.spec.as_mut().unwrap().endpoints[0].address = "nowhere".to_owned();
    let refused = Problems(Document::received("push 7", document.resource).unwrap_err()).to_string();
    let wanted =
        "push 7: EndpointSet shop/orders: spec.endpoints[0].address: malformed, got \"nowhere\"; write an IP";
    assert!(refused.starts_with(wanted), "{refused}");
    let nameless = Document::received("push 7", Resource::Service(Default::default()));
    assert!(Problems(nameless.unwrap_err()).to_string().contains("metadata: missing"));
    let mut service = Document::parse("orders.yaml", ORDERS).unwrap().remove(2);
    let Resource::Service(it) = &mut service.resource else { panic!("a service") };
    it.spec.as_mut().unwrap().ports[0].app_protocol = 99;
    let refused = Problems(Document::received("push 7", service.resource).unwrap_err()).to_string();
    assert!(refused.contains("Service shop/orders: "), "{refused}");
}

#[test]
fn what_is_written_is_read_as_the_same_resource() {
    for document in Document::parse("orders.yaml", ORDERS).unwrap() {
        let text = crate::yaml(&written(&document.resource).unwrap());
        let again =
            Document::parse("again.yaml", &text).unwrap_or_else(|e| panic!("{}\n{text}", Problems(e)));
        assert_eq!(again[0].resource, document.resource, "{text}");
    }
    let service = &Document::parse("orders.yaml", ORDERS).unwrap()[2];
    let text = crate::yaml(&written(&service.resource).unwrap());
    assert!(
        text.starts_with("apiVersion: trama.dev/v1alpha1\nkind: Service\nmetadata:\n  labels:\n"),
        "{text}"
    );
}

/// YAML would take a bare `80` or `no` for something else than text.
#[test]
fn a_text_stays_a_text() {
    let long = "many words ".repeat(30);
    let texts = [
        "80",
        "0x10",
        "1e3",
        "no",
        "true",
        "null",
        "~",
        "",
        " a ",
        "a: b",
        "a #b",
        "- a",
        "'",
        "\"",
        "a\nb",
        "---",
        "2026-11-21",
        "*a",
        "&a",
        "!a",
        "\u{7}",
        "${a}",
        "%a",
        "é",
        &long,
    ];
    for text in texts {
        let metadata = Metadata {
            name: "orders".to_owned(),
            labels: [("l".to_owned(), text.to_owned())].into(),
            ..Metadata::default()
        };
        let resource = Resource::Telemetry(policy::v1::Telemetry {
            metadata: Some(metadata),
            spec: Some(policy::v1::TelemetrySpec::default()),
        });
        let written = crate::yaml(&written(&resource).unwrap());
        let again =
            Document::parse("t.yaml", &written).unwrap_or_else(|e| panic!("{}\n{written}", Problems(e)));
        assert_eq!(again[0].resource, resource, "{written}");
    }
}

#[test]
fn the_version_of_documents_is_the_schemas() {
    for kind in KINDS {
        assert_eq!(schema()["$defs"][*kind]["properties"]["apiVersion"]["const"], API_VERSION, "{kind}");
    }
}

/// Else the control plane would refuse, as missing, what a file may say.
#[test]
fn what_is_empty_on_purpose_is_not_missing() {
    let text = "kind: Route\nmetadata: { name: r }\nspec:\n  parentRefs: [{ service: s }]\n  rules:\n\
                \x20 - matches: [{ headers: [{ name: x, value: '' }], queryParams: [{ name: q, value: '' }] }]\n\
                \x20   filters: [{ requestHeaderModifier: { set: [{ name: x, value: '' }] } }]\n---\n\
                kind: RegionalPolicy\nmetadata: { name: p }\n\
                spec: { service: s, mode: WEIGHTED, weights: [{ region: r, weight: 0 }] }\n";
    for document in Document::parse("p.yaml", text).unwrap_or_else(|e| panic!("{}", Problems(e))) {
        let received = Document::received("a request", document.resource.clone());
        assert_eq!(received.unwrap_or_else(|e| panic!("{}", Problems(e))).resource, document.resource);
        let again = crate::yaml(&written(&document.resource).unwrap());
        let again = Document::parse("again.yaml", &again).unwrap_or_else(|e| panic!("{}", Problems(e)));
        assert_eq!(again[0].resource, document.resource);
    }
    // What no document may leave empty is still missed.
    let nameless =
        Resource::Telemetry(policy::v1::Telemetry { metadata: Some(Metadata::default()), spec: None });
    let missed = Document::received("a request", nameless).unwrap_err();
    let missed: Vec<_> =
        missed.iter().map(|problem| (problem.field.as_str(), problem.problem.as_str())).collect();
    assert_eq!(missed, [("spec", "missing"), ("metadata.name", "missing")]);
}

#[test]
fn of_a_text_with_problems_the_rest_is_read_with_its_places() {
    let text = "kind: Service
metadata: { name: a, labels: [] }
spec: { ports: [{ prot: 80 }, { port: 81 }], loadBalancing: {} }
---
kind: Servis
metadata: { name: b }
---
kind: Telemetry
metadata: { name: c }
spec: { tracing: { samplingPercent: 5 } }
";
    let Reading { documents, problems } = Document::read("p.yaml", text);
    let ids: Vec<_> = documents.iter().map(|document| document.id.to_string()).collect();
    assert_eq!(ids, ["Service default/a", "Telemetry default/c"], "{}", Problems(problems.clone()));
    let Resource::Service(service) = &documents[0].resource else { panic!("a service") };
    let spec = service.spec.as_ref().unwrap();
    assert!(spec.load_balancing.is_some());
    assert_eq!(spec.ports.iter().map(|port| port.port).collect::<Vec<_>>(), [0, 81]);
    assert_eq!(documents[0].line_of("spec.ports[1].port").unwrap().line, 3);
    assert_eq!(Document::parse("p.yaml", text).unwrap_err(), problems);
    let broken = Document::read("p.yaml", "a: [");
    assert_eq!((broken.documents.len(), broken.problems.len()), (0, 1));
}
