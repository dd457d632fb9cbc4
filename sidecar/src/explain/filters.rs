//! Filters: what they do to this request. A chain of its own is entered, and left before anybody waits for anything.

use std::sync::Arc;

use futures_util::FutureExt;
use http::{HeaderName, request};
use trama_proto::explain::v1::{Filter, Outcome, outcome};

use super::Explaining;
use crate::{
    config::snapshot::{FilterChain, FilterSpec, HeaderModifier},
    error::{Failure, Reason},
    filter::{Answered, Chains, Context, Run, StreamId},
    telemetry::Direction,
};

impl Explaining<'_> {
    /// What they are.
    pub(super) fn filters(&self, chain: Option<&Arc<FilterChain>>) -> Vec<Filter> {
        let specs = chain.map_or(&[][..], |chain| &chain.0);
        specs.iter().map(|spec| self.filter(spec)).collect()
    }

    /// The request's head goes through them. `Some`: one of them answers. `connection`: they see its connection begin.
    pub(super) fn pass(
        &self,
        chain: Option<&Arc<FilterChain>>,
        head: &mut request::Parts,
        connection: bool,
    ) -> Result<Option<Outcome>, Failure> {
        let Some(chain) = chain else { return Ok(None) };
        let mut run = self.enter(chain);
        if connection && let Some(answer) = at_once(run.connection().now_or_never())? {
            return Ok(Some(answer));
        }
        at_once(run.request_headers(head).now_or_never())
    }

    /// An opaque connection begins.
    pub(super) fn admit(&self, chain: &Arc<FilterChain>) -> Result<(), Failure> {
        match at_once(self.enter(chain).connection().now_or_never())? {
            Some(_) => Err(Failure::before(Reason::FilterResponse)),
            None => Ok(()),
        }
    }

    fn enter(&self, chain: &Arc<FilterChain>) -> Run {
        let downstream = Some(self.described.source);
        let (direction, identity) = match &self.described.inbound {
            Some(inbound) => (Direction::Inbound, inbound.caller.clone()),
            None => (Direction::Outbound, None),
        };
        let cx = Context { stream: StreamId(0), direction, downstream, identity };
        Run::new(Chains::default().of(chain), cx)
    }

    fn filter(&self, spec: &FilterSpec) -> Filter {
        let (name, does) = match spec {
            FilterSpec::RequestHeaders(changes) => ("requestHeaderModifier", changed(changes)),
            FilterSpec::ResponseHeaders(changes) => ("responseHeaderModifier", changed(changes)),
            FilterSpec::Sources(ranges) => {
                let source = self.described.source.ip();
                let may = if ranges.permits(source) { "may" } else { "may not" };
                ("sources", format!("{source} {may} connect"))
            }
        };
        Filter { name: name.to_owned(), does }
    }
}

/// Filters that come with the sidecar never wait.
fn at_once(answered: Option<Answered>) -> Result<Option<Outcome>, Failure> {
    let Some(answered) = answered else {
        let detail = "a filter waits for something before it decides".to_owned();
        let result = outcome::Result::Undecided.into();
        return Ok(Some(Outcome { result, detail, ..Outcome::default() }));
    };
    let answered = answered?.map(|answer| Outcome {
        result: outcome::Result::Answered.into(),
        status: answer.status().as_u16().into(),
        reason: Reason::FilterResponse.name().to_owned(),
        ..Outcome::default()
    });
    Ok(answered)
}

/// Names alone: values may be secrets.
fn changed(changes: &HeaderModifier) -> String {
    let named = |verb: &str, names: Vec<&HeaderName>| {
        let names: Vec<_> = names.into_iter().map(HeaderName::as_str).collect();
        (!names.is_empty()).then(|| format!("{verb} {}", names.join(", ")))
    };
    let parts = [
        named("sets", changes.set.iter().map(|change| &change.name).collect()),
        named("adds", changes.add.iter().map(|change| &change.name).collect()),
        named("removes", changes.remove.iter().collect()),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join("; ") }
}
