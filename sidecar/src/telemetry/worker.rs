//! What a worker calls while requests pass.

use std::{sync::Arc, time::Instant};

use http::HeaderMap;

use super::{
    access_log::AccessLog,
    metrics::{Families, HandshakeFailure, OpenConnection, Peer, WorkerMetrics},
    pulse::Pulse,
    record::{Direction, Record, Security, TraceContext},
    trace::{Draw, Exporter, Tracer},
};
use crate::config::snapshot::TelemetrySettings;

/// A connection to a destination that no policy names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum External {
    /// Passed through, as policy allows.
    Passed,
    /// Refused, as policy demands.
    Refused,
    /// Passed through because there is no policy at all.
    Pending,
}

/// One worker's telemetry. Stays on its thread: its counters have one writer.
#[derive(Debug)]
pub struct Telemetry {
    metrics: WorkerMetrics,
    tracer: Tracer,
    log: Option<AccessLog>,
    exporter: Option<Exporter>,
    pulse: Pulse,
}

impl Telemetry {
    pub(crate) fn new(
        families: &Families,
        log: Option<AccessLog>,
        exporter: Option<Exporter>,
        pulse: Pulse,
    ) -> Self {
        Self { metrics: WorkerMetrics::new(families), tracer: Tracer::new(Draw::new()), log, exporter, pulse }
    }

    /// Continues or begins the trace of a request and, if it is kept, has the headers say so. To be called once per
    /// request, before the headers are sent on; the answer belongs into the record. A request from another sidecar
    /// begins no trace: that sidecar drew already, and says so only of what it keeps.
    pub fn trace(
        &self,
        direction: Direction,
        downstream: Security,
        headers: &mut HeaderMap,
        settings: &TelemetrySettings,
    ) -> Option<TraceContext> {
        self.tracer.trace(headers, || {
            let has_drawn = direction == Direction::Inbound && downstream == Security::MutualTls;
            if has_drawn { 0.0 } else { settings.sampling }
        })
    }

    /// The context of one more attempt, which gets a span of its own. The headers are those of the attempt before.
    pub fn retrace(&self, trace: TraceContext, headers: &mut HeaderMap) -> TraceContext {
        self.tracer.retrace(trace, headers)
    }

    /// A request or opaque connection has ended: counts it, logs it if policy says so, makes a span of it if its trace
    /// is kept.
    pub fn finish(&self, record: Record, settings: &TelemetrySettings) {
        self.metrics.finished(&record);
        let log = self.log.as_ref().filter(|_| settings.access_log);
        let exporter = self.exporter_for(&record);
        match (log, exporter) {
            (None, None) => {}
            (Some(log), None) => log.log(Arc::new(record)),
            (None, Some(exporter)) => exporter.export(Arc::new(record)),
            (Some(log), Some(exporter)) => {
                let record = Arc::new(record);
                exporter.export(Arc::clone(&record));
                log.log(record);
            }
        }
    }

    /// An outbound attempt has failed and another one follows. The record tells of this attempt alone: its number in
    /// `attempts`, its end in `duration`, its context in `trace`.
    pub fn retried(&self, attempt: Record) {
        self.metrics.retried(&attempt);
        if let Some(exporter) = self.exporter_for(&attempt) {
            exporter.export(Arc::new(attempt));
        }
    }

    /// A connection was opened; it counts as open until the answer is dropped.
    #[must_use]
    pub fn connection_opened(&self, direction: Direction, peer: Peer, tls: Security) -> OpenConnection {
        self.metrics.connection(direction, peer, tls)
    }

    /// A TLS handshake with a peer has ended.
    pub fn tls_handshake(&self, peer: Peer, outcome: Result<(), HandshakeFailure>) {
        self.metrics.handshake(peer, outcome);
    }

    /// The HTTP/1 guard or the HTTP/2 codec refused bytes; `kind` is a word from a closed set.
    pub fn guard_refused(&self, kind: &'static str) {
        self.metrics.guard_refused(kind);
    }

    /// A connection would have come back to us and was refused.
    pub fn loop_refused(&self, direction: Direction) {
        self.metrics.loop_refused(direction);
    }

    /// A connection went, or wanted to go, to a destination that no policy names.
    pub fn external(&self, outcome: External) {
        self.metrics.external(match outcome {
            External::Passed => "passed",
            External::Refused => "refused",
            External::Pending => "pending",
        });
    }

    /// An endpoint was ejected.
    pub fn ejected(&self, service: &Arc<str>, region: &Arc<str>) {
        self.metrics.ejected(service, region);
    }

    /// A retry was called for and not made; `kind` is a word from a closed set.
    pub fn retry_withheld(&self, service: &Arc<str>, kind: &'static str) {
        self.metrics.retry_withheld(service, kind);
    }

    /// Authorisation refused a caller or would have; `kind` and `result` are words from closed sets.
    pub fn authz(&self, policy: &Arc<str>, kind: &'static str, result: &'static str) {
        self.metrics.authz(policy, kind, result);
    }

    /// A sign of life; to be given once a second.
    pub fn beat(&self) {
        self.pulse.beat(Instant::now());
    }

    fn exporter_for(&self, record: &Record) -> Option<&Exporter> {
        self.exporter.as_ref().filter(|_| record.trace.is_some_and(|t| t.sampled))
    }
}
