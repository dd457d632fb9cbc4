//! The attempts of one request: choose, send, judge, and again where that is safe, useful and within the budget.

use std::{cell::Cell, sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response, request};

use super::{
    Connection,
    plan::{self, Whom, target_of},
    source::Source,
    verdict::Verdict,
};
use crate::{
    balance::{Attempts as Tried, Choice, budget, retry},
    config::snapshot::{Cluster, Endpoint, RetryPolicy, Rule, RuleTimeouts, state::Counted},
    error::{Failure, Fault, Reached, Reason},
    exchange::Exchange,
    http::{body::Body, deadline, fields, interim::Interim},
    telemetry::Placement,
    upstream::{Circuit, Leg, Target, WaitsFor},
};

/// The attempts of one request.
pub(super) struct Attempts<'a> {
    connection: &'a Connection,
    exchange: &'a mut Exchange,
    interim: &'a Interim,
    whom: Whom<'a>,
    retry: &'a RetryPolicy,
    timeouts: RuleTimeouts,
    /// Who is asked now, and since when.
    under_way: Option<(Arc<Endpoint>, Duration)>,
    /// What is waited for there.
    waits_for: Cell<WaitsFor>,
    /// Why the attempt that follows goes where it goes, if its trace is kept.
    placement: Option<Box<Placement>>,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        exchange: &'a mut Exchange,
        interim: &'a Interim,
        whom: Whom<'a>,
        rule: Option<&'a Rule>,
    ) -> Self {
        let (retry, timeouts) = plan::limits(rule);
        let (under_way, waits_for, placement) = Default::default();
        Self { connection, exchange, interim, whom, retry, timeouts, under_way, waits_for, placement }
    }

    /// Sends the request until it is answered or may not be sent again, within the rule's time for all of it.
    pub(super) async fn run(mut self, head: request::Parts, body: Body) -> Result<Response<Body>, Failure> {
        self.admit()?;
        let Some(limit) = self.timeouts.request else { return self.until_answered(head, body).await };
        let deadline = tokio::time::Instant::now() + limit;
        // Boxed: the plain way above would otherwise carry the room of both.
        let answering = Box::pin(self.until_answered(head, body));
        match tokio::time::timeout_at(deadline, answering).await {
            Ok(answered) => Ok(answered?.map(|body| deadline::until(body, deadline, Reason::RequestTimeout))),
            Err(_) => {
                let late = Failure::after(Reason::RequestTimeout);
                // The endpoint that is asked just now may have let the time run out.
                self.conclude(Verdict::of_failure(&late, self.on_endpoint()));
                Err(late.detail(format_args!("the route allows {limit:?}")))
            }
        }
    }

    /// A place among the service's requests in flight, and what this request adds to its retry budget.
    fn admit(&mut self) -> Result<(), Failure> {
        let Whom::Cluster(cluster) = self.whom else { return Ok(()) };
        budget::earn(&cluster.retry_budget, &cluster.state, self.connection.worker.now());
        let place = Counted::within(&cluster.state, |s| &s.requests, cluster.circuit.max_requests);
        let place = place.ok_or_else(|| {
            Failure::before(Reason::CircuitOpen).detail("too many requests in flight (maxRequests)")
        })?;
        self.exchange.hold(place);
        Ok(())
    }

    async fn until_answered(&mut self, head: request::Parts, body: Body) -> Result<Response<Body>, Failure> {
        let cluster = match self.whom {
            Whom::Endpoint(endpoint) => {
                return self.once(endpoint, None, Request::from_parts(head, body)).await;
            }
            Whom::Cluster(cluster) => cluster,
        };
        let worker = &self.connection.worker;
        let circuit = Circuit { limits: cluster.circuit, state: Arc::clone(&cluster.state) };
        let method = head.method.clone();
        let mut source = Source::new(head, body, self.retry.attempts, worker.settings.replay_bytes);
        let mut tried = Tried::default();
        tried.last_chance = self.retry.attempts == 0;
        let mut retrying = None;
        let first = self.choose(cluster, &tried);
        self.place();
        let mut choice = first.map_err(Failure::before)?;
        let gone = || Failure::after(Reason::UpstreamClosed).detail("the request cannot be sent again");
        let mut request = source.next(tried.last_chance).ok_or_else(gone)?;
        let mut made = 0;
        loop {
            made += 1;
            self.exchange.record().attempts = made;
            let outcome = self.once(&choice.endpoint, Some(&circuit), request).await;
            let attempt = retry::Attempt { method: &method, made, replayable: source.replayable() };
            let Some(wait) = self.may_retry(attempt, &outcome) else { return outcome };
            // The one before is over.
            drop(retrying.take());
            tried.failed(&choice, matches!(&outcome, Err(failure) if failure.reached == Reached::No));
            tried.last_chance = made >= self.retry.attempts;
            // If nobody is left to be asked, what the last one said is the answer, and costs the budget nothing.
            choice = match self.choose(cluster, &tried) {
                Ok(choice) => choice,
                Err(_) => return outcome,
            };
            match afford(cluster, worker.now()) {
                Ok(place) => retrying = Some(place),
                Err(kind) => {
                    worker.telemetry.retry_withheld(&cluster.service.label, kind);
                    return outcome.map_err(|failure| withheld(failure, kind));
                }
            }
            // Before the back-off: the attempt before may still be reading, and would read on.
            request = match source.next(tried.last_chance) {
                Some(request) => request,
                None => return outcome,
            };
            self.exchange.retried(&outcome);
            self.place();
            drop(outcome);
            if tried.stays(&choice) {
                tokio::time::sleep(wait).await;
            }
        }
    }

    /// Whom the next attempt asks.
    fn choose(&mut self, cluster: &Cluster, tried: &Tried) -> Result<Choice, Reason> {
        let worker = &self.connection.worker;
        let now = worker.now();
        let choice = worker.loads.borrow_mut().pick(cluster, tried, now, worker.draw());
        if self.exchange.is_traced() {
            let placement = worker.loads.borrow().placement(cluster, tried, choice.as_ref().ok(), now);
            self.placement = Some(Box::new(placement));
        }
        choice
    }

    /// The last choice is that of the attempt that is told of from now on.
    fn place(&mut self) {
        if let Some(placement) = self.placement.take() {
            self.exchange.place(placement);
        }
    }

    /// Whether another attempt may follow this outcome, and after which back-off.
    fn may_retry(
        &self,
        attempt: retry::Attempt<'_>,
        outcome: &Result<Response<Body>, Failure>,
    ) -> Option<Duration> {
        let outcome = match outcome {
            Ok(response) => retry::Outcome::Status(response.status()),
            Err(failure) => retry::Outcome::Failed(failure),
        };
        retry::may_retry(self.retry, outcome, attempt, self.connection.worker.draw())
    }

    /// Whether the endpoint that is asked is all that is waited for.
    fn on_endpoint(&self) -> bool {
        match self.waits_for.get() {
            WaitsFor::Others => false,
            WaitsFor::Connection => true,
            WaitsFor::Answer => !self.exchange.waits_for_client(),
        }
    }

    /// The end of what is under way, as far as its endpoint is concerned.
    fn conclude(&mut self, verdict: Verdict) {
        let cluster = match self.whom {
            Whom::Cluster(cluster) => Some(&**cluster),
            Whom::Endpoint(_) => None,
        };
        if let Some((endpoint, began)) = self.under_way.take() {
            verdict.note(&self.connection.worker, cluster, &endpoint, began);
        }
    }

    /// One attempt: the request in the endpoint's own shape, sent, and what came of it noted.
    async fn once(
        &mut self,
        endpoint: &Arc<Endpoint>,
        circuit: Option<&Circuit>,
        request: Request<Body>,
    ) -> Result<Response<Body>, Failure> {
        let upstream = &self.connection.worker.upstream;
        let (mut head, body) = request.into_parts();
        let target = target_of(endpoint, head.version);
        let began = self.exchange.attempt(endpoint, target.address);
        self.under_way = Some((Arc::clone(endpoint), began));
        self.waits_for.set(WaitsFor::Connection);
        self.exchange.retrace(&mut head.headers);
        let within = self.timeouts.backend_request;
        let settled = match upstream.settled(&target) {
            Some(settled) => Ok((settled, within)),
            // Boxed: only a first request of TLS comes here.
            None => Box::pin(self.settle(target, circuit, within)).await,
        };
        let answered = match settled {
            Ok((target, within)) => {
                self.exchange.shape(&mut head, &target.leg);
                let request = Request::from_parts(head, self.exchange.watch_attempt(body));
                let sent =
                    upstream.send(&target, circuit, request, self.interim, within, &self.waits_for).await;
                sent.and_then(|response| {
                    let (response, said) = received(response, matches!(target.leg, Leg::Mesh(_)))?;
                    self.exchange.said(said);
                    Ok(response)
                })
            }
            Err(failure) => Err(failure),
        };
        self.note_peer();
        self.conclude(Verdict::of(&answered, self.on_endpoint()));
        answered
    }

    /// Whom the request has reached, if anybody.
    fn note_peer(&mut self) {
        if self.waits_for.get() == WaitsFor::Answer {
            self.exchange.connected();
        }
    }

    /// What the endpoint speaks, and how much of the attempt's time is left once it is known.
    async fn settle<'t>(
        &self,
        target: Target<'t>,
        circuit: Option<&Circuit>,
        within: Option<Duration>,
    ) -> Result<(Target<'t>, Option<Duration>), Failure> {
        let worker = &self.connection.worker;
        let began = worker.now();
        let settled = worker.upstream.settle(target, circuit, within).await?;
        let took = worker.now().saturating_sub(began);
        Ok((settled, within.map(|limit| limit.saturating_sub(took))))
    }
}

