//! Which rule serves the request, and why the others do not.

use std::sync::Arc;

use http::request;
use trama_proto::explain::v1::{ConsideredMatch, Routing, Unmet as Told, unmet::Part};

use super::Explaining;
use crate::{
    config::snapshot::{Match, Rule, ServicePort},
    error::Failure,
    outbound::plan,
    route::{Considered, Host, Inquiry, Precedence, Unmet, consider},
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
            Some(first) => outranked(considered[first].precedes(it)).to_owned(),
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
        unmet: unmet.iter().map(|unmet| why(unmet, condition, inquiry)).collect(),
        ..ConsideredMatch::default()
    }
}

fn why(unmet: &Unmet<'_>, condition: &Match, inquiry: &Inquiry<'_>) -> Told {
    let of = |sent: &bool| if *sent { "has another value" } else { "is not sent" };
    let (part, name, why) = match unmet {
        Unmet::Host => (Part::Host, "", format!("the host is `{}`", inquiry.host)),
        Unmet::Path => (Part::Path, "", format!("the path is `{}`", inquiry.path)),
        Unmet::Method => {
            let wanted = condition.method.as_ref().map(ToString::to_string).unwrap_or_default();
            (Part::Method, "", format!("the method is {}, not {wanted}", inquiry.method))
        }
        Unmet::Header { name, sent } => {
            (Part::Header, name.as_str(), format!("header `{name}` {}", of(sent)))
        }
        Unmet::Query { name, sent } => (Part::Query, *name, format!("query parameter `{name}` {}", of(sent))),
    };
    Told { part: part.into(), name: name.to_owned(), why }
}

const fn outranked(by: Precedence) -> &'static str {
    match by {
        Precedence::Host => "the chosen one has a more specific host",
        Precedence::Path => "the chosen one has a more specific path",
        Precedence::Method => "the chosen one names a method",
        Precedence::Headers => "the chosen one has more conditions on headers",
        Precedence::Query => "the chosen one has more conditions on query parameters",
        Precedence::Order => "the chosen one comes first in the policy",
    }
}
