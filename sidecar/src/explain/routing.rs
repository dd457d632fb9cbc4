//! Which rule serves the request, and why the others do not.

use std::sync::Arc;

use http::request;
use trama_proto::explain::v1::{ConsideredMatch, Routing, Unmet as Told, unmet::Part};

use super::Explaining;
use crate::{
    config::snapshot::{Match, Rule, ServicePort},
    error::Failure,
    outbound::plan,
    route::{Considered, Host, Inquiry, Unmet, consider},
};

/// Conditions that are told of a service with more of them; that of the chosen rule always is.
const MOST_MATCHES: usize = 200;

impl Explaining<'_> {
    /// The rule for the request, after telling of all that were considered.
    pub(super) fn route<'s>(
        &mut self,
        service: &'s ServicePort,
        head: &request::Parts,
    ) -> Result<Option<&'s Arc<Rule>>, Failure> {
        let found = plan::rule(service, head);
        if !service.routes.is_empty() {
            let inquiry = plan::inquiry(head);
            let mut routing = routing(&consider(&service.routes, &inquiry), &inquiry);
            routing.rule =
                found.as_ref().ok().copied().flatten().map(|rule| rule.name.to_string()).unwrap_or_default();
            self.told.routing = Some(routing);
        }
        found
    }
}

fn routing(considered: &[Considered<'_>], inquiry: &Inquiry<'_>) -> Routing {
    let chosen = considered.iter().position(|it| it.unmet.is_empty());
    let told = |(at, it): (usize, &Considered<'_>)| {
        let outranked = match chosen.filter(|first| at > *first && it.unmet.is_empty()) {
            Some(first) => considered[first].precedes(it).words().to_owned(),
            None => String::new(),
        };
        ConsideredMatch { chosen: chosen == Some(at), outranked, ..tell(it, inquiry) }
    };
    let worth = |at: usize, it: &Considered<'_>| at < MOST_MATCHES || it.unmet.is_empty();
    let matches: Vec<_> = considered.iter().enumerate().filter(|(at, it)| worth(*at, it)).map(told).collect();
    let left_out = u32::try_from(considered.len() - matches.len()).unwrap_or(u32::MAX);
    Routing { matches, left_out, ..Routing::default() }
}

fn tell(considered: &Considered<'_>, inquiry: &Inquiry<'_>) -> ConsideredMatch {
    let Considered { host, entry, unmet } = considered;
    let condition = &entry.condition;
    ConsideredMatch {
        rule: entry.rule.name.to_string(),
        host: match host {
            Host::Exact(host) => (*host).to_owned(),
            Host::Suffix(suffix) => format!("*{suffix}"),
            Host::Any => "*".to_owned(),
        },
        path: condition.path.to_string(),
        method: condition.method.as_ref().map(ToString::to_string).unwrap_or_default(),
        headers: condition.headers.iter().map(|header| header.name.to_string()).collect(),
        query: condition.query.iter().map(|query| query.name.to_string()).collect(),
        unmet: unmet.iter().map(|unmet| told(unmet, condition, inquiry)).collect(),
        ..ConsideredMatch::default()
    }
}

fn told(unmet: &Unmet<'_>, condition: &Match, inquiry: &Inquiry<'_>) -> Told {
    let (part, name) = match unmet {
        Unmet::Host => (Part::Host, ""),
        Unmet::Path => (Part::Path, ""),
        Unmet::Method => (Part::Method, ""),
        Unmet::Header { name, .. } => (Part::Header, name.as_str()),
        Unmet::Query { name, .. } => (Part::Query, *name),
    };
    Told { part: part.into(), name: name.to_owned(), why: unmet.words(condition, inquiry) }
}
