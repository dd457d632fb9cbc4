//! Whether a policy is good: the judgement of the sidecars themselves, asked before anything is stored.

use std::{collections::HashMap, sync::Arc};

use trama_proto::{
    Problem, QualifiedName,
    admin::v1::PolicyProblem,
    discovery::v1::ResourceName,
    document::{Document, Resource, ResourceId},
};
use trama_sidecar::config::{
    convert::{self, Extent, Local},
    snapshot::state::Registry,
};

/// A resource's new content; `None`: it goes.
pub type Edit = (ResourceId, Option<Resource>);

/// The most bytes of a policy as a whole. A sidecar takes a push of twice as many, for it is told of the endpoints twice: where
/// they are, and how they are reached.
const MOST_BYTES: usize = 256 << 20;
/// The most endpoints of one service. Where they are is told in one message, with some 30 bytes for each.
const MOST_ENDPOINTS: usize = 1_000_000;

/// What would be wrong after these edits of what is in force, and is not wrong now. So a policy that an earlier version
/// took, and this one would not, can still be mended step by step. In the order of the edits, and of the fields in each;
/// what they break elsewhere comes last.
pub fn judge(in_force: &[Arc<Document>], edits: &[Edit]) -> Vec<PolicyProblem> {
    let order: HashMap<_, _> = edits.iter().enumerate().map(|(at, (id, _))| (id, at)).collect();
    let (mut written, mut malformed) = (Vec::new(), Vec::new());
    for resource in edits.iter().filter_map(|(_, resource)| resource.as_ref()) {
        match Document::received("this request", resource.clone()) {
            Ok(document) => written.push(Arc::new(document)),
            Err(problems) => malformed.extend(problems),
        }
    }
    // Without what is malformed everything that refers to it would seem wrong too.
    let mut found = malformed;
    if found.is_empty() {
        let kept = in_force.iter().filter(|document| !order.contains_key(&document.id));
        let after: Vec<_> = kept.chain(&written).map(|document| &**document).collect();
        found = compile(&after);
        if found.is_empty() {
            found.extend(too_large(&after, &written, Most { bytes: MOST_BYTES, endpoints: MOST_ENDPOINTS }));
        } else {
            let before = compile(&in_force.iter().map(|document| &**document).collect::<Vec<_>>());
            found.retain(|problem| before.iter().all(|old| !is_same(problem, old)));
        }
    }
    let place = |problem: &Problem| {
        let id = order.iter().find(|(id, _)| id.to_string() == problem.resource);
        (id.map_or(usize::MAX, |(_, at)| *at), problem.resource.clone(), steps(&problem.field))
    };
    found.sort_by_cached_key(place);
    found.into_iter().map(told).collect()
}

fn compile(documents: &[&Document]) -> Vec<Problem> {
    // Where the sidecar is changes which regions are near, not what is wrong.
    match convert::convert_part(documents, Extent::Whole, &Local::default(), &mut Registry::default(), 0) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0,
    }
}

/// The most that every sidecar can be told.
#[derive(Clone, Copy)]
struct Most {
    bytes: usize,
    endpoints: usize,
}

/// What of the policy no new sidecar could be told: it would come back again and again. What only deletes is never too large.
fn too_large(after: &[&Document], written: &[Arc<Document>], most: Most) -> Option<Problem> {
    let largest = written.iter().max_by_key(|document| document.resource.encoded_len())?;
    let bytes: usize = after.iter().map(|document| document.resource.encoded_len()).sum();
    if bytes > most.bytes {
        let problem =
            format!("with it the policy has more than the {} bytes that a sidecar takes", most.bytes);
        let remedy =
            "delete what is not needed, write less, or divide the mesh; this is the largest of the request";
        return Some(largest.problem("", bytes.to_string(), problem, remedy));
    }
    let mut endpoints = HashMap::new();
    for (of, number) in after.iter().filter_map(|document| endpoints_of(document)) {
        *endpoints.entry(of).or_insert(0) += number;
    }
    let most = most.endpoints;
    let crowded =
        |document: &&Arc<Document>| endpoints_of(document).is_some_and(|(of, _)| endpoints[&of] > most);
    let crowded = written.iter().find(crowded)?;
    let (of, _) = endpoints_of(crowded)?;
    let problem = format!("with them the service has more than {most}, which a sidecar cannot be told");
    let remedy = "make several services of it";
    Some(crowded.problem("spec.endpoints", endpoints[&of].to_string(), problem, remedy))
}

