//! A service in virtual time: endpoints that behave as told, requests at a steady rate, everything from one seed.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
    time::Duration,
};

use http::{Method, StatusCode};

use super::{
    Attempts, Choice, Decision, Draws, Event, Loads, budget, outlier,
    retry::{self, Attempt, Outcome},
};
use crate::{
    config::snapshot::{
        AppProtocol, CircuitLimits, Cluster, Endpoint, OutlierPolicy, RegionGroup, RetryBudgetPolicy,
        RetryPolicy, ServiceName, Transport,
        state::{EndpointId, EndpointKey, Registry},
    },
    error::{Failure, Reason},
};

/// How an endpoint behaves.
#[derive(Clone, Copy, Debug)]
pub(super) enum Behaviour {
    /// Answers 200 after this time.
    Answers(Duration),
    /// Answers 503 after this time.
    Unavailable(Duration),
    /// Refuses connections after this time.
    Refuses(Duration),
}

/// A region by name, and the weights of its endpoints.
pub(super) type Layout<'l> = &'l [(&'l str, &'l [u32])];

pub(super) fn cluster(registry: &mut Registry, layout: Layout<'_>) -> Cluster {
    let service = ServiceName::new("orders", "shop");
    let state = registry.cluster(&service.label, 80);
    let mut regions = Vec::new();
    for (number, (region, weights)) in (1_u8..).zip(layout) {
        let region: Arc<str> = (*region).into();
        let endpoints = (1_u8..).zip(*weights).map(|(host, &weight)| {
            let address = ([10, 0, number, host], 80).into();
            let key = EndpointKey {
                service: Arc::clone(&service.label),
                address,
                mesh: None,
                identity: None,
                tls: None,
            };
            Arc::new(Endpoint {
                address,
                region: Arc::clone(&region),
                zone: "".into(),
                weight,
                transport: Transport::Plain,
                protocol: AppProtocol::Auto,
                health: registry.endpoint(key),
            })
        });
        regions.push(RegionGroup::new(Arc::clone(&region), endpoints.collect()));
    }
    Cluster {
        service,
        port: 80,
        protocol: AppProtocol::Auto,
        regions,
        skipped: Vec::new(),
        circuit: CircuitLimits::default(),
        outlier: OutlierPolicy::default(),
        retry_budget: RetryBudgetPolicy::default(),
        state,
    }
}

/// What became of the requests.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) attempts: u64,
    pub(super) errors: u64,
    /// Good answers, by endpoint.
    pub(super) served: BTreeMap<EndpointId, u64>,
    /// From arrival to the good answer, the longest.
    pub(super) slowest: Duration,
    /// All decisions, in their order.
    pub(super) decisions: Vec<Decision>,
}

struct Request {
    arrived: Duration,
    begun: Duration,
    made: u32,
    attempts: Attempts,
    choice: Choice,
    behaviour: Behaviour,
}

pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) retry: RetryPolicy,
    pub(super) now: Duration,
    behaviours: BTreeMap<EndpointId, Behaviour>,
    loads: Loads,
    draws: Draws,
    waiting: BinaryHeap<Reverse<(Duration, u64)>>,
    requests: BTreeMap<u64, Request>,
    next: u64,
    /// Held so that the endpoints' state lives as it does in the sidecar.
    _registry: Registry,
}

impl World {
    pub(super) fn new(layout: Layout<'_>, seed: u64) -> Self {
        let mut registry = Registry::default();
        let cluster = cluster(&mut registry, layout);
        let retry = RetryPolicy { codes: vec![StatusCode::SERVICE_UNAVAILABLE], ..RetryPolicy::default() };
        let endpoints = cluster.regions.iter().flat_map(|region| &region.endpoints);
        let fine = Behaviour::Answers(Duration::from_millis(5));
        Self {
            behaviours: endpoints.map(|e| (e.health.id, fine)).collect(),
            cluster,
            retry,
            now: Duration::ZERO,
            loads: Loads::default(),
            draws: Draws::new(seed),
            waiting: BinaryHeap::new(),
            requests: BTreeMap::new(),
            next: 0,
            _registry: registry,
        }
    }

    pub(super) fn id(&self, region: usize, endpoint: usize) -> EndpointId {
        self.cluster.regions[region].endpoints[endpoint].health.id
    }

    pub(super) fn set(&mut self, region: usize, endpoint: usize, behaviour: Behaviour) {
        self.behaviours.insert(self.id(region, endpoint), behaviour);
    }

