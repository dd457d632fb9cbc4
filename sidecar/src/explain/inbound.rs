//! A request that comes in: whether its caller may, which policy says so, and what the filters before the application do.

use std::net::SocketAddr;

use http::Method;
use trama_proto::explain::v1::{
    Authorization, ConsideredPolicy, Outcome, considered_policy::Action, outcome,
};

use super::{Explaining, Incoming};
use crate::{
    authz::{self, Call, Condition, Considered, Decision, Gate, Kind, Refusal},
    config::snapshot::{AppProtocol, AuthzAction, SpiffeId},
    error::Failure,
    http::{fields, shape},
    telemetry::HandshakeFailure,
};

/// Rules of a policy whose reasons are told.
const MOST_RULES: usize = 10;

/// Who calls whom.
#[derive(Clone, Debug)]
pub(super) struct Inbound {
    /// Who has proved to be it; `None`: the request comes in plainly.
    pub(super) caller: Option<SpiffeId>,
    /// Where the application is called.
    pub(super) application: SocketAddr,
}

impl Explaining<'_> {
    /// The way of a request that comes in, top to bottom; what carries it ends where it is not HTTP.
    pub(super) fn comes_in(&mut self, inbound: &Inbound) -> Result<Outcome, Failure> {
        // Connection: what may not be is closed before a request is read.
        let application = match self.let_in(inbound) {
            Ok(application) => application,
            Err(closed) => return Ok(closed),
        };
        let inbound = &Inbound { application, caller: inbound.caller.clone() };
        if self.snapshot.destinations.of_address(application).spoken_here() == AppProtocol::Tcp {
            return self.bytes_come_in(inbound);
        }

        // Hygiene.
        let mut head = self.described.head.clone();
        shape::inner(&mut head)?;

        // Caller.
        self.authorize(inbound, Some((&head.method, head.uri.path())))?;
        fields::strip_hop_by_hop(&mut head.headers);
        head.headers.remove(fields::CLIENT_VERSION);

        // Filters.
        let chain = self.snapshot.destinations.inbound(inbound.application, self.own());
        self.told.service_filters = self.filters(chain);
        if let Some(answered) = self.pass(chain, &mut head, true)? {
            return Ok(answered);
        }
        Ok(reaches(inbound))
    }

    /// What becomes of a connection whose bytes nobody looks at: no policy can know its method or path.
    fn bytes_come_in(&mut self, inbound: &Inbound) -> Result<Outcome, Failure> {
        self.authorize(inbound, None)?;
        let chain = self.snapshot.destinations.inbound(inbound.application, self.own());
        self.told.service_filters = self.filters(chain);
        if let Some(chain) = chain {
            self.admit(chain)?;
        }
        Ok(reaches(inbound))
    }

    /// Where the application listens, if the connection may be; else how it ends.
    fn let_in(&mut self, Inbound { caller, application }: &Inbound) -> Result<SocketAddr, Outcome> {
        let open = Gate::default();
        let gate = match (self.incoming, caller) {
            (None, caller) => {
                self.assume(caller.as_ref(), application.port());
                &open
            }
            (Some(Incoming { identity: None, .. }), Some(_)) => {
                let detail = "the sidecar has no identity, so no other one gets through to it".to_owned();
                return Err(closed(HandshakeFailure::NoIdentity.name(), detail));
            }
            (Some(Incoming { gate, identity, .. }), Some(id)) if !gate.trusts(id, identity) => {
                let detail = format!("the trust domain `{}` is not the sidecar's", id.trust_domain());
                return Err(closed(HandshakeFailure::WrongIdentity.name(), detail));
            }
            (Some(Incoming { gate, .. }), _) => gate,
        };
        let may_be = match caller {
            Some(_) => Ok(()),
            None => authz::plain_passes(self.snapshot, application.port()),
        };
        may_be.and_then(|()| gate.application(*application)).map_err(|failure| {
            closed(failure.reason.name(), failure.detail.as_deref().unwrap_or_default().to_owned())
        })
    }

    fn assume(&mut self, caller: Option<&SpiffeId>, port: u16) {
        let Some(knowledge) = &mut self.told.knowledge else { return };
        knowledge.assumed.push(format!(
            "port {port} is one of the application's that its sidecar lets be reached (`application.allowedPorts`), and \
             none of the sidecar's own"
        ));
        knowledge
            .assumed
            .push("the application is called where it listens (`application.address`)".to_owned());
        if let Some(id) = caller {
            let domain = id.trust_domain();
            knowledge.assumed.push(format!("its sidecar takes callers of the trust domain `{domain}`"));
        }
        let whose = "whose the application is its address alone says, not its sidecar's `node.service`";
        knowledge.assumed.push(whose.to_owned());
    }

    /// Whose the application is where its address is in no policy.
    fn own(&self) -> &str {
        self.incoming.map_or("", |incoming| incoming.service)
    }

    /// `http`: method and path, where they can be known.
    fn authorize(&mut self, inbound: &Inbound, http: Option<(&Method, &str)>) -> Result<(), Failure> {
        let policies = self.snapshot.destinations.authorization(inbound.application, self.own());
        let Some(policies) = policies else {
            let why = "no AuthzPolicy is for this application: whoever the mesh lets come may call it";
            self.told.authorization = Some(Authorization { why: why.to_owned(), ..Authorization::default() });
            return Ok(());
        };
        let port = inbound.application.port();
        let call = Call { identity: inbound.caller.as_ref(), http, port };
        let Decision { denied, would_deny } = authz::decide(policies, &call);
        let considered = authz::considered(policies, &call);
        let allows = considered.iter().find(|it| {
            it.policy.enforced && it.policy.action == AuthzAction::Allow && it.matching().is_some()
        });
        let (decides, why) = match (denied, allows) {
            (Some(Refusal { policy, kind: Kind::Denied }), _) => {
                (Some(policy), format!("the DENY policy {policy} matches"))
            }
            (Some(Refusal { policy, kind: Kind::NotAllowed }), _) => {
                (Some(policy), "none of the ALLOW policies matches".to_owned())
            }
            (None, Some(allows)) => {
                (Some(&allows.policy.name), format!("the ALLOW policy {} matches", allows.policy.name))
            }
            (None, None) => (None, "no DENY policy matches, and no ALLOW policy is enforced".to_owned()),
        };
        let told = considered.iter().map(|it| told(it, decides.is_some_and(|name| *name == it.policy.name)));
        let would_deny = would_deny.map(|Refusal { policy, kind }| format!("{kind} by {policy}"));
        self.told.authorization =
            Some(Authorization { policies: told.collect(), why, would_deny: would_deny.unwrap_or_default() });
        denied.map_or(Ok(()), |refusal| Err(refusal.failure()))
    }
}

