//! How an endpoint stands, for people: what [`Loads::pick`] looks at, told.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use super::{
    Loads,
    outlier::{self, Standing},
};
use crate::config::snapshot::{Cluster, Endpoint};

/// What is known of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Surveyed {
    /// Whether it may be used.
    pub standing: Standing,
    /// Whether a request that has tried nothing may go there now.
    pub usable: bool,
    /// How much longer it is ejected.
    pub ejected_for: Duration,
    /// Failures since its last success.
    pub consecutive_failures: u32,
    /// How long an answer takes; `None`: never measured.
    pub latency: Option<Duration>,
    /// Requests that it has from this worker.
    pub outstanding: u32,
    /// Its weight, slow start applied.
    pub weight: f64,
}

impl Loads {
    /// How one of a cluster's endpoints stands.
    pub fn survey(&mut self, cluster: &Cluster, endpoint: &Endpoint, now: Duration) -> Surveyed {
        let health = &endpoint.health;
        let until = Duration::from_micros(health.ejected_until.load(Relaxed));
        let weight = self.weight(endpoint, now);
        let latency = self.of(endpoint, now).latency.at(now);
        Surveyed {
            standing: outlier::standing(&cluster.outlier, health, now),
            usable: self.usable(cluster, endpoint, now),
            ejected_for: until.saturating_sub(now),
            consecutive_failures: health.consecutive_failures.load(Relaxed),
            latency: (latency > 0.0).then(|| Duration::from_secs_f64(latency)),
            outstanding: self.outstanding(health.id),
            weight,
        }
    }
}
