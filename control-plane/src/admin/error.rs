//! Errors of the Admin API, with google.rpc details.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};
use trama_proto::{
    Problem, Problems,
    admin::v1::PolicyProblem,
    discovery::v1::{Failure, ResourceName, failure::Reason},
    document::ResourceId,
    duration,
};

use crate::{identity::IdentityError, store::StoreError, stream::Unanswered, traces::Reach};

/// Whose reasons these are.
const DOMAIN: &str = "trama.dev";

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
    let mut details = ErrorDetails::with_bad_request(violations);
    details.set_error_info("POLICY_REFUSED", DOMAIN, HashMap::new());
    Status::with_error_details(Code::InvalidArgument, message, details)
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
    let mut details = ErrorDetails::with_bad_request_violation(field, description);
    details.set_error_info("BAD_REQUEST", DOMAIN, HashMap::new());
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// There is no such resource.
pub(super) fn not_found(name: &ResourceName) -> Status {
    let message = format!("there is no {}", told(name));
    of_resource(Code::NotFound, "NOT_FOUND", name, message)
}

/// The same, with what was probably meant.
pub(super) fn not_found_but(name: &ResourceName, near: Option<&str>) -> Status {
    let Some(near) = near else { return not_found(name) };
    let message = format!("there is no {}; did you mean `{near}`?", told(name));
    of_resource(Code::NotFound, "NOT_FOUND", name, message)
}

/// No such sidecar has a stream.
pub(super) fn no_sidecar(name: &str, near: Option<&str>) -> Status {
    let remedy =
        near.map_or_else(|| "Status tells which are".to_owned(), |near| format!("did you mean `{near}`?"));
    let message = format!("no sidecar {name} is connected; {remedy}");
    of_sidecar(Code::NotFound, "NOT_FOUND", name, message)
}

/// A sidecar does not answer.
pub(super) fn unanswered(name: &str, why: &Unanswered) -> Status {
    let (code, reason) = match why {
        Unanswered::Unable => (Code::FailedPrecondition, "SIDECAR_UNABLE"),
        Unanswered::Busy => (Code::ResourceExhausted, "SIDECAR_BUSY"),
        Unanswered::Late => (Code::DeadlineExceeded, "SIDECAR_SILENT"),
        Unanswered::Gone => (Code::Unavailable, "SIDECAR_GONE"),
        Unanswered::TooLarge { .. } => (Code::ResourceExhausted, "SIDECAR_ANSWER_TOO_LARGE"),
        Unanswered::Foreign => (Code::Internal, "SIDECAR_ANSWER_FOREIGN"),
        Unanswered::Refused(failure) => match failure.reason() {
            Reason::Refused => return refused_by(name, failure),
            Reason::TooLarge => (Code::ResourceExhausted, "SIDECAR_ANSWER_TOO_LARGE"),
            Reason::Busy => (Code::ResourceExhausted, "SIDECAR_BUSY"),
            Reason::Unknown | Reason::Unspecified => (Code::FailedPrecondition, "SIDECAR_UNABLE"),
        },
    };
    of_sidecar(code, reason, name, format!("{name}: {why}"))
}

/// A sidecar has something against the question.
fn refused_by(name: &str, Failure { field, problem, .. }: &Failure) -> Status {
    let field = format!("request.{field}");
    let message = format!("{name}: {field}: {problem}");
    let mut details = ErrorDetails::with_bad_request_violation(field.trim_end_matches('.'), problem);
    details.set_error_info("BAD_REQUEST", DOMAIN, HashMap::new());
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// What is described is no request: a violation for each problem.
pub(super) fn described(problems: &Problems) -> Status {
    let violation = |Problem { field, value, problem, remedy, .. }: &Problem| {
        FieldViolation::new(format!("request.{field}"), format!("{problem}, got {value}; {remedy}"))
    };
    let violations: Vec<_> = problems.0.iter().map(violation).collect();
    let told = |FieldViolation { field, description, .. }: &FieldViolation| format!("{field}: {description}");
    let message = violations.iter().map(told).collect::<Vec<_>>().join("\n");
    let mut details = ErrorDetails::with_bad_request(violations);
    details.set_error_info("BAD_REQUEST", DOMAIN, HashMap::new());
    Status::with_error_details(Code::InvalidArgument, message, details)
}

fn of_sidecar(code: Code, reason: &str, name: &str, message: String) -> Status {
    let mut details = ErrorDetails::with_resource_info("Sidecar", name, "", &message);
    details.set_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(code, message, details)
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
    let mut details = ErrorDetails::with_resource_info("Trace", id, "", &message);
    details.set_error_info("NOT_FOUND", DOMAIN, HashMap::new());
    Status::with_error_details(Code::NotFound, message, details)
}

/// It is not at the version that was expected.
pub(super) fn changed(id: &ResourceId, expected: u64, found: u64) -> Status {
    let is = |version| if version == 0 { "absent".to_owned() } else { format!("at version {version}") };
    let message = format!(
        "{id} is {}, expected was that it is {}; nothing is changed: read it again",
        is(found),
        is(expected)
    );
    of_resource(Code::Aborted, "VERSION_CHANGED", &name(id), message)
}

/// A watch that begins where nobody remembers.
pub(super) fn out_of_range(message: impl Into<String>) -> Status {
    let details = ErrorDetails::with_error_info("REVISION_OUT_OF_RANGE", DOMAIN, HashMap::new());
    Status::with_error_details(Code::OutOfRange, message, details)
}

/// Too much of something.
pub(super) fn too_much(message: impl Into<String>) -> Status {
    let details = ErrorDetails::with_error_info("TOO_MUCH", DOMAIN, HashMap::new());
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

pub(super) fn of_store(error: StoreError) -> Status {
    let message = error.to_string();
    match error {
        StoreError::TooLarge { .. } | StoreError::TooManyChanges { .. } | StoreError::Full(_) => {
            too_much(message)
        }
        StoreError::Compacted { .. } => out_of_range(message),
        StoreError::Conflict { .. } => Status::aborted(message),
        StoreError::BadKey { .. } | StoreError::TwiceInOne { .. } => Status::invalid_argument(message),
        StoreError::Damaged(_) => Status::data_loss(message),
        StoreError::Unavailable(_) => Status::unavailable(message),
    }
}

pub(super) fn of_identity(error: IdentityError) -> Status {
    match error {
        IdentityError::Store(error) => of_store(error),
        IdentityError::BadIdentity { id, rule } => field("identity", &id, &rule),
        other => Status::internal(other.to_string()),
    }
}

pub(super) fn name(id: &ResourceId) -> ResourceName {
    ResourceName { kind: id.kind.to_owned(), namespace: id.namespace.clone(), name: id.name.clone() }
}

fn of_resource(code: Code, reason: &str, name: &ResourceName, message: String) -> Status {
    let mut details = ErrorDetails::with_resource_info(&name.kind, told(name), "", &message);
    details.set_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(code, message, details)
}

fn told(ResourceName { kind, namespace, name }: &ResourceName) -> String {
    format!("{kind} {namespace}/{name}")
}
