//! One outbound request, step by step.

use std::{rc::Rc, sync::Arc};

use http::{Request, Response};

use super::{
    Connection,
    attempts::Attempts,
    plan::{self, Plan},
};
use crate::{
    config::snapshot::{RuleAction, Snapshot},
    error::Failure,
    exchange::Exchange,
    http::{Answer, Handler, body::Body, ending::Cut, fields, interim::Interim, reply, shape},
    route::rewrite::rewrite,
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

    fn cut(&self, cut: Cut) {
        self.ending.cut(cut);
    }

    fn cut_one(&self, cut: Cut, ends: impl FnOnce()) {
        self.ending.cut_one(cut, ends);
    }
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
        let mut plan = Plan::of(&self.meant, snapshot, &head)?;
        exchange.to_service(plan.label());
        while let Some(service) = plan.service().filter(|service| !service.whole) {
            let later = self.worker.whole(service).await?;
            exchange.record().revision = later.revision;
            plan = Plan::of(&self.meant, &later, &head)?;
            exchange.to_service(plan.label());
        }
        let service = plan.service();

        // Its filters, on the way in: one of them may answer in the application's place, or change what decides below.
        let chain = service.and_then(|service| service.filters.as_ref());
        if let Some(answer) = exchange.filter_request(chain, None, Some(&self.admitted), &mut head).await? {
            return exchange.filter_response(answer).await;
        }

        // Route: which rule of the service, and for a kept trace why not the others.
        let rule = service.map_or(Ok(None), |service| plan::rule(service, &head));
        if exchange.is_traced() {
            exchange.record().rejected = service.and_then(|service| plan::rejected(service, &head));
        }
        let rule = rule?;
        if let Some(rule) = rule {
            exchange.record().route = Arc::clone(&rule.name);
            if let RuleAction::Redirect(redirect) = &rule.action {
                let redirected = plan::redirected(redirect, &head, service)?;
                return exchange.filter_response(redirected.map(|()| Body::empty())).await;
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
        let rule = rule.map(|rule| &**rule);
        let whom = plan.whom(rule, || self.worker.draw())?;
        let answered = Attempts::new(self, exchange, interim, whom, rule).run(head, body).await;

        // Filters, on the way out. One that saw the body may have broken it off with an answer of its own.
        let response = answered.or_else(|failure| exchange.filters_answer().ok_or(failure))?;
        exchange.filter_response(response).await
    }
}