/// The end of a connection that is closed before a request is read: nobody is told a status.
fn closed(reason: &str, detail: String) -> Outcome {
    let (result, reason) = (outcome::Result::Refused.into(), reason.to_owned());
    let detail = format!("the connection is closed: {detail}");
    Outcome { result, reason, detail, ..Outcome::default() }
}

fn reaches(inbound: &Inbound) -> Outcome {
    let detail = format!("to the application at {}", inbound.application);
    Outcome { result: outcome::Result::Forwarded.into(), detail, ..Outcome::default() }
}

fn told(considered: &Considered<'_>, decides: bool) -> ConsideredPolicy {
    let policy = considered.policy;
    let action = match policy.action {
        AuthzAction::Deny => Action::Deny,
        AuthzAction::Allow => Action::Allow,
    };
    ConsideredPolicy {
        name: policy.name.to_string(),
        action: action.into(),
        enforced: policy.enforced,
        matches: considered.matching().is_some(),
        decides,
        why: why(considered),
    }
}

fn why(considered: &Considered<'_>) -> String {
    if let Some(rule) = considered.matching() {
        return format!("rule {} matches", rule + 1);
    }
    let rules = considered.unmet.iter().enumerate().take(MOST_RULES);
    let mut reasons: Vec<_> =
        rules.map(|(rule, unmet)| format!("rule {}: {}", rule + 1, missed(unmet))).collect();
    if considered.unmet.len() > MOST_RULES {
        reasons.push(format!("and {} more that do not match", considered.unmet.len() - MOST_RULES));
    }
    if reasons.is_empty() { "it has no rules".to_owned() } else { reasons.join("; ") }
}

fn missed(unmet: &[Condition]) -> String {
    let words = unmet.iter().map(|condition| match condition {
        Condition::Port => "the port is none of its",
        Condition::Identity => "the caller is none of its",
        Condition::Method => "the method is none of its",
        Condition::Path => "the path is none of its",
    });
    words.collect::<Vec<_>>().join(", ")
}
