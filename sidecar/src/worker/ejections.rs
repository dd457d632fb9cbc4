//! What the control side is told of ejections, so that the log can say what no request waits for.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use http::StatusCode;
use tokio::sync::mpsc;

use crate::{
    config::snapshot::{Cluster, Endpoint, state::EndpointHealth},
    error::Reason,
};

/// Ejections that wait to be told. One more is counted all the same, and not told.
const WAITING: usize = 1024;

/// An endpoint is left out from now on.
#[derive(Clone, Debug)]
pub struct Ejection {
    /// Whose endpoint it is, `namespace/name`.
    pub service: Arc<str>,
    /// The service's port.
    pub port: u16,
    /// The endpoint.
    pub endpoint: SocketAddr,
    /// Its region.
    pub region: Arc<str>,
    /// The failure that was one too many.
    pub why: Blame,
    /// For how long.
    pub length: Duration,
    /// How it stands; nothing any more once no policy names it.
    pub health: Weak<EndpointHealth>,
}

impl Ejection {
    /// An endpoint of this cluster.
    pub fn new(cluster: &Cluster, endpoint: &Endpoint, why: Blame, length: Duration) -> Self {
        Self {
            service: Arc::clone(&cluster.service.label),
            port: cluster.port,
            endpoint: endpoint.address,
            region: Arc::clone(&endpoint.region),
            why,
            length,
            health: Arc::downgrade(&endpoint.health),
        }
    }
}

/// What counts against an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Blame {
    /// It answered with this status.
    Status(StatusCode),
    /// There was no answer, for this reason.
    Failed(Reason),
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {}", status.as_u16()),
            Self::Failed(reason) => reason.fmt(f),
        }
    }
}

/// The workers' end.
#[derive(Clone, Debug)]
pub struct Ejections(mpsc::Sender<Ejection>);

impl Ejections {
    /// Both ends.
    pub fn new() -> (Self, mpsc::Receiver<Ejection>) {
        let (tell, told) = mpsc::channel(WAITING);
        (Self(tell), told)
    }

    /// Tells of one; never waits.
    pub fn tell(&self, ejection: Ejection) {
        self.0.try_send(ejection).ok();
    }
}
