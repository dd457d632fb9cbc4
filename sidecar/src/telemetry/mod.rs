//! What the sidecar tells about its traffic: metrics, traces, access log.
//!
//! A request's way fills a [`Record`]; at its end the record feeds the worker's counters, and only then, and only if
//! somebody wants it, becomes a log line or a span. Nothing is formatted for nobody, and nothing waits for a reader.
//!
//! A worker calls its [`Telemetry`]; the control side holds the [`TelemetryHub`] that it came from.

mod access_log;
mod hub;
mod metrics;
pub mod own_log;
mod pulse;
pub mod record;
mod rfc3339;
mod trace;
mod worker;

pub use self::{
    access_log::LogOutput,
    hub::{TelemetryConfig, TelemetryHub},
    metrics::{
        CATALOGUE, CertificateUse, ConnectionCount, EjectedNow, Format, HandshakeFailure, IdentityFailure,
        IdentityMetrics, IdentityRequest, Metric, OpenConnection, Peer, PolicyUpdate, ProcessMetrics,
        PushResult,
    },
    record::{
        Direction, PassedOver, Placement, Protocol, Record, Rejected, RejectedRule, Security, TraceContext,
        TraceId,
    },
    rfc3339::{Seconds, Timestamp},
    trace::{ReceiverTls, channel_to_receiver},
    worker::{External, Telemetry},
};

#[cfg(test)]
mod tests;
