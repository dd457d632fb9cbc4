//! The attempts that there would be if no endpoint could be reached, as `outbound::attempts` makes them.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use http::{Method, Version, request};
use trama_proto::{
    duration,
    explain::v1::{Attempt, Outcome, Retries, Timeouts, attempt, outcome},
};

use super::{Explaining, endpoints};
use crate::{
    balance::{self, Choice, Event, Why, budget, retry},
    config::snapshot::{Cluster, Endpoint, RetryPolicy, RuleTimeouts, state::is_full},
    error::{Failure, Reason},
    outbound::plan::OPAQUE_ATTEMPTS,
};

/// What an attempt takes at least.
const INSTANT: Duration = Duration::from_micros(1);

pub(super) fn timeouts(timeouts: RuleTimeouts) -> Timeouts {
    Timeouts {
        request: timeouts.request.map(duration::message),
        backend_request: timeouts.backend_request.map(duration::message),
    }
}

impl Explaining<'_> {
    /// A request for one of a cluster's endpoints.
    pub(super) fn request_to_cluster(
        &mut self,
        cluster: &Arc<Cluster>,
        policy: &RetryPolicy,
        head: &request::Parts,
    ) -> Result<Outcome, Failure> {
        self.told.retries = Some(self.retries(cluster, policy, &head.method));
        if is_full(&cluster.state.requests, cluster.circuit.max_requests) {
            let detail = "too many requests in flight (maxRequests)";
            return Err(Failure::before(Reason::CircuitOpen).detail(detail));
        }
        let mut tried = balance::Attempts::default();
        tried.last_chance = policy.attempts == 0;
        let first = self.first(cluster, &tried)?;
        self.told.transport = Some(endpoints::way(&first.endpoint, Some(head.version)));
        let outcome = forwarded(&first.endpoint);
        let end = self.follow(cluster, policy, &head.method, (first, tried));
        if let Some(retries) = &mut self.told.retries {
            retries.end = end;
        }
        Ok(outcome)
    }

    /// Opaque bytes for one of a cluster's endpoints.
    pub(super) fn bytes_to_cluster(&mut self, cluster: &Arc<Cluster>) -> Result<Outcome, Failure> {
        let mut tried = balance::Attempts::default();
        let first = self.first(cluster, &tried)?;
        self.told.transport = Some(endpoints::way(&first.endpoint, None));
        let outcome = forwarded(&first.endpoint);
        let mut choice = first;
        for made in 1..=OPAQUE_ATTEMPTS {
            self.attempt(cluster, &choice, Duration::ZERO);
            tried.failed(&choice, true);
            tried.last_chance = made + 1 == OPAQUE_ATTEMPTS;
            if made == OPAQUE_ATTEMPTS {
                break;
            }
            choice = match self.choose(cluster, &tried) {
                Ok(choice) => choice,
                Err(_) => break,
            };
        }
        Ok(outcome)
    }

    /// The endpoint that is meant itself. `client`: the version that it speaks; `None`: opaque bytes.
    pub(super) fn straight_to(&mut self, endpoint: &Arc<Endpoint>, client: Option<Version>) -> Outcome {
        self.told.transport = Some(endpoints::way(endpoint, client));
        self.told.attempts.push(Attempt {
            endpoint: endpoint.address.to_string(),
            region: endpoint.region.to_string(),
            why: attempt::Why::Meant.into(),
            ..Attempt::default()
        });
        forwarded(endpoint)
    }

    /// The first attempt's endpoint, after telling how all stand.
    fn first(&mut self, cluster: &Cluster, tried: &balance::Attempts) -> Result<Choice, Failure> {
        let choice = self.choose(cluster, tried);
        self.told.regions = self.regions(cluster, choice.as_ref().ok());
        choice.map_err(Failure::before)
    }

    fn choose(&mut self, cluster: &Cluster, tried: &balance::Attempts) -> Result<Choice, Reason> {
        self.loads.pick(cluster, tried, self.now, (self.draw)())
    }

    /// The attempts from the first on; says why no other follows.
    fn follow(
        &mut self,
        cluster: &Cluster,
        policy: &RetryPolicy,
        method: &Method,
        (mut choice, mut tried): (Choice, balance::Attempts),
    ) -> String {
        let unreachable = Failure::before(Reason::ConnectFailed);
        let budget = budget::left(&cluster.retry_budget, &cluster.state, self.now);
        let mut wait = Duration::ZERO;
        let mut made = 0;
        loop {
            made += 1;
            self.attempt(cluster, &choice, wait);
            let attempt = retry::Attempt { method, made, replayable: true };
            let outcome = retry::Outcome::Failed(&unreachable);
            let Some(backoff) = retry::may_retry(policy, outcome, attempt, (self.draw)()) else {
                return format!("the rule allows {} retries", policy.attempts);
            };
            tried.failed(&choice, true);
            tried.last_chance = made >= policy.attempts;
            choice = match self.choose(cluster, &tried) {
                Ok(choice) => choice,
                Err(reason) => return format!("nobody is left to be asked ({reason})"),
            };
            if is_full(&cluster.state.retries, cluster.circuit.max_retries) {
                return "too many of the service's retries are under way (maxRetries)".to_owned();
            }
            if budget < u64::from(made) {
                return "the service's retry budget is spent".to_owned();
            }
            wait = if tried.stays(&choice) { backoff } else { Duration::ZERO };
            self.now += wait;
        }
    }

    /// Tells of an attempt, and notes its failure as the worker would.
    fn attempt(&mut self, cluster: &Cluster, choice: &Choice, after: Duration) {
        let Choice { endpoint, decision } = choice;
        let all = || cluster.regions.iter().flat_map(|group| &group.endpoints);
        let rival = all().find(|other| other.health.id == decision.rival);
        self.told.attempts.push(Attempt {
            endpoint: endpoint.address.to_string(),
            region: endpoint.region.to_string(),
            why: why(decision.why).into(),
            after: (after > Duration::ZERO).then(|| duration::message(after)),
            rival: rival.map(|rival| rival.address.to_string()).unwrap_or_default(),
            cost: decision.cost.into(),
            rival_cost: decision.rival_cost.into(),
        });
        // An endpoint is busy with a request until the next one is asked.
        if let Some(before) = self.serving.replace(Arc::clone(endpoint)) {
            self.loads.observe(&before, Event::Ended, self.now);
        }
        for event in [Event::Started, Event::Failed { after: Duration::ZERO }] {
            self.loads.observe(endpoint, event, self.now);
        }
        // However short: of two that failed alike the one that failed earlier is then the cheaper one.
        self.now += INSTANT;
    }

    fn retries(&self, cluster: &Cluster, policy: &RetryPolicy, method: &Method) -> Retries {
        Retries {
            attempts: policy.attempts,
            codes: policy.codes.iter().map(|code| code.as_u16().into()).collect(),
            idempotent: method.is_idempotent(),
            backoff: Some(duration::message(policy.backoff)),
            budget: budget::left(&cluster.retry_budget, &cluster.state, self.now),
            requests: cluster.state.requests.load(Relaxed),
            max_requests: cluster.circuit.max_requests,
            retries: cluster.state.retries.load(Relaxed),
            max_retries: cluster.circuit.max_retries,
            end: String::new(),
        }
    }
}

fn forwarded(endpoint: &Endpoint) -> Outcome {
    let region = if endpoint.region.is_empty() { String::new() } else { format!(" in {}", endpoint.region) };
    Outcome {
        result: outcome::Result::Forwarded.into(),
        detail: format!("to {}{region}", endpoint.address),
        ..Outcome::default()
    }
}

const fn why(why: Why) -> attempt::Why {
    match why {
        Why::Preferred => attempt::Why::Preferred,
        Why::Failover => attempt::Why::Failover,
        Why::Moved => attempt::Why::Moved,
        Why::Again => attempt::Why::Again,
        Why::Panic => attempt::Why::Panic,
    }
}
