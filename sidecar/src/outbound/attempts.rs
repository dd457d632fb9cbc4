//! The attempts of one request: choose, send, judge, and again where that is safe, useful and within the budget.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response, Version, request};

use super::{Connection, source::Source};
use crate::{
    balance::{Attempts as Tried, Event, budget, outlier, retry},
    config::snapshot::{
        AppProtocol, Cluster, Endpoint, RetryPolicy, RuleTimeouts, Transport, state::Counted,
    },
    error::{Failure, Fault, Reached, Reason},
    exchange::{Exchange, protocol_of},
    http::{body::Body, deadline, fields, interim::Interim, shape},
    upstream::{Circuit, Leg, Target, Who},
};

/// Whom a request may go to.
pub(super) enum Whom<'a> {
    /// Any endpoint of a cluster.
    Cluster(&'a Arc<Cluster>),
    /// This endpoint and no other.
    Endpoint(&'a Arc<Endpoint>),
}

/// The attempts of one request.
pub(super) struct Attempts<'a> {
    pub(super) connection: &'a Connection,
    pub(super) exchange: &'a mut Exchange,
    pub(super) interim: &'a Interim,
    pub(super) whom: Whom<'a>,
    pub(super) retry: &'a RetryPolicy,
    pub(super) timeouts: RuleTimeouts,
}

