//! Which region, then which endpoint.
//!
//! The cluster's regions stand in the order of the policy and residency is already applied: nothing here can leave it.
//! The first region with an endpoint that may be used is taken. What may be used is relaxed step by step, and only
//! when nothing is left at the stricter step:
//!
//! 1. an endpoint that this request has not tried, in a region that it has no reason to leave;
//! 2. one that it has not tried, in any region;
//! 3. one that it has tried;
//! 4. when everything everywhere is ejected, any: a guess by failure counts is worth less than a try (the panic rule,
//!    known from Envoy's panic threshold), and again the first region first.
//!
//! A request leaves a region in which two endpoints could not be reached, or one if this is its last attempt. An
//! endpoint that is back from ejection, or that the policy's share kept from it, gets one request at a time from each
//! worker until one succeeds: a region that is still dead is found out by one request, not by all of them.

use std::{sync::Arc, time::Duration};

use smallvec::SmallVec;

use super::{
    Draws, Loads, micros,
    outlier::{self, Standing},
    p2c::{self, Rival},
};
use crate::{
    config::snapshot::{Cluster, Endpoint, RegionGroup, state::EndpointId},
    error::Reason,
};

/// What a request has tried so far.
#[derive(Clone, Debug, Default)]
pub struct Attempts {
    pub(super) tried: SmallVec<[Tried; 4]>,
    /// Whether no other attempt follows the next one.
    pub last_chance: bool,
}

/// The endpoint that a request goes to.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// What was decided, for the log, `explain` and `replay`.
    pub decision: Decision,
}

/// The record of one decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// When, in microseconds since the sidecar's start.
    pub at: u64,
    /// The random number it was made with.
    pub draw: u64,
    /// Who was chosen.
    pub chosen: EndpointId,
    /// Whom it was compared with; `EndpointId(0)`: with nobody.
    pub rival: EndpointId,
    /// What the chosen one cost: seconds x (1 + outstanding requests); 0: it was compared with nobody.
    pub cost: f32,
    /// What the rival cost.
    pub rival_cost: f32,
    /// The region's place in the cluster's order.
    pub region_rank: u16,
    /// How many endpoints the region has.
    pub region_size: u16,
    /// Attempts before this one.
    pub attempt: u8,
    /// Why this region.
    pub why: Why,
}

/// Why a region was chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// It is the first in the policy's order.
    Preferred,
    /// No region before it has an endpoint to use.
    Failover,
    /// An attempt of this request failed in a region before it.
    Moved,
    /// Everything that could be used was tried: an endpoint is tried again.
    Again,
    /// Everything everywhere is ejected.
    Panic,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Tried {
    pub(super) endpoint: EndpointId,
    region_rank: u16,
    unreachable: bool,
}

/// The steps of the module's documentation, strictest first.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    Fresh,
    AnyRegion,
    Again,
    PanicFresh,
    Panic,
}

const STEPS: [Step; 5] = [Step::Fresh, Step::AnyRegion, Step::Again, Step::PanicFresh, Step::Panic];

impl Attempts {
    /// An attempt came to nothing. `unreachable`: the application cannot have seen it.
    pub fn failed(&mut self, choice: &Choice, unreachable: bool) {
        let Decision { chosen, region_rank, .. } = choice.decision;
        self.tried.push(Tried { endpoint: chosen, region_rank, unreachable });
    }

    /// Whether the choice is in the region of the attempt before: then the back-off is waited for.
    pub fn stays(&self, choice: &Choice) -> bool {
        self.tried.last().is_some_and(|t| t.region_rank == choice.decision.region_rank)
    }

    pub(super) fn tried(&self, endpoint: EndpointId) -> bool {
        self.tried.iter().any(|t| t.endpoint == endpoint)
    }

    fn leaves(&self, region_rank: u16) -> bool {
        let unreachable = self.tried.iter().filter(|t| t.region_rank == region_rank && t.unreachable).count();
        unreachable >= if self.last_chance { 1 } else { 2 }
    }
}

impl Loads {
    /// Decides where the next attempt goes. `draw` is any random number.
    pub fn pick(
        &mut self,
        cluster: &Cluster,
        attempts: &Attempts,
        now: Duration,
        draw: u64,
    ) -> Result<Choice, Reason> {
        let mut draws = Draws::new(draw);
        for step in STEPS {
            for (rank, group) in (0_u16..).zip(&cluster.regions) {
                if step == Step::Fresh && attempts.leaves(rank) {
                    continue;
                }
                let admits = |loads: &Self, e: &Endpoint| loads.admits(step, cluster, attempts, e, now);
                let Some(mut choice) = self.pick_in(group, now, &mut draws, admits) else { continue };
                let decision = &mut choice.decision;
                decision.draw = draw;
                decision.region_rank = rank;
                decision.attempt = u8::try_from(attempts.tried.len()).unwrap_or(u8::MAX);
                decision.why = why(step, rank, attempts);
                return Ok(choice);
            }
        }
        Err(nobody(cluster))
    }

