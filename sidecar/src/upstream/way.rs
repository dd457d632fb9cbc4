//! One request's way to its upstream: what it waits for, and the limits that it is held to.

use std::{
    cell::{Cell, OnceCell},
    sync::Arc,
};

use super::{
    Upstream,
    connect::Dial,
    http2::Sent,
    limits::UpstreamLimits,
    target::{Leg, Target},
};
use crate::{
    config::snapshot::{
        CircuitLimits,
        state::{ClusterState, Counted},
    },
    error::{Failure, Reason},
    tls::Carried,
};

/// What a request waits for on its way to an endpoint.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WaitsFor {
    /// What others have now: a connection, or leave to make one.
    #[default]
    Others,
    /// A connection that is being made.
    Connection,
    /// The answer: a connection has the request, though not yet all of its body.
    Answer,
}

/// The counts and limits that a request is held to.
#[derive(Clone, Debug)]
pub struct Circuit {
    /// The limits.
    pub limits: CircuitLimits,
    /// The counts, shared by all workers.
    pub state: Arc<ClusterState>,
}

/// One request's way to its upstream.
pub(super) struct Way<'w> {
    upstream: &'w Upstream,
    pub(super) target: &'w Target<'w>,
    circuit: Option<&'w Circuit>,
    /// What it was sent on, once it was, where a connection is shared.
    pub(super) sent: OnceCell<Sent>,
    /// Once it is the answer, bytes of the request may be under way.
    pub(super) waits_for: &'w Cell<WaitsFor>,
}

impl<'w> Way<'w> {
    pub(super) fn new(
        upstream: &'w Upstream,
        target: &'w Target<'w>,
        circuit: Option<&'w Circuit>,
        waits_for: &'w Cell<WaitsFor>,
    ) -> Self {
        Self { upstream, target, circuit, sent: OnceCell::new(), waits_for }
    }

    pub(super) fn limits(&self) -> &UpstreamLimits {
        &self.upstream.limits
    }

    /// The limits that hold on its leg.
    pub(super) fn leg_limits(&self) -> UpstreamLimits {
        if self.meshed() { self.limits().meshed() } else { *self.limits() }
    }

    pub(super) fn dial(&self) -> Result<Dial, Failure> {
        self.upstream.dial(self.target, Carried::Http2)
    }

    /// Whether a sidecar is at the other end.
    pub(super) fn meshed(&self) -> bool {
        matches!(self.target.leg, Leg::Mesh(_))
    }

    /// The request got no answer in its time. While it still waited for a connection, nobody has seen it.
    pub(super) fn timed_out(&self) -> Failure {
        if let Some(sent) = self.sent.get() {
            sent.timed_out();
        }
        match self.waits_for.get() {
            WaitsFor::Answer => Failure::after(Reason::BackendRequestTimeout),
            WaitsFor::Others | WaitsFor::Connection => Failure::before(Reason::BackendRequestTimeout),
        }
    }

    /// A limit is reached: the service's, or where it has none this sidecar's own.
    pub(super) fn exhausted(&self, what: &str) -> Failure {
        let reason = if self.circuit.is_some() { Reason::CircuitOpen } else { Reason::Overloaded };
        Failure::before(reason).detail(what)
    }

    /// Counts a request that waits; an error where too many do.
    pub(super) fn count_pending(&self, waiting: usize) -> Result<Option<Counted>, Failure> {
        if waiting >= self.limits().pending_per_endpoint {
            let what = "too many requests wait for a connection (pool.maxPendingPerEndpoint)";
            return Err(Failure::before(Reason::Overloaded).detail(what));
        }
        let Some(circuit) = self.circuit else { return Ok(None) };
        let place = Counted::within(&circuit.state, |s| &s.pending, circuit.limits.max_pending);
        let full = || self.exhausted("too many requests wait for a connection (maxPending)");
        place.map(Some).ok_or_else(full)
    }

    /// Counts a connection of the service; an error where it may have no more. The first of a pool is counted and always
    /// granted: the limit holds for all workers together, and what others have open must not starve one.
    pub(super) fn count_connection(&self, first: bool) -> Result<Option<Counted>, Failure> {
        let Some(circuit) = self.circuit else { return Ok(None) };
        if first {
            return Ok(Some(Counted::always(&circuit.state, |s| &s.connections)));
        }
        let place = Counted::within(&circuit.state, |s| &s.connections, circuit.limits.max_connections);
        place.map(Some).ok_or_else(|| self.exhausted("too many connections (maxConnections)"))
    }
}
