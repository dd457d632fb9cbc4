//! Errors of the Admin API, with google.rpc details.

use std::time::Duration;

use tonic::Status;
use tonic_types::{ErrorDetails, FieldViolation};
use trama_proto::{
    Problem, Problems, QualifiedName,
    admin::v1::PolicyProblem,
    discovery::v1::{Failure, ResourceName, failure},
    document::ResourceId,
    duration,
};

use crate::{identity::IdentityError, reason::Reason, store::StoreError, stream::Unanswered, traces::Reach};

/// A policy that is not good: a violation for each problem.
pub(super) fn refused(problems: &[PolicyProblem]) -> Status {
    let violations: Vec<_> = problems.iter().map(violation).collect();
    let first = problems.first().map(sentence).unwrap_or_default();
    let message = match problems.len() {
        1 => format!("the policy is refused, nothing is changed: {first}"),
        many => {
            format!("the policy is refused, nothing is changed: {first} (and {} more problems)", many - 1)
        }
    };
    Reason::PolicyRefused.status_with(message, ErrorDetails::with_bad_request(violations), &[])
}

fn violation(problem: &PolicyProblem) -> FieldViolation {
    let mut field = problem.name.as_ref().map(told).unwrap_or_default();
    if !problem.field.is_empty() {
        field = format!("{field} {}", problem.field);
    }
    FieldViolation::new(field.trim(), what(problem))
}

fn sentence(problem: &PolicyProblem) -> String {
    let FieldViolation { field, description, .. } = violation(problem);
    format!("{field}: {description}")
}

fn what(PolicyProblem { value, problem, remedy, .. }: &PolicyProblem) -> String {
    let got = if value.is_empty() { String::new() } else { format!(", got {value}") };
    format!("{problem}{got}; {remedy}")
}

/// A field of a request that cannot be used. `problem` names the remedy too.
pub(super) fn field(field: &str, value: &str, problem: &str) -> Status {
    let description = format!("{problem}, got `{value}`");
    let message = format!("{field}: {description}");
    let details = ErrorDetails::with_bad_request_violation(field, description);
    Reason::BadRequest.status_with(message, details, &[])
}

/// There is no such resource.
pub(super) fn not_found(name: &ResourceName) -> Status {
    let message = format!("there is no {}", told(name));
    of_resource(Reason::NotFound, name, message)
}

/// The same, with what was probably meant.
pub(super) fn not_found_but(name: &ResourceName, near: Option<QualifiedName<'_>>) -> Status {
    let Some(near) = near else { return not_found(name) };
    let message = format!("there is no {}; did you mean `{near}`?", told(name));
    of_resource(Reason::NotFound, name, message)
}

/// No such sidecar has a stream.
pub(super) fn no_sidecar(name: QualifiedName<'_>, near: Option<QualifiedName<'_>>) -> Status {
    let remedy =
        near.map_or_else(|| "Status tells which are".to_owned(), |near| format!("did you mean `{near}`?"));
    let message = format!("no sidecar {name} is connected; {remedy}");
    of_sidecar(Reason::NotFound, &name.to_string(), message)
}

/// Sidecars of several identities say that they have this name.
pub(super) fn ambiguous_sidecar(name: QualifiedName<'_>, candidates: &[String]) -> Status {
    let candidates = candidates.join("`, `");
    let message =
        format!("sidecars of several identities call themselves {name}; say which one: `{candidates}`");
    of_sidecar(Reason::SidecarAmbiguous, &name.to_string(), message)
}

/// A sidecar does not answer. `within`: the field of the request that the question is; empty: it is the request.
pub(super) fn unanswered(name: &str, within: &str, why: &Unanswered) -> Status {
    use failure::Reason as Said;
    let reason = match why {
        Unanswered::Unable => Reason::SidecarUnable,
        Unanswered::Busy => Reason::SidecarBusy,
        Unanswered::Late(_) => Reason::SidecarSilent,
        Unanswered::Gone => Reason::SidecarGone,
        Unanswered::TooLarge { .. } => Reason::SidecarAnswerTooLarge,
        Unanswered::Foreign => Reason::SidecarAnswerForeign,
        Unanswered::Refused(failure) => match failure.reason() {
            Said::Refused => return refused_by(name, within, failure),
            Said::TooLarge => Reason::SidecarAnswerTooLarge,
            Said::Busy => Reason::SidecarBusy,
            Said::Unknown | Said::Unspecified => Reason::SidecarUnable,
        },
    };
    of_sidecar(reason, name, format!("{name}: {why}"))
}

