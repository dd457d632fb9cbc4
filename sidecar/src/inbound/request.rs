//! One inbound request, step by step.

use std::{cell::Cell, rc::Rc, sync::Arc};

use http::{HeaderMap, Request, Response, Version};

use super::Connection;
use crate::{
    config::snapshot::{FilterChain, Snapshot},
    error::{Failure, Fault, Reached, Reason},
    exchange::Exchange,
    http::{Abort, Answer, Handler, body::Body, ending::Cut, fields, interim::Interim, reply, shape},
    telemetry::{Direction, Security},
    upstream::{Leg, Target, Who},
};

impl Handler for Connection {
    async fn handle(self: Rc<Self>, request: Request<Body>, interim: Interim) -> Answer {
        let snapshot = self.worker.snapshot();
        let exchange = Exchange::begin(&self.worker, Direction::Inbound, &snapshot, self.downstream);
        let mut exchange = exchange.on(&self.ending);
        match self.serve(&snapshot, &mut exchange, request, &interim).await {
            Ok(response) => Ok(exchange.answer(response)),
            Err(failure) => {
                exchange.failed(&failure);
                // The calling sidecar may send it elsewhere, whatever its method (RFC 9113 section 8.7). A reset counts
                // against the pod, though: an application that says GOAWAY drains as it should, which is told by name.
                if self.peer.is_some()
                    && failure.reached == Reached::No
                    && failure.reason.fault() == Fault::Upstream
                    && failure.reason != Reason::UpstreamRefused
                {
                    exchange.abandon();
                    return Err(Abort::Refused);
                }
                Ok(exchange.answer(reply::failure(&failure)))
            }
        }
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
        let http = self.worker.settings.http;
        let most = if self.peer.is_some() { http.meshed().header_count } else { http.header_count };
        let shaped = shape::within(&head.headers, most).and_then(|()| shape::inner(&mut head));
        exchange.describe(&head);
        self.describe(exchange);
        shaped?;

        // Caller: the policy of the moment, which may be younger than the connection, lets it come.
        self.may_be(snapshot)?;
        self.authorize(snapshot, exchange, Some((&head.method, head.uri.path())))?;
        fields::strip_hop_by_hop(&mut head.headers);
        let client_version = self.client_version(&mut head.headers, head.version);
        self.introduce(&mut head.headers);
        let body = exchange.watch_request(body);

        // Trace: continued, or begun here.
        exchange.trace(&mut head.headers);

        // Filters, on the way in: one of them may answer in the application's place.
        let (chain, caller) = (self.chain(snapshot), self.peer.as_ref());
        if let Some(answer) = exchange.filter_request(chain, caller, Some(&self.admitted), &mut head).await? {
            return exchange.filter_response(answer).await;
        }
        let body = exchange.filter_request_body(body);

        // The application, in its own version.
        let leg = Leg::plain(self.protocol, client_version);
        exchange.shape(&mut head, &leg);
        let target = Target { who: Who::Application(self.application), address: self.application, leg };
        let record = exchange.record();
        record.attempts = 1;
        record.upstream = Some(self.application);
        let request = Request::from_parts(head, body);
        let sent = self.worker.upstream.send(&target, None, request, interim, None, &Cell::default()).await;

        // Hygiene on the way back. Only a sidecar may name a reason.
        let answered = sent.map_err(unreachable_application).map(|mut response| {
            fields::strip_hop_by_hop(response.headers_mut());
            response.headers_mut().remove(fields::REASON);
            response
        });

        // Filters, on the way out. One that saw the body may have broken it off with an answer of its own.
        let response = answered.or_else(|failure| exchange.filters_answer().ok_or(failure))?;
        exchange.filter_response(response).await
    }

    /// The filters before the application.
    pub(super) fn chain<'s>(&self, snapshot: &'s Snapshot) -> Option<&'s Arc<FilterChain>> {
        snapshot.destinations.inbound(self.application, &self.worker.settings.service)
    }

    /// Notes who called whom.
    pub(super) fn describe(&self, exchange: &mut Exchange) {
        let record = exchange.record();
        record.service = Arc::clone(&self.service);
        if let Some(peer) = &self.peer {
            record.security = Security::MutualTls;
            record.peer_identity = Some(peer.shared());
            record.peer_service = peer.shared();
        }
    }

    /// Tells the application who calls, if anybody has proved it. What a caller says of itself is worth nothing.
    fn introduce(&self, headers: &mut HeaderMap) {
        match &self.caller {
            Some(caller) => headers.insert(fields::CALLER, caller.clone()),
            None => headers.remove(fields::CALLER),
        };
    }

    /// The version that the client spoke: from the mesh leg's header, which nobody else may set.
    fn client_version(&self, headers: &mut HeaderMap, spoken: Version) -> Version {
        let said = headers.remove(fields::CLIENT_VERSION);
        match (&self.peer, said) {
            (Some(_), Some(said)) => fields::version_of(&said).unwrap_or(spoken),
            _ => spoken,
        }
    }
}

/// A failure to connect says that the application, not some endpoint, was out of reach.
fn unreachable_application(mut failure: Failure) -> Failure {
    if matches!(failure.reason, Reason::ConnectFailed | Reason::ConnectTimeout) {
        failure.reason = Reason::ApplicationUnreachable;
    }
    failure
}
