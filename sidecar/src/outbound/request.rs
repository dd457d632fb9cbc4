//! One outbound request, step by step.

use std::{rc::Rc, sync::Arc};

use http::{Request, Response, request};

use super::{
    Connection, Meant,
    attempts::{Attempts, Whom},
};
use crate::{
    config::snapshot::{Cluster, Destination, Endpoint, Redirect, Rule, RuleAction, ServicePort, Snapshot},
    error::{Failure, Reason},
    exchange::Exchange,
    http::{Answer, Handler, body::Body, fields, interim::Interim, reply, shape},
    route::{
        self, Inquiry,
        rewrite::{Origin, redirect, rewrite},
    },
    telemetry::Direction,
};

impl Handler for Connection {
    async fn handle(self: Rc<Self>, request: Request<Body>, interim: Interim) -> Answer {
        let snapshot = self.worker.snapshot();
        let exchange = Exchange::begin(&self.worker, Direction::Outbound, &snapshot, self.downstream);
        let mut exchange = exchange.on(&self.ending);
        let response = match self.serve(&snapshot, &mut exchange, request, &interim).await {
            Ok(response) => response,
            Err(failure) => {
                exchange.failed(&failure);
                reply::failure(&failure)
            }
        };
        Ok(exchange.answer(response))
    }

    fn cut(&self, reason: Reason) {
        self.ending.cut(reason);
    }

    fn cut_one(&self, reason: Reason, ends: impl FnOnce()) {
        self.ending.cut_one(reason, ends);
    }
}

/// Where a request is to go.
enum Plan {
    /// By a rule, or without one to the service's own endpoints.
    Service(Arc<ServicePort>),
    /// To this endpoint and no other; the service's rule still says filters and time-outs.
    Endpoint(Arc<Endpoint>, Option<Arc<ServicePort>>),
}

impl Connection {
    /// The way of a request, top to bottom.
    async fn serve(
        &self,
        snapshot: &Snapshot,
        exchange: &mut Exchange,
        request: Request<Body>,
        interim: &Interim,
    ) -> Result<Response<Body>, Failure> {
        // Hygiene: one shape for every version, and nothing that concerns the downstream connection alone.
        let (mut head, body) = request.into_parts();
        let most = self.worker.settings.http.header_count;
        let shaped = shape::within(&head.headers, most).and_then(|()| shape::inner(&mut head));
        exchange.describe(&head);
        shaped?;
        fields::strip_hop_by_hop(&mut head.headers);
        head.headers.remove(fields::CLIENT_VERSION);
        let body = exchange.watch_request(body);

        // Trace: continued, or begun here.
        exchange.trace(&mut head.headers);

        // Service: which one is meant. A control plane tells names first, and what concerns a service when it is asked.
        let mut plan = self.plan(snapshot, &head)?;
        exchange.to_service(plan.label());
        while let Some(service) = plan.service().filter(|service| !service.whole) {
            let later = self.worker.whole(service).await?;
            plan = self.plan(&later, &head)?;
            exchange.to_service(plan.label());
        }
        let service = plan.service();

        // Its filters, on the way in: one of them may answer in the application's place, or change what decides below.
        let chain = service.and_then(|service| service.filters.as_ref());
        if let Some(answer) = exchange.filter_request(chain, None, Some(&self.admitted), &mut head).await? {
            return exchange.filter_response(answer).await;
        }

        // Route: which rule of the service.
        let rule = service.map_or(Ok(None), |service| find_rule(service, &head))?;
        if let Some(rule) = rule {
            exchange.record().route = Arc::clone(&rule.name);
            if let RuleAction::Redirect(redirect) = &rule.action {
                let redirected = redirected(redirect, &head, service)?;
                return exchange.filter_response(redirected).await;
            }
            if let Some(change) = &rule.rewrite {
                rewrite(change, &mut head).map_err(Failure::before)?;
            }
            // The rule's filters.
            if let Some(answer) =
                exchange.filter_request(rule.filters.as_ref(), None, None, &mut head).await?
            {
                return exchange.filter_response(answer).await;
            }
        }
        let body = exchange.filter_request_body(body);

        // Attempts: region, endpoint, connection, the request itself; again where that is allowed.
        let whom = plan.whom(rule, || self.worker.draw())?;
        let answered = Attempts::new(self, exchange, interim, whom, rule).run(head, body).await;

        // Filters, on the way out. One that saw the body may have broken it off with an answer of its own.
        let response = answered.or_else(|failure| exchange.filters_answer().ok_or(failure))?;
        exchange.filter_response(response).await
    }