impl Drop for Attempts<'_> {
    /// An attempt may end in the middle: its time runs out, or its client goes away.
    fn drop(&mut self) {
        self.note_peer();
    }
}

/// A place among the service's retries, and one of its budget's; or which of both there is not.
fn afford(cluster: &Cluster, now: Duration) -> Result<Counted, &'static str> {
    let place = Counted::within(&cluster.state, |s| &s.retries, cluster.circuit.max_retries);
    let place = place.ok_or("max_retries")?;
    budget::spend(&cluster.retry_budget, &cluster.state, now).then_some(place).ok_or("budget")
}

/// A failure that another attempt might have mended, had there been one.
fn withheld(mut failure: Failure, kind: &str) -> Failure {
    let what = failure.detail.take().unwrap_or_default();
    failure.detail(format_args!("{what}; not tried again ({kind})"))
}

/// An answer as it came: without what concerns the upstream connection alone. A sidecar that answered in its
/// application's place says so by a named reason. That is a failure of the attempt where the endpoint is to blame, and else an
/// answer with a reason; from anyone else the field means nothing.
fn received(mut response: Response<Body>, meshed: bool) -> Result<(Response<Body>, Option<Reason>), Failure> {
    let headers = response.headers_mut();
    fields::strip_hop_by_hop(headers);
    let Some(reason) = headers.remove(fields::REASON).filter(|_| meshed) else { return Ok((response, None)) };
    let reason = reason.to_str().ok().and_then(Reason::named);
    match reason {
        Some(reason) if reason.fault() == Fault::Upstream => {
            // Its application has said GOAWAY and not touched the request.
            let untouched = reason == Reason::UpstreamRefused;
            let failure = if untouched { Failure::before(reason) } else { Failure::after(reason) };
            Err(failure.detail("said by the endpoint's sidecar"))
        }
        Some(reason) => {
            response.headers_mut().insert(fields::REASON, HeaderValue::from_static(reason.name()));
            Ok((response, Some(reason)))
        }
        None => Ok((response, None)),
    }
}