/// A sidecar has something against the question.
fn refused_by(name: &str, within: &str, Failure { field, problem, .. }: &Failure) -> Status {
    let field = [within, field].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".");
    let message = format!("{name}: {field}: {problem}");
    let details = ErrorDetails::with_bad_request_violation(field, problem);
    Reason::BadRequest.status_with(message, details, &[])
}

/// What is described is no request: a violation for each problem.
pub(super) fn described(problems: &Problems) -> Status {
    let violation = |Problem { field, value, problem, remedy, .. }: &Problem| {
        FieldViolation::new(format!("request.{field}"), format!("{problem}, got {value}; {remedy}"))
    };
    let violations: Vec<_> = problems.0.iter().map(violation).collect();
    let told = |FieldViolation { field, description, .. }: &FieldViolation| format!("{field}: {description}");
    let message = violations.iter().map(told).collect::<Vec<_>>().join("\n");
    Reason::BadRequest.status_with(message, ErrorDetails::with_bad_request(violations), &[])
}

fn of_sidecar(reason: Reason, name: &str, message: String) -> Status {
    let details = ErrorDetails::with_resource_info("Sidecar", name, "", &message);
    reason.status_with(message, details, &[])
}

/// There is no such trace, at least not any more. `sampled`: the share of requests that policy has traced, in percent.
pub(super) fn no_trace(id: &str, sampled: f64, reach: Reach) -> Status {
    let Reach { age, oldest } = reach;
    let oldest = match oldest {
        Some(oldest) => {
            format!("the oldest came {} ago", duration::format(Duration::from_secs(oldest.as_secs())))
        }
        None => "there is none at present".to_owned(),
    };
    let message = format!(
        "no trace {id} is kept: its spans come a second after the request's end and stay {} at most (`traces.window` of \
         the control plane; {oldest}), and of the requests that come without a trace policy has {sampled} % traced \
         (`tracing.samplingPercent` of the Telemetry)",
        duration::format(age)
    );
    let details = ErrorDetails::with_resource_info("Trace", id, "", &message);
    Reason::NotFound.status_with(message, details, &[])
}

/// It is not at the version that was expected.
pub(super) fn changed(id: &ResourceId, expected: u64, found: u64) -> Status {
    let is = |version| if version == 0 { "absent".to_owned() } else { format!("at version {version}") };
    let message = format!(
        "{id} is {}, expected was that it is {}; nothing is changed: read it again",
        is(found),
        is(expected)
    );
    of_resource(Reason::VersionChanged, &name(id), message)
}

/// A watch that begins where nobody remembers.
pub(super) fn out_of_range(message: impl Into<String>) -> Status {
    Reason::RevisionOutOfRange.status(message)
}

/// Too much of something.
pub(super) fn too_much(message: impl Into<String>) -> Status {
    Reason::TooMuch.status(message)
}

pub(super) fn of_store(error: StoreError) -> Status {
    let message = error.to_string();
    match error {
        StoreError::TooLarge { .. } | StoreError::TooManyChanges { .. } | StoreError::Full(_) => {
            too_much(message)
        }
        StoreError::Compacted { .. } => out_of_range(message),
        StoreError::Conflict { .. } => Reason::VersionChanged.status(message),
        StoreError::BadKey { .. } | StoreError::TwiceInOne { .. } => Reason::BadRequest.status(message),
        StoreError::Damaged(_) => Reason::StoreDamaged.status(message),
        StoreError::Unavailable(_) => Reason::StoreUnavailable.status(message),
    }
}

pub(super) fn of_identity(error: IdentityError) -> Status {
    match error {
        IdentityError::Store(error) => of_store(error),
        IdentityError::BadIdentity { id, rule } => field("identity", &id, &rule),
        other => Reason::Internal.status(other.to_string()),
    }
}

pub(super) fn name(id: &ResourceId) -> ResourceName {
    ResourceName { kind: id.kind.to_owned(), namespace: id.namespace.clone(), name: id.name.clone() }
}

fn of_resource(reason: Reason, name: &ResourceName, message: String) -> Status {
    let details = ErrorDetails::with_resource_info(&name.kind, told(name), "", &message);
    reason.status_with(message, details, &[])
}

fn told(ResourceName { kind, namespace, name }: &ResourceName) -> String {
    format!("{kind} {namespace}/{name}")
}