    fn plan(&self, snapshot: &Snapshot, head: &request::Parts) -> Result<Plan, Failure> {
        let destination = match &self.meant {
            Meant::Address(address) => snapshot.destinations.of_address(*address),
            Meant::Authority => {
                let (host, port) = shape::authority(head).ok_or_else(unknown_authority)?;
                snapshot.destinations.of_authority(host, port)
            }
            Meant::Service(label, port) => match snapshot.destinations.of_name(label, *port) {
                Some(service) => Destination::Service(Arc::clone(service)),
                None => Destination::External,
            },
        };
        match (destination, &self.meant) {
            (Destination::Service(service), _) => Ok(Plan::Service(service)),
            (Destination::Direct(direct), _) => Ok(Plan::Endpoint(direct.endpoint, direct.owner)),
            // The connection was captured for a service that policy has since lost.
            (Destination::External, Meant::Address(address)) => {
                Err(Failure::before(Reason::DestinationRefused).detail(address))
            }
            (Destination::External, _) => {
                Err(Failure { reason: snapshot.refusal(Reason::UnknownAuthority), ..unknown_authority() })
            }
        }
    }
}

impl Plan {
    fn service(&self) -> Option<&ServicePort> {
        match self {
            Self::Service(service) => Some(service),
            Self::Endpoint(_, owner) => owner.as_deref(),
        }
    }

    fn label(&self) -> Option<&Arc<str>> {
        self.service().map(|service| &service.service.label)
    }

    /// Whom the request may go to: an endpoint that was meant, one of the rule's backends, else the service's own
    /// endpoints.
    fn whom<'p>(
        &'p self,
        rule: Option<&'p Arc<Rule>>,
        draw: impl FnOnce() -> u64,
    ) -> Result<Whom<'p>, Failure> {
        match (self, rule) {
            (Self::Endpoint(endpoint, _), _) => Ok(Whom::Endpoint(endpoint)),
            (Self::Service(service), None) => Ok(Whom::Cluster(&service.cluster)),
            (Self::Service(_), Some(rule)) => backend(rule, draw()).map(Whom::Cluster),
        }
    }
}

fn unknown_authority() -> Failure {
    Failure::before(Reason::UnknownAuthority).detail("no service has this authority")
}

/// The rule for a request; none where the service has no routes at all.
fn find_rule<'s>(service: &'s ServicePort, head: &request::Parts) -> Result<Option<&'s Arc<Rule>>, Failure> {
    if service.routes.is_empty() {
        return Ok(None);
    }
    let host = head.headers.get(http::header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    let inquiry = Inquiry {
        host,
        path: head.uri.path(),
        query: head.uri.query(),
        method: &head.method,
        headers: &head.headers,
    };
    route::find(&service.routes, &inquiry).map(Some).ok_or_else(|| Failure::before(Reason::NoRoute))
}

fn redirected(
    rule: &Redirect,
    head: &request::Parts,
    service: Option<&ServicePort>,
) -> Result<Response<Body>, Failure> {
    let host = head.headers.get(http::header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    let origin = Origin { scheme: "http", host, port: service.map_or(80, |s| s.port) };
    let response = redirect(rule, &origin, &head.uri).map_err(Failure::before)?;
    Ok(response.map(|()| Body::empty()))
}

fn backend(rule: &Rule, draw: u64) -> Result<&Arc<Cluster>, Failure> {
    let backends = match &rule.action {
        RuleAction::Forward(backends) => backends.as_slice(),
        RuleAction::Redirect(_) => &[],
    };
    let backend = route::pick_backend(backends, draw).ok_or_else(|| Failure::before(Reason::NoBackend))?;
    Ok(&backend.cluster)
}