    fn admits(
        &self,
        step: Step,
        cluster: &Cluster,
        attempts: &Attempts,
        endpoint: &Endpoint,
        now: Duration,
    ) -> bool {
        let id = endpoint.health.id;
        let usable = || self.usable(cluster, endpoint, now);
        match step {
            Step::Fresh | Step::AnyRegion => !attempts.tried(id) && usable(),
            Step::Again => usable(),
            Step::PanicFresh => !attempts.tried(id),
            Step::Panic => true,
        }
    }

    pub(super) fn usable(&self, cluster: &Cluster, endpoint: &Endpoint, now: Duration) -> bool {
        match outlier::standing(&cluster.outlier, &endpoint.health, now) {
            Standing::Good => true,
            Standing::OnProbation => self.outstanding(endpoint.health.id) == 0,
            Standing::Ejected => false,
        }
    }

    /// Two by weight among those admitted, and the cheaper one.
    fn pick_in(
        &mut self,
        group: &RegionGroup,
        now: Duration,
        draws: &mut Draws,
        admits: impl Fn(&Self, &Endpoint) -> bool,
    ) -> Option<Choice> {
        let endpoints = &group.endpoints;
        let heaviest = f64::from(group.max_weight.max(1));
        let mut draw = |loads: &mut Self, but: Option<usize>| {
            p2c::weighted(endpoints.len(), heaviest, draws, |at| {
                let endpoint = &endpoints[at];
                let admitted = but != Some(at) && admits(loads, endpoint);
                if admitted { loads.weight(endpoint, now) } else { 0.0 }
            })
        };
        let first = draw(self, None)?;
        let second = if endpoints.len() > 1 { draw(self, Some(first)) } else { None };
        let Some(second) = second else { return Some(choice(group, now, (first, 0.0), None)) };
        let (mut chosen, mut rival) = (first, second);
        let mut costs = p2c::costs(self.rival(&endpoints[first], now), self.rival(&endpoints[second], now));
        if costs.1 < costs.0 {
            (chosen, rival) = (second, first);
            costs = (costs.1, costs.0);
        }
        Some(choice(group, now, (chosen, costs.0), Some((rival, costs.1))))
    }

    fn rival(&mut self, endpoint: &Endpoint, now: Duration) -> Rival {
        let weight = self.weight(endpoint, now);
        let load = self.of(endpoint, now);
        Rival { latency: load.latency.at(now), outstanding: load.outstanding, weight }
    }
}

/// The choice, as far as the region knows it.
fn choice(group: &RegionGroup, now: Duration, chosen: (usize, f64), rival: Option<(usize, f64)>) -> Choice {
    let endpoint = Arc::clone(&group.endpoints[chosen.0]);
    let decision = Decision {
        at: micros(now),
        draw: 0,
        chosen: endpoint.health.id,
        rival: rival.map_or(EndpointId(0), |(at, _)| group.endpoints[at].health.id),
        cost: chosen.1 as f32,
        rival_cost: rival.map_or(0.0, |(_, cost)| cost as f32),
        region_rank: 0,
        region_size: u16::try_from(group.endpoints.len()).unwrap_or(u16::MAX),
        attempt: 0,
        why: Why::Preferred,
    };
    Choice { endpoint, decision }
}

fn why(step: Step, region_rank: u16, attempts: &Attempts) -> Why {
    match step {
        Step::PanicFresh | Step::Panic => Why::Panic,
        Step::Again => Why::Again,
        Step::Fresh | Step::AnyRegion if region_rank == 0 => Why::Preferred,
        Step::Fresh | Step::AnyRegion if attempts.tried.iter().any(|t| t.region_rank < region_rank) => {
            Why::Moved
        }
        Step::Fresh | Step::AnyRegion => Why::Failover,
    }
}

/// Why there is nobody to choose: residency, if it alone stands in the way, or that nobody knows what it says.
fn nobody(cluster: &Cluster) -> Reason {
    let all = |why: &str| !cluster.skipped.is_empty() && cluster.skipped.iter().all(|s| s.why == why);
    if all("policy_refused") {
        Reason::ServicePending
    } else if all("residency") {
        Reason::ResidencyExhausted
    } else {
        Reason::NoEndpoint
    }
}
