//! What the control plane says of resources, told by the lines of the files that they are in.

use tonic_types::StatusExt;
use trama_proto::{
    Problem, QualifiedName,
    admin::v1::PolicyProblem,
    document::{Document, ResourceId},
};

use crate::{failure::Failure, files::Files};

/// Where a resource is that is in none of the files: it was applied before.
const IN_FORCE: &str = "the policy in force";

/// A refusal of what the files say, with its places; any other failure stays as it is.
pub(crate) fn refusal(failure: Failure, files: &Files) -> Failure {
    let Failure::Status(status) = &failure else { return failure };
    let Some(details) = status.get_details_bad_request() else { return failure };
    let problems = details.field_violations.iter().map(|violation| {
        let (id, field) = whose(&violation.field, files);
        let (problem, remedy) =
            violation.description.split_once("; ").unwrap_or((&violation.description, "correct it"));
        located(files, id.as_ref(), &field, "", (problem, remedy))
    });
    Failure::Refused(problems.collect())
}

/// A problem that Validate found.
pub(crate) fn problem(found: &PolicyProblem, files: &Files) -> Problem {
    let PolicyProblem { name, field, value, problem, remedy } = found;
    let id = name.as_ref().and_then(|name| ResourceId::new(&name.kind, &name.namespace, &name.name));
    located(files, id.as_ref(), field, value, (problem, remedy))
}

fn located(
    files: &Files,
    id: Option<&ResourceId>,
    field: &str,
    value: &str,
    (problem, remedy): (&str, &str),
) -> Problem {
    if let Some(document) = id.and_then(|id| files.documents.iter().find(|document| document.id == *id)) {
        return document.problem(field, value, problem, remedy);
    }
    Problem {
        resource: id.map(ToString::to_string).unwrap_or_default(),
        field: field.to_owned(),
        value: value.to_owned(),
        ..Problem::of_source(IN_FORCE, problem, remedy)
    }
}

/// The resource and the field of a violation: `Route shop/orders spec.rules[0]`, or by the place in the request,
/// `changes[0].resource.metadata.name`.
fn whose(told: &str, files: &Files) -> (Option<ResourceId>, String) {
    let mut words = told.splitn(3, ' ');
    let named = words.next().zip(words.next()).and_then(|(kind, name)| {
        let QualifiedName { namespace, name } = QualifiedName::parse(name).ok()?;
        ResourceId::new(kind, namespace, name)
    });
    if named.is_some() {
        return (named, words.next().unwrap_or_default().to_owned());
    }
    match by_place(told, files) {
        Some((document, field)) => (Some(document.id.clone()), field.to_owned()),
        None => (None, told.to_owned()),
    }
}

fn by_place<'a>(told: &'a str, files: &'a Files) -> Option<(&'a Document, &'a str)> {
    let (list, rest) = told.split_once('[')?;
    let (index, field) = rest.split_once(']')?;
    let document = files.documents.get(index.parse::<usize>().ok()?)?;
    let field = field.trim_start_matches('.');
    match list {
        "resources" => Some((document, field)),
        "changes" => {
            Some((document, field.strip_prefix("resource").unwrap_or(field).trim_start_matches('.')))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, FieldViolation};
    use trama_proto::discovery::v1::ResourceName;

    use super::*;

    fn files() -> Files {
        let text =
            "kind: Service\nmetadata: { name: orders, namespace: shop }\nspec:\n  ports:\n  - port: 80\n";
        Files { documents: Document::parse("shop.yaml", text).unwrap() }
    }

    fn lines(violations: &[(&str, &str)]) -> Vec<String> {
        let violations: Vec<_> =
            violations.iter().map(|(field, words)| FieldViolation::new(*field, *words)).collect();
        let details = ErrorDetails::with_bad_request(violations);
        let status = Status::with_error_details(Code::InvalidArgument, "refused", details);
        let Failure::Refused(problems) = refusal(status.into(), &files()) else { panic!("a refusal") };
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_violation_gets_the_line_of_its_field() {
        let found = lines(&[
            ("Service shop/orders spec.ports[0].port", "too large, got 70000; write less; or nothing"),
            ("Route shop/orders spec.rules", "no such service, got \"x\"; did you mean `y`?"),
            ("changes[0].resource.metadata.name", "write 1 to 253 characters without a slash, got ``"),
            ("resources[0]", "named twice"),
            ("Service shop//orders spec", "no name"),
            ("changes[7].resource", "strange"),
        ]);
        assert_eq!(
            found,
            [
                "shop.yaml:5:11: Service shop/orders: spec.ports[0].port: too large, got 70000; write less; or nothing",
                "the policy in force: Route shop/orders: spec.rules: no such service, got \"x\"; did you mean `y`?",
                "shop.yaml:2:19: Service shop/orders: metadata.name: write 1 to 253 characters without a slash, got ``; correct it",
                "shop.yaml:1:1: Service shop/orders: named twice; correct it",
                "the policy in force: Service shop//orders spec: no name; correct it",
                "the policy in force: changes[7].resource: strange; correct it",
            ]
        );
    }

    #[test]
    fn what_is_no_refusal_of_fields_stays_as_it_is() {
        let failure = refusal(Status::aborted("somebody was faster").into(), &files());
        assert_eq!(failure.to_string(), "somebody was faster");
    }

    #[test]
    fn a_problem_of_validate_keeps_its_value() {
        let name = ResourceName { kind: "Service".into(), namespace: "shop".into(), name: "orders".into() };
        let found = PolicyProblem {
            name: Some(name),
            field: "spec.ports[0].port".into(),
            value: "80".into(),
            problem: "taken".into(),
            remedy: "take another".into(),
        };
        assert_eq!(
            problem(&found, &files()).to_string(),
            "shop.yaml:5:11: Service shop/orders: spec.ports[0].port: taken, got 80; take another"
        );
    }
}