/// The service that a set of endpoints is of, and how many it has.
fn endpoints_of(document: &Document) -> Option<((&str, &str), usize)> {
    let Resource::EndpointSet(set) = &document.resource else { return None };
    let spec = set.spec.as_ref()?;
    Some(((&document.id.namespace, &spec.service), spec.endpoints.len()))
}

/// Whether it is the same fault, wherever it was written.
fn is_same(one: &Problem, other: &Problem) -> bool {
    (&one.resource, &one.field, &one.value, &one.problem)
        == (&other.resource, &other.field, &other.value, &other.problem)
}

/// A field step by step, so that the tenth rule comes after the second.
fn steps(field: &str) -> Vec<(String, Option<usize>)> {
    let step = |step: &str| {
        let (name, index) = step.split_once('[').unwrap_or((step, ""));
        (name.to_owned(), index.trim_end_matches(']').parse().ok())
    };
    field.split('.').map(step).collect()
}

fn told(problem: Problem) -> PolicyProblem {
    let Problem { resource, field, value, problem, remedy, .. } = problem;
    PolicyProblem { name: named(&resource), field, value, problem, remedy }
}

/// `Route shop/orders`, taken apart again.
fn named(resource: &str) -> Option<ResourceName> {
    let (kind, rest) = resource.split_once(' ')?;
    let QualifiedName { namespace, name } = QualifiedName::parse(rest).ok()?;
    Some(ResourceName { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str =
        "kind: Service\nmetadata: { name: orders, namespace: shop }\nspec: { ports: [{ port: 80 }] }\n";
    const ROUTE: &str = "kind: Route\nmetadata: { name: r, namespace: shop }\n\
                         spec: { parentRefs: [{ service: orders }], rules: [{ backendRefs: [{ service: ordres }] }] }\n";

    fn edits(text: &str) -> Vec<Edit> {
        let documents = Document::parse("test", text).unwrap();
        documents.into_iter().map(|document| (document.id, Some(document.resource))).collect()
    }

    fn in_force(text: &str) -> Vec<Arc<Document>> {
        let resources = edits(text).into_iter().map(|(_, resource)| resource.unwrap());
        resources.map(|resource| Arc::new(Document::of_judged("the policy in force", resource))).collect()
    }

    #[test]
    fn what_refers_to_nothing_is_told_with_field_value_and_remedy() {
        let found = judge(&in_force(SERVICE), &edits(ROUTE));
        assert_eq!(found.len(), 1, "{found:?}");
        let PolicyProblem { name, field, value, problem, remedy } = &found[0];
        assert_eq!(name.as_ref().unwrap().name, "r");
        assert_eq!(field, "spec.rules[0].backendRefs[0].service");
        assert_eq!((value.as_str(), problem.as_str()), ("\"ordres\"", "no such service in namespace `shop`"));
        assert_eq!(remedy, "did you mean `orders`?");
    }

    #[test]
    fn what_others_refer_to_may_not_go_unless_they_go_too() {
        let good = ROUTE.replace("ordres", "orders");
        let world = in_force(&format!("{SERVICE}---\n{good}"));
        let mut going: Vec<Edit> = edits(SERVICE).into_iter().map(|(id, _)| (id, None)).collect();
        let found = judge(&world, &going);
        assert!(found.iter().any(|problem| problem.field == "spec.parentRefs[0].service"), "{found:?}");
        going.extend(edits(&good).into_iter().map(|(id, _)| (id, None)));
        assert_eq!(judge(&world, &going), []);
    }

    #[test]
    fn a_message_is_judged_as_a_file_is() {
        let mut edits = edits(SERVICE);
        let Some(Resource::Service(service)) = &mut edits[0].1 else { panic!("a service") };
        service.spec.as_mut().unwrap().ports[0].port = 70_000;
        let found = judge(&[], &edits);
        assert_eq!((found.len(), found[0].field.as_str()), (1, "spec.ports[0].port"), "{found:?}");
        assert_eq!(found[0].value, "70000");

        let Some(Resource::Service(service)) = &mut edits[0].1 else { panic!("a service") };
        service.spec.as_mut().unwrap().ports[0].app_protocol = 99;
        assert!(!judge(&[], &edits).is_empty(), "an enum's number that there is not");
    }

    #[test]
    fn an_old_fault_does_not_stop_what_has_nothing_to_do_with_it() {
        let world = in_force(&format!("{SERVICE}---\n{ROUTE}"));
        assert_eq!(judge(&world, &edits(&SERVICE.replace("orders", "stock"))), []);
    }

    #[test]
    fn problems_are_told_in_the_order_of_the_request_and_of_its_fields() {
        let rule = "{ backendRefs: [{ service: nowhere }] }";
        let many = |name: &str, path: &str| {
            let rules = (0..11).map(|at| {
                rule.replace("{ b", &format!("{{ matches: [{{ path: {{ value: /{path}{at} }} }}], b"))
            });
            let rules = rules.collect::<Vec<_>>().join(", ");
            format!(
                "kind: Route\nmetadata: {{ name: {name}, namespace: shop }}\n\
                     spec: {{ parentRefs: [{{ service: orders }}], rules: [{rules}] }}\n---\n"
            )
        };
        let text = many("z", "z") + &many("a", "a");
        let found = judge(&in_force(SERVICE), &edits(&text));
        let told = found.iter().map(|it| (it.name.as_ref().unwrap().name.clone(), it.field.clone()));
        let expected = ["z", "a"].into_iter().flat_map(|name| {
            (0..11).map(move |at| (name.to_owned(), format!("spec.rules[{at}].backendRefs[0].service")))
        });
        assert!(told.eq(expected), "{found:#?}");
        // What is broken elsewhere comes last.
        let good = ROUTE.replace("ordres", "orders");
        let mut both = edits(&many("z", "z"));
        both.push((edits(SERVICE).remove(0).0, None));
        let found = judge(&in_force(&format!("{SERVICE}---\n{good}")), &both);
        assert_eq!(found.last().unwrap().name.as_ref().unwrap().name, "r");
    }

    #[test]
    fn more_than_a_sidecar_can_be_told_is_refused_and_may_always_be_deleted() {
        let endpoints = |name: &str, number: usize| {
            let list = vec!["{ address: 10.0.0.1 }"; number].join(", ");
            format!(
                "kind: EndpointSet\nmetadata: {{ name: {name}, namespace: shop }}\n\
                 spec: {{ service: orders, endpoints: [{list}] }}\n---\n"
            )
        };
        let world = in_force(&(SERVICE.to_owned() + "---\n" + &endpoints("a", 3)));
        let written = in_force(&(endpoints("b", 2) + &endpoints("c", 1)));
        let after: Vec<_> = world.iter().chain(&written).map(|document| &**document).collect();
        let bytes = after.iter().map(|document| document.resource.encoded_len()).sum();
        let found = |most, written| too_large(&after, written, most);
        let enough = Most { bytes, endpoints: 6 };
        assert!(found(enough, &written).is_none());

        let large = found(Most { bytes: bytes - 1, ..enough }, &written).unwrap();
        assert_eq!((large.resource.as_str(), large.field.as_str()), ("EndpointSet shop/b", ""));
        assert_eq!(large.value, bytes.to_string());
        assert!(large.problem.contains(&(bytes - 1).to_string()) && large.remedy.contains("divide the mesh"));

        let crowded = found(Most { endpoints: 5, ..enough }, &written).unwrap();
        assert_eq!(
            (crowded.resource.as_str(), crowded.field.as_str()),
            ("EndpointSet shop/b", "spec.endpoints")
        );
        assert_eq!((crowded.value.as_str(), crowded.problem.contains("more than 5")), ("6", true));
        assert!(found(Most { bytes: 0, endpoints: 0 }, &[]).is_none());
    }
}