impl Attempts<'_> {
    /// Sends the request until it is answered or may not be sent again, within the rule's time for all of it.
    pub(super) async fn run(mut self, head: request::Parts, body: Body) -> Result<Response<Body>, Failure> {
        self.admit()?;
        let Some(limit) = self.timeouts.request else { return self.until_answered(head, body).await };
        let deadline = tokio::time::Instant::now() + limit;
        // Boxed: the plain way above would otherwise carry the room of both.
        let answering = Box::pin(self.until_answered(head, body));
        let answered = tokio::time::timeout_at(deadline, answering).await;
        let late =
            || Failure::after(Reason::RequestTimeout).detail(format_args!("the route allows {limit:?}"));
        let response = answered.unwrap_or_else(|_| Err(late()))?;
        Ok(response.map(|body| deadline::until(body, deadline, Reason::RequestTimeout)))
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
        let mut pause = Duration::ZERO;
        let mut retrying = None;
        for made in 1.. {
            tried.last_chance = made > self.retry.attempts;
            let choice = worker.loads.borrow_mut().pick(cluster, &tried, worker.now(), worker.draw());
            let choice = choice.map_err(Failure::before)?;
            if tried.stays(&choice) {
                tokio::time::sleep(pause).await;
            }
            let Some(request) = source.next(tried.last_chance) else { break };
            self.exchange.record().attempts = made;
            let outcome = self.once(&choice.endpoint, Some(&circuit), request).await;
            let judged = match &outcome {
                Ok(response) => retry::Outcome::Status(response.status()),
                Err(failure) => retry::Outcome::Failed(failure),
            };
            let attempt = retry::Attempt { method: &method, made, replayable: source.replayable() };
            match retry::may_retry(self.retry, judged, attempt, worker.draw()) {
                Some(wait) => pause = wait,
                None => return outcome,
            }
            // The one before is over.
            drop(retrying.take());
            match afford(cluster, worker.now()) {
                Ok(place) => retrying = Some(place),
                Err(kind) => {
                    worker.telemetry.retry_withheld(&cluster.service.label, kind);
                    return outcome.map_err(|failure| withheld(failure, kind));
                }
            }
            tried.failed(&choice, matches!(&outcome, Err(failure) if failure.reached == Reached::No));
            self.exchange.retried(&outcome);
        }
        Err(Failure::before(Reason::NoEndpoint))
    }

    /// One attempt: the request in the endpoint's own shape, sent, and what came of it noted.
    async fn once(
        &mut self,
        endpoint: &Arc<Endpoint>,
        circuit: Option<&Circuit>,
        request: Request<Body>,
    ) -> Result<Response<Body>, Failure> {
        let worker = &self.connection.worker;
        let (mut head, body) = request.into_parts();
        let target = target_of(endpoint, head.version);
        let meshed = matches!(target.leg, Leg::Mesh(_));
        if meshed {
            head.headers.insert(fields::CLIENT_VERSION, fields::version_value(head.version));
        }
        match target.leg {
            Leg::Http1 => shape::http1(&mut head),
            Leg::Http2 | Leg::Mesh(_) => shape::http2(&mut head),
        }
        let began = self.exchange.attempt(endpoint, target.address, protocol_of(head.version));
        self.exchange.retrace(&mut head.headers);
        let request = Request::from_parts(head, body);
        let within = self.timeouts.backend_request;
        let sent = worker.upstream.send(&target, circuit, request, self.interim, within).await;
        let answered = sent.and_then(|response| received(response, meshed));
        self.observe(endpoint, &answered, began);
        answered
    }

    /// What the attempt says about the endpoint: to this worker's balance, and to all workers' ejection.
    fn observe(&self, endpoint: &Arc<Endpoint>, answered: &Result<Response<Body>, Failure>, began: Duration) {
        let worker = &self.connection.worker;
        let now = worker.now();
        let after = now.saturating_sub(began);
        let good = match answered {
            Ok(response) => !outlier::is_failure(response.status()),
            Err(failure) if outlier::counts(failure) => false,
            // It says nothing about the endpoint: a refusal by policy, a limit of ours, a caller that broke off.
            Err(_) => return,
        };
        let event = if good { Event::Answered { after } } else { Event::Failed { after } };
        worker.loads.borrow_mut().observe(endpoint, event, now);
        if good {
            outlier::succeeded(&endpoint.health);
        } else if let Whom::Cluster(cluster) = self.whom
            && outlier::failed(cluster, endpoint, now).is_some()
        {
            worker.telemetry.ejected(&cluster.service.label, &endpoint.region);
        }
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

/// How an endpoint is reached by a client that speaks this version. Never a downgrade: with a mesh record it is the mesh
/// port or nothing.
pub(super) fn target_of(endpoint: &Endpoint, client: Version) -> Target<'_> {
    let who = Who::Endpoint(endpoint.health.id);
    let (address, leg) = match (&endpoint.transport, endpoint.protocol) {
        (Transport::Mesh(mesh), _) => (mesh.address, Leg::Mesh(mesh)),
        (Transport::Plain, AppProtocol::Http2 | AppProtocol::Grpc) => (endpoint.address, Leg::Http2),
        (Transport::Plain, AppProtocol::Http1) => (endpoint.address, Leg::Http1),
        (Transport::Plain, AppProtocol::Auto | AppProtocol::Tcp) if client == Version::HTTP_2 => {
            (endpoint.address, Leg::Http2)
        }
        (Transport::Plain, AppProtocol::Auto | AppProtocol::Tcp) => (endpoint.address, Leg::Http1),
    };
    Target { who, address, leg }
}

/// An answer as it came: without what concerns the upstream connection alone. A sidecar that answered in its
/// application's place says so by a named reason, which is a failure of that attempt; from anyone else the field means
/// nothing.
fn received(mut response: Response<Body>, meshed: bool) -> Result<Response<Body>, Failure> {
    let headers = response.headers_mut();
    fields::strip_hop_by_hop(headers);
    let Some(reason) = headers.remove(fields::REASON).filter(|_| meshed) else { return Ok(response) };
    let reason = reason.to_str().ok().and_then(Reason::named);
    match reason {
        Some(reason) if reason.fault() == Fault::Upstream => {
            Err(Failure::after(reason).detail("said by the endpoint's sidecar"))
        }
        Some(reason) => {
            response.headers_mut().insert(fields::REASON, HeaderValue::from_static(reason.name()));
            Ok(response)
        }
        None => Ok(response),
    }
}
