//! Filters: the phases in which something may decide about a request, behind one trait.
//!
//! A chain is entered in its order on the way of the request and in reverse on the way of the answer. A filter says
//! in [`Filter::phases`] which phases it has; the others are never entered and cost nothing.
//!
//! ```text
//! begin     on_connection, once for a connection and before anything else             filter 1, 2, 3
//! request   on_request_headers  -> on_request_body*  -> on_request_trailers?     filter 1, 2, 3
//! answer    on_response_headers -> on_response_body* -> on_response_trailers?    filter 3, 2, 1
//! end       on_log        beside all of them: on_tick
//! ```
//!
//! Policy attaches chains to a service, inbound or outbound, and to the rules of its routes. A chain is made once on each
//! worker ([`Chains`]). An [`Exchange`](crate::exchange::Exchange) takes its request through the service's chain and then
//! the rule's; where there are none it costs nothing.
//!
//! Filters belong to one worker and are not `Send`. They hold the state of a request themselves, under its
//! [`StreamId`], and drop it in `on_log`, which every stream comes to exactly once. Whatever a filter does to headers,
//! the framing of the message stays as it came ([`run`]).

mod action;
mod admitted;
mod body;
mod chains;
mod framing;
pub mod headers;
mod phases;
mod run;
pub mod sources;

#[cfg(test)]
pub(crate) mod tests;

use std::{fmt, net::SocketAddr, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, request, response};

pub use self::{
    action::Action,
    admitted::Admitted,
    body::Answer,
    chains::Chains,
    phases::Phases,
    run::{Answered, Run, StreamId},
};
use crate::{
    config::snapshot::SpiffeId,
    telemetry::{Direction, Record},
};

/// The largest piece of a body that a filter is shown at once.
pub const WINDOW: usize = 64 * 1024;

/// Whose request it is.
#[derive(Clone, Debug)]
pub struct Context {
    /// The request or connection; unique on this worker.
    pub stream: StreamId,
    /// Which way it goes.
    pub direction: Direction,
    /// The downstream peer.
    pub downstream: Option<SocketAddr>,
    /// Who the downstream peer is, as its certificate proved.
    pub identity: Option<SpiffeId>,
}

/// Something that decides about requests.
#[allow(unused_variables, reason = "a phase that does nothing is the default")]
pub trait Filter {
    /// Its name in logs and metrics.
    fn name(&self) -> &str;

    /// The phases it has.
    fn phases(&self) -> Phases;

    /// The request's head. Headers and URI may be changed; method and version stay.
    fn on_request_headers(&self, cx: &Context, parts: &mut request::Parts) -> Action {
        Action::Continue
    }

    /// A piece of the request's body, at most [`WINDOW`] bytes; `end`: the last one, perhaps empty. Changes count
    /// only with [`Phases::CHANGES_REQUEST_BODY`]. A request without a body does not come here.
    fn on_request_body(&self, cx: &Context, data: &mut Bytes, end: bool) -> Action {
        Action::Continue
    }

    /// The request's trailers, if there are any.
    fn on_request_trailers(&self, cx: &Context, trailers: &mut HeaderMap) -> Action {
        Action::Continue
    }

    /// The answer's head. Headers may be changed, and the status to one that has a body just as before.
    fn on_response_headers(&self, cx: &Context, parts: &mut response::Parts) -> Action {
        Action::Continue
    }

    /// A piece of the answer's body, like [`Filter::on_request_body`].
    fn on_response_body(&self, cx: &Context, data: &mut Bytes, end: bool) -> Action {
        Action::Continue
    }

    /// The answer's trailers, if there are any.
    fn on_response_trailers(&self, cx: &Context, trailers: &mut HeaderMap) -> Action {
        Action::Continue
    }

    /// A connection begins: opaque, or with its first request, whose stream it is. What is refused closes an opaque
    /// connection, and is the answer to a request.
    fn on_connection(&self, cx: &Context) -> Action {
        Action::Continue
    }

    /// The end of a request or connection that entered this filter.
    fn on_log(&self, cx: &Context, record: &Record) {}

    /// From time to time, outside of any request. `now`: since the sidecar's start.
    fn on_tick(&self, now: Duration) {}
}

/// Filters in their order.
#[derive(Clone)]
pub struct Chain {
    filters: Rc<[Rc<dyn Filter>]>,
    phases: Phases,
}

impl Chain {
    /// A chain of these.
    pub fn new(filters: Vec<Rc<dyn Filter>>) -> Self {
        let phases = filters.iter().fold(Phases::NONE, |all, filter| all | filter.phases());
        Self { filters: filters.into(), phases }
    }

    /// Whether it has no filters.
    pub fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// Gives the filters the time.
    pub fn tick(&self, now: Duration) {
        for filter in self.having(Phases::TICK) {
            filter.on_tick(now);
        }
    }

    fn having(&self, phase: Phases) -> impl Iterator<Item = &Rc<dyn Filter>> {
        self.filters.iter().filter(move |filter| filter.phases().has(phase))
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.filters.iter().map(|filter| filter.name())).finish()
    }
}