    pub(super) fn set_region(&mut self, region: usize, behaviour: Behaviour) {
        for endpoint in 0..self.cluster.regions[region].endpoints.len() {
            self.set(region, endpoint, behaviour);
        }
    }

    /// Forgets what was learned of an endpoint.
    pub(super) fn forget(&mut self, endpoint: &Endpoint) {
        self.loads.forget(endpoint.health.id);
    }

    /// The share of the good answers that a region gave.
    pub(super) fn share(&self, tally: &Tally, region: usize) -> f64 {
        let of = |id: &EndpointId| tally.served.get(id).copied().unwrap_or(0);
        let ids = self.cluster.regions[region].endpoints.iter().map(|e| e.health.id);
        ids.map(|id| of(&id)).sum::<u64>() as f64 / tally.served.values().sum::<u64>() as f64
    }

    /// Lets requests come for a time; the last are waited for.
    pub(super) fn run(&mut self, length: Duration, per_second: u32) -> Tally {
        let mut tally = Tally::default();
        let end = self.now + length;
        let mut arrival = self.now;
        while arrival < end {
            self.complete_until(arrival, &mut tally);
            self.now = arrival;
            tally.requests += 1;
            budget::earn(&self.cluster.retry_budget, &self.cluster.state, self.now);
            self.attempt(self.now, 0, Attempts::default(), &mut tally);
            arrival += Duration::from_secs(1) / per_second;
        }
        self.complete_until(Duration::MAX, &mut tally);
        self.now = self.now.max(end);
        tally
    }

    fn attempt(&mut self, arrived: Duration, made: u32, mut attempts: Attempts, tally: &mut Tally) {
        attempts.last_chance = made >= self.retry.attempts;
        let choice = self.loads.pick(&self.cluster, &attempts, self.now, self.draws.next()).unwrap();
        tally.attempts += 1;
        tally.decisions.push(choice.decision);
        let behaviour = self.behaviours[&choice.decision.chosen];
        let (Behaviour::Answers(after) | Behaviour::Unavailable(after) | Behaviour::Refuses(after)) =
            behaviour;
        self.loads.observe(&choice.endpoint, Event::Started, self.now);
        self.waiting.push(Reverse((self.now + after, self.next)));
        let request = Request { arrived, begun: self.now, made: made + 1, attempts, choice, behaviour };
        self.requests.insert(self.next, request);
        self.next += 1;
    }

    fn complete_until(&mut self, until: Duration, tally: &mut Tally) {
        while let Some(&Reverse((at, id))) = self.waiting.peek().filter(|next| next.0.0 <= until) {
            self.waiting.pop();
            self.now = at;
            let request = self.requests.remove(&id).unwrap();
            self.complete(request, tally);
        }
    }

    fn complete(&mut self, request: Request, tally: &mut Tally) {
        let endpoint = &request.choice.endpoint;
        let after = self.now - request.begun;
        if let Behaviour::Answers(_) = request.behaviour {
            self.loads.observe(endpoint, Event::Answered { after }, self.now);
            self.loads.observe(endpoint, Event::Ended, self.now);
            outlier::succeeded(&endpoint.health);
            *tally.served.entry(request.choice.decision.chosen).or_default() += 1;
            tally.slowest = tally.slowest.max(self.now - request.arrived);
            return;
        }
        self.loads.observe(endpoint, Event::Failed { after }, self.now);
        self.loads.observe(endpoint, Event::Ended, self.now);
        outlier::failed(&self.cluster, endpoint, self.now);
        self.retry(request, tally);
    }

    fn retry(&mut self, mut request: Request, tally: &mut Tally) {
        let refused = Failure::before(Reason::ConnectFailed);
        let unreachable = matches!(request.behaviour, Behaviour::Refuses(_));
        let outcome = match request.behaviour {
            Behaviour::Refuses(_) => Outcome::Failed(&refused),
            _ => Outcome::Status(StatusCode::SERVICE_UNAVAILABLE),
        };
        let attempt = Attempt { method: &Method::GET, made: request.made, replayable: true };
        let may = retry::may_retry(&self.retry, outcome, attempt, self.draws.next()).is_some();
        if may && budget::spend(&self.cluster.retry_budget, &self.cluster.state, self.now) {
            request.attempts.failed(&request.choice, unreachable);
            self.attempt(request.arrived, request.made, request.attempts, tally);
        } else {
            tally.errors += 1;
        }
    }
}
