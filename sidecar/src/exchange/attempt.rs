//! Whom a request is sent to, and in which shape: once or again.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderMap, Response, request};

use super::Exchange;
use crate::{
    balance::Event,
    config::snapshot::{Endpoint, Transport},
    error::{Failure, Reason},
    http::{body::Body, fields, shape},
    telemetry::{Placement, Protocol, Record, Security},
    upstream::Leg,
};

impl Exchange {
    /// A destination that policy does not know.
    pub fn to_external(&mut self, address: SocketAddr) {
        let external = Arc::clone(&self.worker.words.external);
        let record = self.record();
        record.service = Arc::clone(&external);
        record.peer_service = external;
        record.upstream = Some(address);
        record.attempts = 1;
    }

    /// An attempt begins: this endpoint is busy with the request until the next one, or the end. Gives the time of its
    /// beginning.
    pub fn attempt(&mut self, endpoint: &Arc<Endpoint>, address: SocketAddr) -> Duration {
        let now = self.worker.now();
        self.release(now);
        self.worker.loads.borrow_mut().observe(endpoint, Event::Started, now);
        self.serving = Some(Arc::clone(endpoint));
        let started = self.worker.shared.started;
        let record = self.record();
        record.attempts = record.attempts.max(1);
        record.attempt_after = (started + now).saturating_duration_since(record.started);
        record.upstream = Some(address);
        record.peer_region = Arc::clone(&endpoint.region);
        record.peer_service = Arc::clone(&record.service);
        record.security = match &endpoint.transport {
            Transport::Mesh(_) => Security::MutualTls,
            Transport::Tls(_) => Security::Tls,
            Transport::Plain => Security::Plain,
        };
        // Nobody has proved anything yet.
        record.peer_identity = None;
        now
    }

    /// The endpoint that has the request, or carries the opaque connection.
    pub fn serving(&self) -> Option<&Endpoint> {
        self.serving.as_deref()
    }

    /// There is a connection to the endpoint of the attempt: its sidecar has proved that it is whom policy names, or there
    /// would be none.
    pub fn connected(&mut self) {
        if let Some(Transport::Mesh(mesh)) = self.serving.as_deref().map(|endpoint| &endpoint.transport)
            && let Some(record) = &mut self.record
        {
            record.peer_identity.get_or_insert_with(|| mesh.identity.shared());
        }
    }

    /// Why the endpoint's sidecar has answered in its application's place, if it has.
    pub fn said(&mut self, reason: Option<Reason>) {
        let record = self.record();
        record.reason = reason;
        record.detail = reason.map(|_| "said by the endpoint's sidecar".into());
    }

    /// Gives each attempt after the first a span of its own.
    pub fn retrace(&mut self, headers: &mut HeaderMap) {
        let record = self.record.as_mut().filter(|r| r.attempts > 1);
        if let Some(record) = record
            && let Some(trace) = record.trace
        {
            record.trace = Some(self.worker.telemetry.retrace(trace, headers));
        }
    }

    /// Whether it becomes a span.
    pub fn is_traced(&self) -> bool {
        let trace = self.record.as_ref().and_then(|record| record.trace);
        trace.is_some_and(|trace| trace.sampled)
    }

    /// Why the attempt that follows goes where it goes, or that there is nobody to ask.
    pub fn place(&mut self, placement: Box<Placement>) {
        self.record().placement = Some(placement);
    }

    /// Gives the request the shape of the leg that it goes on, and notes which version that is.
    pub fn shape(&mut self, head: &mut request::Parts, leg: &Leg<'_>) {
        if matches!(leg, Leg::Mesh(_)) {
            head.headers.insert(fields::CLIENT_VERSION, fields::version_value(head.version));
        }
        self.record().upstream_protocol = Some(if leg.is_http2() {
            shape::http2(head, leg.scheme());
            Protocol::Http2
        } else {
            shape::http1(head);
            Protocol::Http11
        });
    }

    /// The attempt came to nothing and another one follows.
    pub fn retried(&mut self, outcome: &Result<Response<Body>, Failure>) {
        let Some(record) = &self.record else { return };
        let mut attempt = Record::clone(record);
        attempt.duration = record.started.elapsed();
        match outcome {
            Ok(response) => attempt.status = response.status().as_u16(),
            Err(failure) => attempt.reason = Some(failure.reason),
        }
        self.worker.telemetry.retried(attempt);
    }

    /// The endpoint of the attempt is done with it.
    pub(super) fn release(&mut self, now: Duration) {
        if let Some(endpoint) = self.serving.take() {
            self.worker.loads.borrow_mut().observe(&endpoint, Event::Ended, now);
        }
    }
}
