//! Whether a policy is good: the judgement of the sidecars themselves, asked before anything is stored.

use trama_proto::{
    Problem,
    admin::v1::PolicyProblem,
    discovery::v1::ResourceName,
    document::{Document, Resource, ResourceId},
};
use trama_sidecar::config::{
    convert::{self, Local},
    snapshot::state::Registry,
};

use crate::model::World;

/// A resource's new content; `None`: it goes.
pub type Edit = (ResourceId, Option<Resource>);

/// What would be wrong after these edits and is not wrong now. So a policy that an earlier version took, and this one
/// would not, can still be mended step by step.
pub fn judge(world: &World, edits: &[Edit]) -> Vec<PolicyProblem> {
    let mut malformed = Vec::new();
    let mut after = stored(world, |id| edits.iter().all(|(edited, _)| edited != id));
    for resource in edits.iter().filter_map(|(_, resource)| resource.as_ref()) {
        match Document::received("this request", resource.clone()) {
            Ok(document) => after.push(document),
            Err(problems) => malformed.extend(problems),
        }
    }
    if !malformed.is_empty() {
        // Without them everything that refers to them would seem wrong too.
        return malformed.into_iter().map(told).collect();
    }
    let mut found = compile(&after);
    if !found.is_empty() {
        let before = compile(&stored(world, |_| true));
        found.retain(|problem| !before.contains(problem));
    }
    found
}

fn stored(world: &World, keep: impl Fn(&ResourceId) -> bool) -> Vec<Document> {
    let kept = world.resources().filter(|(id, _)| keep(id));
    kept.map(|(_, held)| Document::of_judged("the policy in force", held.resource.clone())).collect()
}

fn compile(documents: &[Document]) -> Vec<PolicyProblem> {
    // Where the sidecar is changes which regions are near, not what is wrong.
    match convert::convert(documents, &Local::default(), &mut Registry::default(), 0) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0.into_iter().map(told).collect(),
    }
}

fn told(problem: Problem) -> PolicyProblem {
    let Problem { resource, field, value, problem, remedy, .. } = problem;
    PolicyProblem { name: named(&resource), field, value, problem, remedy }
}

/// `Route shop/orders`, taken apart again.
fn named(resource: &str) -> Option<ResourceName> {
    let (kind, rest) = resource.split_once(' ')?;
    let (namespace, name) = rest.split_once('/')?;
    Some(ResourceName { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Stamp;

    const SERVICE: &str =
        "kind: Service\nmetadata: { name: orders, namespace: shop }\nspec: { ports: [{ port: 80 }] }\n";
    const ROUTE: &str = "kind: Route\nmetadata: { name: r, namespace: shop }\n\
                         spec: { parentRefs: [{ service: orders }], rules: [{ backendRefs: [{ service: ordres }] }] }\n";

    fn edits(text: &str) -> Vec<Edit> {
        let documents = Document::parse("test", text).unwrap();
        documents.into_iter().map(|document| (document.id, Some(document.resource))).collect()
    }

    fn world(text: &str) -> World {
        let resources = edits(text).into_iter().map(|(id, resource)| (1, id, resource.unwrap()));
        World::found(Stamp { epoch: 1, revision: 1 }, resources)
    }

    #[test]
    fn what_refers_to_nothing_is_told_with_field_value_and_remedy() {
        let found = judge(&world(SERVICE), &edits(ROUTE));
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
        let world = world(&format!("{SERVICE}---\n{good}"));
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
        let found = judge(&World::default(), &edits);
        assert_eq!((found.len(), found[0].field.as_str()), (1, "spec.ports[0].port"), "{found:?}");
        assert_eq!(found[0].value, "70000");

        let Some(Resource::Service(service)) = &mut edits[0].1 else { panic!("a service") };
        service.spec.as_mut().unwrap().ports[0].app_protocol = 99;
        assert!(!judge(&World::default(), &edits).is_empty(), "an enum's number that there is not");
    }

    #[test]
    fn an_old_fault_does_not_stop_what_has_nothing_to_do_with_it() {
        let world = world(&format!("{SERVICE}---\n{ROUTE}"));
        assert_eq!(judge(&world, &edits(&SERVICE.replace("orders", "stock"))), []);
    }
}
