//! Why a request goes where it goes: the way of `outbound::request`, step by step and by the same functions, with what
//! each of them saw; and of one that comes in, by those of `inbound::request`, whether it may. Nothing is sent and nothing is counted, so that it may be asked of a sidecar that serves.
//!
//! Everything is a function of what it is given: the policy, a copy of what a worker has learned, a time and a random
//! number. What all workers know of endpoints (ejections, failures in a row) hangs on the policy's handles.

mod arguments;
mod attempts;
mod described;
mod destination;
mod endpoints;
mod filters;
mod inbound;
mod routing;

#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderValue, header, request};
use trama_proto::explain::v1::{Explanation, Knowledge, Outcome, outcome};

pub use self::{arguments::Description, described::Described};
use crate::{
    authz::Gate,
    balance::{Draws, Loads},
    config::snapshot::{AppProtocol, Destination, Endpoint, RuleAction, Snapshot, SpiffeId},
    error::{Failure, Reason},
    http::{fields, shape},
    outbound::{
        Meant,
        plan::{self, Plan, Whom},
    },
    route::rewrite::rewrite,
};

/// What is known when a request is explained.
#[derive(Debug)]
pub struct View<'v> {
    /// The policy.
    pub snapshot: &'v Snapshot,
    /// What a worker has learned of endpoints. A copy: those that it meets here for the first time are noted in it.
    pub loads: Loads,
    /// Time on the sidecar's clock.
    pub now: Duration,
    /// What the sidecar itself is to what comes in; `None`: that is not known, and what has to be taken for true is told.
    pub incoming: Option<Incoming<'v>>,
    /// Who knows this; revision, origin and random number are filled in.
    pub knowledge: Knowledge,
}

/// What a sidecar's own configuration says of what comes in.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'v> {
    /// Its ports, and whose workloads may come.
    pub gate: &'v Gate,
    /// Who it is; `None`: nobody, and so no sidecar gets through to it.
    pub identity: Option<&'v SpiffeId>,
    /// Its service, `namespace/name`: whose the application is where its address is in no policy.
    pub service: &'v str,
}

/// Explains a request that decides with this random number.
pub fn explain(described: &Described, view: View<'_>, draw: u64) -> Explanation {
    let mut draws = Draws::new(draw);
    let mut explanation = explain_with(described, view, &mut || draws.next());
    if let Some(knowledge) = &mut explanation.knowledge {
        knowledge.draw = draw;
    }
    explanation
}

/// The same with a random number for each decision, in the order in which a worker draws them.
fn explain_with(described: &Described, view: View<'_>, draw: &mut dyn FnMut() -> u64) -> Explanation {
    let View { snapshot, loads, now, incoming, mut knowledge } = view;
    knowledge.revision = snapshot.revision.to_string();
    knowledge.origin = snapshot.origin.name().to_owned();
    let told =
        Explanation { request: described.to_string(), knowledge: Some(knowledge), ..Explanation::default() };
    let mut explaining = Explaining { described, snapshot, loads, now, incoming, draw, serving: None, told };
    let outcome = match &described.inbound {
        Some(inbound) => explaining.comes_in(inbound),
        None => explaining.outcome(),
    };
    let outcome = outcome.unwrap_or_else(|failure| refused(&failure));
    Explanation { outcome: Some(outcome), ..explaining.told }
}

/// An explanation under way.
struct Explaining<'e> {
    described: &'e Described,
    snapshot: &'e Snapshot,
    loads: Loads,
    now: Duration,
    incoming: Option<Incoming<'e>>,
    draw: &'e mut dyn FnMut() -> u64,
    /// Who was asked last.
    serving: Option<Arc<Endpoint>>,
    told: Explanation,
}

