//! Who serves a port of a service: its endpoints by region, in the order in which they are to be tried.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls_pki_types::ServerName;

use super::{
    names::{AppProtocol, ServiceName, SpiffeId},
    settings::RetryBudgetPolicy,
    state::{ClusterState, EndpointHealth},
};

/// The endpoints of one port of a service, with the limits that hold for it.
#[derive(Debug)]
pub struct Cluster {
    /// The service.
    pub service: ServiceName,
    /// The service's port.
    pub port: u16,
    /// What its application speaks.
    pub protocol: AppProtocol,
    /// Regions in the order of the policy, residency applied; each holds at least one endpoint.
    pub regions: Vec<RegionGroup>,
    /// Regions with endpoints that are never used from here, and why: `explain` shows them.
    pub skipped: Vec<SkippedRegion>,
    /// What one sidecar may hold and ask of the service.
    pub circuit: CircuitLimits,
    /// When an endpoint is ejected.
    pub outlier: OutlierPolicy,
    /// How many retries are allowed.
    pub retry_budget: RetryBudgetPolicy,
    /// The counts behind the limits; survive a push.
    pub state: Arc<ClusterState>,
}

/// The endpoints of one region.
#[derive(Debug)]
pub struct RegionGroup {
    /// The region's name; empty where endpoints name none.
    pub region: Arc<str>,
    /// Ready endpoints.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// The greatest weight among them: a weighted choice by rejection needs it.
    pub max_weight: u32,
}

impl RegionGroup {
    /// A region and its ready endpoints.
    pub fn new(region: Arc<str>, endpoints: Vec<Arc<Endpoint>>) -> Self {
        let max_weight = endpoints.iter().map(|e| e.weight).max().unwrap_or(1);
        Self { region, endpoints, max_weight }
    }
}

/// A region that policy keeps this sidecar from.
#[derive(Debug)]
pub struct SkippedRegion {
    /// The region's name.
    pub region: Arc<str>,
    /// Why: `residency`, `no_ready_endpoint`, or `policy_refused` where the policy that would tell cannot be used.
    pub why: &'static str,
}

/// One instance of a service.
#[derive(Debug)]
pub struct Endpoint {
    /// Where the application listens.
    pub address: SocketAddr,
    /// Region and zone.
    pub region: Arc<str>,
    /// The zone inside the region; empty where it has none.
    pub zone: Arc<str>,
    /// Its share next to its peers, at least 1.
    pub weight: u32,
    /// The way there.
    pub transport: Transport,
    /// What its application speaks.
    pub protocol: AppProtocol,
    /// How it does; survives a push.
    pub health: Arc<EndpointHealth>,
}

/// How an endpoint is reached. Never a downgrade: with a mesh record it is mutual TLS or nothing.
#[derive(Debug)]
pub enum Transport {
    /// Straight to the application.
    Plain,
    /// Straight to the application, in TLS.
    Tls(Arc<BackendTls>),
    /// Through its sidecar.
    Mesh(MeshRecord),
}

/// TLS to endpoints without a sidecar.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct BackendTls {
    /// The SNI.
    pub server_name: ServerName<'static>,
    /// A certificate must carry one of these; never empty.
    pub names: Vec<CertificateName>,
    /// The entry of the sidecar's configuration that names the files; empty: the system's authorities.
    pub files: Arc<str>,
}

/// A name that a certificate may carry.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum CertificateName {
    /// A host's, matched as RFC 9525 says.
    Host(ServerName<'static>),
    /// A URI, the same byte by byte.
    Uri(Box<str>),
}

/// Where an endpoint's sidecar listens and who it must be.
#[derive(Debug)]
pub struct MeshRecord {
    /// The sidecar's mesh address.
    pub address: SocketAddr,
    /// The SPIFFE id that its certificate must carry.
    pub identity: SpiffeId,
    /// The SNI of connections there: `<port>.<service>.<namespace>`.
    pub server_name: ServerName<'static>,
}

/// What one sidecar may hold and ask of one port of a service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CircuitLimits {
    /// Connections open at once.
    pub max_connections: u32,
    /// Requests waiting for a connection.
    pub max_pending: u32,
    /// Requests in flight.
    pub max_requests: u32,
    /// Retries in flight.
    pub max_retries: u32,
}

impl Default for CircuitLimits {
    fn default() -> Self {
        Self { max_connections: 1024, max_pending: 1024, max_requests: 16_384, max_retries: 1024 }
    }
}

/// When an endpoint is taken out of the choice for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlierPolicy {
    /// Failures in a row (connect failures, resets, 5xx of the gateway kind) that eject it; 0: never.
    pub consecutive_failures: u32,
    /// The first ejection's length; each further one in a row doubles it.
    pub base_ejection: Duration,
    /// The longest ejection.
    pub max_ejection: Duration,
    /// At most this share of a cluster's endpoints is ejected at once; at least one always may be.
    pub max_ejected_percent: u32,
}

impl Default for OutlierPolicy {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            base_ejection: Duration::from_secs(10),
            max_ejection: Duration::from_secs(300),
            max_ejected_percent: 50,
        }
    }
}
