//! How each policy is considered, one by one: what [`super::decide`] sees and does not tell.

use super::{Call, Judged};
use crate::config::snapshot::{Authorization, AuthzAction, AuthzPolicy, AuthzRule};

/// What a policy makes of a call.
#[derive(Clone, Debug)]
pub struct Considered<'p> {
    /// The policy.
    pub policy: &'p AuthzPolicy,
    /// What of each of its rules does not hold; of one that matches nothing.
    pub unmet: Vec<Vec<Condition>>,
}

/// A condition of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The application's port.
    Port,
    /// The caller.
    Identity,
    /// The method.
    Method,
    /// The path.
    Path,
}

impl Considered<'_> {
    /// The first rule that matches, from 0.
    pub fn matching(&self) -> Option<usize> {
        self.unmet.iter().position(Vec::is_empty)
    }
}

/// All of them, in the order in which they count: DENY before ALLOW.
pub fn considered<'p>(policies: &'p Authorization, call: &Call<'_>) -> Vec<Considered<'p>> {
    let judged = Judged::new(call);
    let of = |action| policies.0.iter().filter(move |policy| policy.action == action);
    let all = of(AuthzAction::Deny).chain(of(AuthzAction::Allow));
    all.map(|policy| Considered {
        policy,
        unmet: policy.rules.iter().map(|rule| unmet(&judged, rule, policy.action)).collect(),
    })
    .collect()
}

fn unmet(judged: &Judged<'_>, rule: &AuthzRule, action: AuthzAction) -> Vec<Condition> {
    let held = [
        (Condition::Port, judged.is_port(rule)),
        (Condition::Identity, judged.is_caller(rule)),
        (Condition::Method, judged.is_method(rule, action)),
        (Condition::Path, judged.is_path(rule, action)),
    ];
    held.into_iter().filter(|(_, holds)| !holds).map(|(condition, _)| condition).collect()
}