impl Explaining<'_> {
    /// The way of a request, top to bottom; what carries it ends where it is not HTTP.
    fn outcome(&mut self) -> Result<Outcome, Failure> {
        if let Meant::Address(address) = self.described.meant {
            let destination = plan::of_connection(&self.described.meant, self.snapshot);
            if plan::protocol(&destination) == AppProtocol::Tcp {
                return self.opaque(&destination, address);
            }
        }

        // Hygiene.
        let mut head = self.described.head.clone();
        shape::inner(&mut head)?;
        fields::strip_hop_by_hop(&mut head.headers);
        head.headers.remove(fields::CLIENT_VERSION);

        // Service.
        let plan = Plan::of(&self.described.meant, self.snapshot, &head);
        self.told.destination = Some(destination::of_plan(plan.as_ref().ok(), &self.described.meant, &head));
        let plan = plan?;
        let service = plan.service();
        if service.is_some_and(|service| !service.whole) {
            return Ok(pending());
        }

        // Its filters.
        let chain = service.and_then(|service| service.filters.as_ref());
        self.told.service_filters = self.filters(chain);
        if let Some(answered) = self.pass(chain, &mut head, true)? {
            return Ok(answered);
        }

        // Route.
        let rule = service.map_or(Ok(None), |service| self.route(service, &head))?;
        if let Some(rule) = rule {
            if let RuleAction::Redirect(redirect) = &rule.action {
                return Ok(redirected(&plan::redirected(redirect, &head, service)?));
            }
            if let Some(change) = &rule.rewrite {
                let before = head.clone();
                rewrite(change, &mut head).map_err(Failure::before)?;
                self.rewritten(&before, &head);
            }
            self.told.rule_filters = self.filters(rule.filters.as_ref());
            if let Some(answered) = self.pass(rule.filters.as_ref(), &mut head, false)? {
                return Ok(answered);
            }
        }

        // Attempts.
        let rule = rule.map(|rule| &**rule);
        self.told.timeouts = Some(attempts::timeouts(plan::limits(rule).1));
        match plan.whom(rule, &mut *self.draw) {
            Ok(Whom::Endpoint(endpoint)) => Ok(self.straight_to(endpoint, Some(head.version))),
            Ok(Whom::Cluster(cluster)) => {
                self.told.backends = endpoints::backends(rule, Some(cluster));
                self.request_to_cluster(cluster, plan::limits(rule).0, &head)
            }
            Err(failure) => {
                self.told.backends = endpoints::backends(rule, None);
                Err(failure)
            }
        }
    }

    /// What becomes of a connection whose bytes nobody looks at.
    fn opaque(&mut self, destination: &Destination, address: SocketAddr) -> Result<Outcome, Failure> {
        self.told.destination = Some(destination::of_address(destination, address));
        let service = destination.service();
        if service.is_some_and(|service| !service.whole) {
            return Ok(pending());
        }
        let chain = service.and_then(|service| service.filters.as_ref());
        self.told.service_filters = self.filters(chain);
        if let Some(chain) = chain {
            self.admit(chain)?;
        }
        match destination {
            Destination::Service(service) => {
                self.told.backends = endpoints::backends(None, Some(&service.cluster));
                self.bytes_to_cluster(&service.cluster)
            }
            Destination::Direct(direct) => Ok(self.straight_to(&direct.endpoint, None)),
            Destination::Pending(_) => Ok(pending()),
            Destination::External => {
                plan::external(self.snapshot, address)?;
                let detail = format!("to {address}, which no policy names");
                let result = outcome::Result::PassedThrough.into();
                Ok(Outcome { result, detail, ..Outcome::default() })
            }
        }
    }

    fn rewritten(&mut self, before: &request::Parts, after: &request::Parts) {
        let Some(routing) = &mut self.told.routing else { return };
        let host = |head: &request::Parts| {
            let host = head.headers.get(header::HOST).map(HeaderValue::as_bytes);
            String::from_utf8_lossy(host.unwrap_or_default()).into_owned()
        };
        if host(before) != host(after) {
            routing.new_host = host(after);
        }
        if before.uri != after.uri {
            routing.new_path = after.uri.to_string();
        }
    }
}

fn refused(failure: &Failure) -> Outcome {
    Outcome {
        result: outcome::Result::Refused.into(),
        status: failure.reason.status().as_u16().into(),
        reason: failure.reason.name().to_owned(),
        detail: failure.detail.as_deref().unwrap_or_default().to_owned(),
        location: String::new(),
    }
}

/// The answer to a request for a service that is known by name only depends on what the control plane tells.
fn pending() -> Outcome {
    Outcome {
        result: outcome::Result::Undecided.into(),
        reason: Reason::ServicePending.name().to_owned(),
        detail: "only the service's name is known here: a request waits for the control plane to tell the rest, at most \
                 1 s, and is refused so after that"
            .to_owned(),
        ..Outcome::default()
    }
}

fn redirected(answer: &http::Response<()>) -> Outcome {
    let location = answer.headers().get(header::LOCATION).map(HeaderValue::as_bytes);
    Outcome {
        result: outcome::Result::Answered.into(),
        status: answer.status().as_u16().into(),
        detail: "by the rule's redirect".to_owned(),
        location: String::from_utf8_lossy(location.unwrap_or_default()).into_owned(),
        reason: String::new(),
    }
}
