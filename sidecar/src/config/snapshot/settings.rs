//! What holds for the whole sidecar.

use std::sync::Arc;

/// What becomes of traffic to destinations that no policy names.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UnknownDestination {
    /// Passed through unchanged, labelled `external`.
    #[default]
    PassThrough,
    /// Refused with `destination_refused`.
    Refuse,
}

/// How many retries a service's requests may cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudgetPolicy {
    /// Retries allowed per hundred requests of the last ten seconds.
    pub percent: u32,
    /// Retries a second that are always allowed, so that quiet services can retry at all.
    pub min_per_second: u32,
}

impl Default for RetryBudgetPolicy {
    fn default() -> Self {
        Self { percent: 20, min_per_second: 10 }
    }
}

/// What holds for all traffic of the sidecar.
#[derive(Clone, Debug, Default)]
pub struct MeshSettings {
    /// Destinations that no policy names.
    pub unknown: UnknownDestination,
    /// Ports of the application that refuse plain connections.
    pub strict_ports: Vec<u16>,
    /// Whether all ports refuse plain connections.
    pub strict: bool,
    /// The regions that policy knows, own region included.
    pub regions: Vec<Arc<str>>,
}

impl MeshSettings {
    /// Whether a plain connection to this port of the application is refused.
    pub fn refuses_plain(&self, port: u16) -> bool {
        self.strict || self.strict_ports.contains(&port)
    }
}

/// What is traced and logged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TelemetrySettings {
    /// Share of traces begun here that are kept, 0.0 to 1.0.
    pub sampling: f64,
    /// Whether requests are logged.
    pub access_log: bool,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self { sampling: 0.0, access_log: true }
    }
}
