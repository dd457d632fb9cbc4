//! Metrics: per-worker counters, summed when somebody scrapes.
//!
//! `worker` counts into `series`, which `family` hands out per label set; `labels` is the closed set of labels,
//! `catalogue` the list of all metrics, `exposition` their text. `process` is what is counted once per process, `identity`
//! the part of it that is the workload's identity.

mod catalogue;
mod exposition;
mod family;
mod handshake;
mod identity;
mod labels;
mod process;
mod series;
mod worker;

use std::sync::Arc;

pub use self::{
    catalogue::{CATALOGUE, Metric},
    exposition::{ConnectionCount, Format},
    handshake::HandshakeFailure,
    identity::{IdentityFailure, IdentityMetrics, IdentityRequest},
    labels::Peer,
    process::{CertificateUse, EjectedNow, PolicyUpdate, ProcessMetrics, PushResult},
    worker::OpenConnection,
};
pub(crate) use self::{
    exposition::{Sources, connections, scrape},
    labels::method_name,
    worker::WorkerMetrics,
};
use self::{
    family::Family,
    labels::{
        AttemptLabels, AuthzLabels, ConnectionLabels, DirectionLabel, DurationLabels, EjectionLabels,
        HandshakeLabels, KindLabel, RequestLabels, WithheldLabels,
    },
    series::{ConnectionSeries, Counter, Histogram, RequestSeries},
};

/// The label sets of every metric that workers count.
#[derive(Debug, Default)]
pub(crate) struct Families {
    requests: Arc<Family<RequestLabels, RequestSeries>>,
    server_durations: Arc<Family<DurationLabels, Histogram>>,
    client_durations: Arc<Family<DurationLabels, Histogram>>,
    attempts: Arc<Family<AttemptLabels, Counter>>,
    connections: Arc<Family<ConnectionLabels, ConnectionSeries>>,
    handshakes: Arc<Family<HandshakeLabels, Counter>>,
    guard_refusals: Arc<Family<KindLabel, Counter>>,
    loops: Arc<Family<DirectionLabel, Counter>>,
    external: Arc<Family<KindLabel, Counter>>,
    ejections: Arc<Family<EjectionLabels, Counter>>,
    retries_withheld: Arc<Family<WithheldLabels, Counter>>,
    authz: Arc<Family<AuthzLabels, Counter>>,
}
