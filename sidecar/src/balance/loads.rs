//! What one worker has learned of the endpoints. Not shared: no other worker waits for it or writes to it.

use std::{
    collections::HashMap,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use super::ewma::Ewma;
use crate::config::snapshot::{
    Endpoint,
    state::{EndpointHealth, EndpointId},
};

/// How long a new endpoint, or one back from ejection, takes to get its full share.
const SLOW_START: Duration = Duration::from_secs(10);
/// The share that it begins with.
const FIRST_SHARE: f64 = 0.1;

/// The endpoints' loads, by endpoint.
#[derive(Clone, Debug, Default)]
pub struct Loads {
    by_endpoint: HashMap<EndpointId, Load, foldhash::fast::FixedState>,
}

/// What happened between this worker and an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// A request goes there. Exactly one [`Event::Ended`] follows.
    Started,
    /// The head of an answer came, which is no failure.
    Answered {
        /// Since the attempt began.
        after: Duration,
    },
    /// No answer, or one that counts as a failure.
    Failed {
        /// Since the attempt began.
        after: Duration,
    },
    /// The request is over, body included.
    Ended,
}

#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) latency: Ewma,
    pub(super) outstanding: u32,
    known_since: Duration,
    alive: Weak<EndpointHealth>,
}

impl Loads {
    /// Takes note of what happened with an endpoint.
    pub fn observe(&mut self, endpoint: &Endpoint, event: Event, now: Duration) {
        let load = self.of(endpoint, now);
        match event {
            Event::Started => load.outstanding += 1,
            Event::Answered { after } => load.latency.answered(after, now),
            Event::Failed { after } => load.latency.failed(after, now),
            Event::Ended => load.outstanding = load.outstanding.saturating_sub(1),
        }
    }

    /// Forgets the endpoints that no snapshot and no request holds any more. Called after a push.
    pub fn sweep(&mut self) {
        self.by_endpoint.retain(|_, load| load.alive.strong_count() > 0);
    }

    /// How many endpoints it knows.
    pub fn len(&self) -> usize {
        self.by_endpoint.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.by_endpoint.is_empty()
    }

    pub(super) fn of(&mut self, endpoint: &Endpoint, now: Duration) -> &mut Load {
        self.by_endpoint.entry(endpoint.health.id).or_insert_with(|| Load {
            latency: Ewma::default(),
            outstanding: 0,
            known_since: now,
            alive: Arc::downgrade(&endpoint.health),
        })
    }

    /// The endpoint's weight, less while it is new here or just back.
    pub(super) fn weight(&mut self, endpoint: &Endpoint, now: Duration) -> f64 {
        let back_since = Duration::from_micros(endpoint.health.ejected_until.load(Ordering::Relaxed));
        let since = self.of(endpoint, now).known_since.max(back_since);
        let ramp = now.saturating_sub(since).as_secs_f64() / SLOW_START.as_secs_f64();
        f64::from(endpoint.weight.max(1)) * ramp.clamp(FIRST_SHARE, 1.0)
    }

    #[cfg(test)]
    pub(super) fn forget(&mut self, id: EndpointId) {
        self.by_endpoint.remove(&id);
    }

    pub(super) fn outstanding(&self, id: EndpointId) -> u32 {
        self.by_endpoint.get(&id).map_or(0, |load| load.outstanding)
    }
}
