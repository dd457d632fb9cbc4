//! Authorisation: who may call what, decided at the side of the application.
//!
//! Everything here is a function of its arguments. A request that a DENY policy matches is refused; else, if there are
//! ALLOW policies, one of them must match. Policies in AUDIT take no part in that; what they would have refused is told
//! beside it.
//!
//! Where it is not certain whether a condition holds, DENY takes it that it does and ALLOW that it does not: a path that
//! servers read in different ways ([`path`]), and method and path of a connection that is not HTTP.

mod considered;
mod gate;
mod path;

#[cfg(test)]
mod tests;

use std::{
    cell::OnceCell,
    fmt::{self, Display, Formatter},
    sync::Arc,
};

use http::Method;

use self::path::Readings;
pub use self::{
    considered::{Condition, Considered, considered},
    gate::Gate,
};
use crate::{
    config::snapshot::{Authorization, AuthzAction, AuthzPolicy, AuthzRule, Snapshot, SpiffeId},
    error::{Failure, Reason},
};

/// A request, or an opaque connection, as policy sees it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'r> {
    /// The caller, if it proved who it is.
    pub identity: Option<&'r SpiffeId>,
    /// Method and path; `None`: it is not HTTP.
    pub http: Option<(&'r Method, &'r str)>,
    /// The application's port.
    pub port: u16,
}

/// What is decided.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Decision<'p> {
    /// It is refused.
    pub denied: Option<Refusal<'p>>,
    /// It would be refused if the policies in AUDIT were enforced; nothing is told of what is refused anyway.
    pub would_deny: Option<Refusal<'p>>,
}

/// A refusal, and by which policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refusal<'p> {
    /// The DENY policy that matches, or the first of the ALLOW policies, none of which does.
    pub policy: &'p Arc<str>,
    /// Which of both.
    pub kind: Kind,
}

/// What kind of refusal it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A DENY policy matches.
    Denied,
    /// None of the ALLOW policies does.
    NotAllowed,
}

impl Refusal<'_> {
    /// What the caller is told.
    pub fn failure(&self) -> Failure {
        let Self { policy, kind } = self;
        Failure::before(Reason::AuthzDenied).detail(format_args!("{kind} by AuthzPolicy {policy}"))
    }
}

impl Kind {
    /// As the metrics say it, and the answer.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::NotAllowed => "not_allowed",
        }
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether policy lets plain connections come to this port of the application.
pub fn plain_passes(snapshot: &Snapshot, port: u16) -> Result<(), Failure> {
    if snapshot.mesh.refuses_plain(port) {
        let reason = snapshot.refusal(Reason::PlainRefused);
        return Err(Failure::before(reason).detail(format_args!("port {port}")));
    }
    Ok(())
}

/// Decides about a call. Allocates only for a path that is asked for and can be read in two ways.
pub fn decide<'p>(policies: &'p Authorization, call: &Call<'_>) -> Decision<'p> {
    let call = Judged::new(call);
    let denied = refusal(policies, &call, |policy| policy.enforced);
    if denied.is_some() || policies.0.iter().all(|policy| policy.enforced) {
        return Decision { denied, would_deny: None };
    }
    Decision { denied, would_deny: refusal(policies, &call, |_| true) }
}

/// What refuses the call, of the policies that count.
fn refusal<'p>(
    policies: &'p Authorization,
    call: &Judged<'_>,
    counts: impl Fn(&AuthzPolicy) -> bool,
) -> Option<Refusal<'p>> {
    let of = |action| policies.0.iter().filter(move |policy| policy.action == action);
    let mut denying = of(AuthzAction::Deny).filter(|policy| counts(policy));
    if let Some(policy) = denying.find(|policy| call.matches(policy)) {
        return Some(Refusal { policy: &policy.name, kind: Kind::Denied });
    }
    let mut allowing = of(AuthzAction::Allow).filter(|policy| counts(policy)).peekable();
    let policy = &allowing.peek()?.name;
    let refused = !allowing.any(|policy| call.matches(policy));
    refused.then_some(Refusal { policy, kind: Kind::NotAllowed })
}

struct Judged<'r> {
    call: &'r Call<'r>,
    /// Made when the first rule asks for a path: most say nothing of it, or fail before.
    readings: OnceCell<Readings<'r>>,
}

impl<'r> Judged<'r> {
    fn new(call: &'r Call<'r>) -> Self {
        Self { call, readings: OnceCell::new() }
    }

    fn matches(&self, policy: &AuthzPolicy) -> bool {
        policy.rules.iter().any(|rule| self.fits(rule, policy.action))
    }

    fn fits(&self, rule: &AuthzRule, action: AuthzAction) -> bool {
        self.is_port(rule)
            && self.is_caller(rule)
            && self.is_method(rule, action)
            && self.is_path(rule, action)
    }

    fn is_port(&self, rule: &AuthzRule) -> bool {
        rule.ports.is_empty() || rule.ports.contains(&self.call.port)
    }

    /// Without an identity nobody is anybody: such a caller matches only rules that ask for none.
    fn is_caller(&self, rule: &AuthzRule) -> bool {
        let identity = self.call.identity.map(|id| id.as_str().as_bytes());
        let is = |id: &[u8]| rule.identities.iter().any(|pattern| pattern.matches(id));
        rule.identities.is_empty() || identity.is_some_and(is)
    }

    fn is_method(&self, rule: &AuthzRule, action: AuthzAction) -> bool {
        let is = |(method, _): (&Method, &str)| rule.methods.contains(method);
        rule.methods.is_empty() || self.call.http.map_or_else(|| in_doubt(action), is)
    }

    fn is_path(&self, rule: &AuthzRule, action: AuthzAction) -> bool {
        if rule.paths.is_empty() {
            return true;
        }
        let Some((_, path)) = self.call.http else { return in_doubt(action) };
        let readings = self.readings.get_or_init(|| Readings::of(path));
        let any = |path: &[u8]| rule.paths.iter().any(|pattern| pattern.matches(path));
        match action {
            AuthzAction::Deny => readings.any(any),
            AuthzAction::Allow => readings.all(any),
        }
    }
}

/// What is taken for true where it cannot be known.
const fn in_doubt(action: AuthzAction) -> bool {
    matches!(action, AuthzAction::Deny)
}
