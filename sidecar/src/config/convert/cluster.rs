//! Clusters: who serves a port of a service, by region, in the order in which they are tried.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use rustls_pki_types::ServerName;
use trama_proto::{
    document::Document,
    duration,
    policy::v1::{CircuitLimits as CircuitLimitsMessage, OutlierDetection},
};

use super::{
    Extent,
    endpoint::{self, Endpoints},
    findings::{Findings, quoted},
    index::{Index, Of},
    region::{Policies, Preference},
    service::{Port, Service, Services},
    settings,
};
use crate::config::snapshot::{
    CircuitLimits, Cluster, Endpoint, MeshRecord, OutlierPolicy, RegionGroup, RetryBudgetPolicy, ServiceName,
    SkippedRegion, Transport,
    state::{EndpointKey, Registry},
};

/// Clusters by the service's label and port, and every endpoint with where it was written.
#[derive(Default)]
pub(super) struct Clusters<'d> {
    pub(super) by_port: HashMap<(Arc<str>, u16), Arc<Cluster>>,
    pub(super) endpoints: Vec<Placed<'d>>,
}

/// An endpoint, the service port that it serves, and where it was written.
pub(super) struct Placed<'d> {
    pub(super) service: Arc<str>,
    pub(super) port: u16,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) document: &'d Document,
    pub(super) field: String,
}

impl Clusters<'_> {
    /// The cluster of a service's port.
    pub(super) fn of(&self, service: &ServiceName, port: u16) -> Option<&Arc<Cluster>> {
        self.by_port.get(&(Arc::clone(&service.label), port))
    }
}

/// Builds the cluster of each port of each service.
pub(super) fn build<'d>(
    index: &Index<'d>,
    services: &Services<'d>,
    endpoints: &Endpoints<'d>,
    (policies, extent): (&Policies<'d>, Extent<'_>),
    registry: &mut Registry,
    findings: &mut Findings,
) -> Clusters<'d> {
    let budget = index.mesh.and_then(|(_, mesh)| mesh.retry_budget.as_ref());
    let budget = settings::retry_budget(budget, RetryBudgetPolicy::default());
    let mut clusters = Clusters::default();
    for service in services.iter() {
        let preference = policies.of(&service.name);
        let own = service.spec.outlier.as_ref().map(|outlier| (service.document, outlier));
        let outlier = outlier(preference.outlier.or(own), findings);
        for port in &service.ports {
            let Some(server_name) = server_name(service, port.port, Some(findings)) else { continue };
            let placed = extent.places(&service.name.label);
            let grouping = Grouping { service, port, policies, preference, placed, server_name };
            let (regions, skipped) =
                grouping.of(endpoints.of(&service.name), registry, &mut clusters.endpoints);
            let cluster = Cluster {
                service: service.name.clone(),
                port: port.port,
                protocol: port.protocol,
                regions,
                skipped,
                circuit: circuit(service.spec.circuit_limits.as_ref()),
                outlier,
                retry_budget: settings::retry_budget(preference.retry_budget, budget),
                state: registry.cluster(&service.name.label, port.port),
            };
            clusters.by_port.insert((Arc::clone(&service.name.label), port.port), Arc::new(cluster));
        }
    }
    clusters
}

/// Sorts the endpoints of a service's port into regions.
struct Grouping<'a, 'd> {
    service: &'a Service<'d>,
    port: &'a Port,
    policies: &'a Policies<'d>,
    preference: &'a Preference<'d>,
    /// Whether it is known which regions may serve.
    placed: bool,
    server_name: ServerName<'static>,
}

impl<'d> Grouping<'_, 'd> {
    fn of(
        &self,
        endpoints: &[endpoint::Endpoint<'d>],
        registry: &mut Registry,
        placed: &mut Vec<Placed<'d>>,
    ) -> (Vec<RegionGroup>, Vec<SkippedRegion>) {
        let mut groups: BTreeMap<Arc<str>, Vec<Arc<Endpoint>>> = BTreeMap::new();
        for draft in endpoints {
            let Some(address) = draft.serves(self.port) else { continue };
            let endpoint = Arc::new(self.endpoint(draft, address, registry));
            let group = groups.entry(Arc::clone(&draft.region)).or_default();
            if draft.ready {
                group.push(Arc::clone(&endpoint));
            }
            placed.push(Placed {
                service: Arc::clone(&self.service.name.label),
                port: self.port.port,
                endpoint,
                document: draft.document,
                field: draft.field.clone(),
            });
        }
        self.ranked(groups)
    }

    fn endpoint(
        &self,
        draft: &endpoint::Endpoint<'_>,
        address: SocketAddr,
        registry: &mut Registry,
    ) -> Endpoint {
        let transport = self.transport(draft, address.port());
        let key = EndpointKey {
            service: Arc::clone(&self.service.name.label),
            address,
            mesh: draft.mesh.as_ref().map(|(mesh, _)| *mesh),
            identity: draft.mesh.as_ref().map(|(_, identity)| identity.shared()),
            tls: match &transport {
                Transport::Tls(tls) => Some(Arc::clone(tls)),
                Transport::Plain | Transport::Mesh(_) => None,
            },
        };
        Endpoint {
            address,
            region: Arc::clone(&draft.region),
            zone: Arc::clone(&draft.zone),
            weight: draft.weight,
            transport,
            protocol: self.port.protocol,
            health: registry.endpoint(key),
        }
    }

    /// The way to an endpoint. A mesh record comes first: what it promises is never less than the port's TLS.
    fn transport(&self, draft: &endpoint::Endpoint<'_>, port: u16) -> Transport {
        match (&draft.mesh, &self.port.tls) {
            (Some((address, identity)), _) => {
                let server_name = server_name(self.service, port, None);
                let server_name = server_name.unwrap_or_else(|| self.server_name.clone());
                Transport::Mesh(MeshRecord { address: *address, identity: identity.clone(), server_name })
            }
            (None, Some(tls)) => Transport::Tls(Arc::clone(tls)),
            (None, None) => Transport::Plain,
        }
    }

    /// The regions that may serve, the best first, and those that may not.
    fn ranked(
        &self,
        groups: BTreeMap<Arc<str>, Vec<Arc<Endpoint>>>,
    ) -> (Vec<RegionGroup>, Vec<SkippedRegion>) {
        let (mut regions, mut skipped) = (Vec::new(), Vec::new());
        for (region, endpoints) in groups {
            if !self.placed {
                skipped.push(SkippedRegion { region, why: "policy_refused" });
            } else if !self.preference.permits(&region) {
                skipped.push(SkippedRegion { region, why: "residency" });
            } else if endpoints.is_empty() {
                skipped.push(SkippedRegion { region, why: "no_ready_endpoint" });
            } else {
                regions.push(RegionGroup::new(region, endpoints));
            }
        }
        regions.sort_by(|a, b| self.policies.compare(self.preference, &a.region, &b.region));
        // Where nothing is nearer than anything else, an order would only be an accident of names.
        if regions.len() > 1 && self.policies.is_unranked(self.preference) {
            let endpoints = regions.into_iter().flat_map(|group| group.endpoints).collect();
            regions = vec![RegionGroup::new("".into(), endpoints)];
        }
        (regions, skipped)
    }
}

/// `<port>.<service>.<namespace>`, the name that TLS asks a sidecar for. The port is the one that the application listens
/// on, so that a sidecar needs no policy to know what is meant.
fn server_name(
    service: &Service<'_>,
    port: u16,
    findings: Option<&mut Findings>,
) -> Option<ServerName<'static>> {
    let text = format!("{port}.{}.{}", service.name.name, service.name.namespace);
    let parsed = ServerName::try_from(text.clone());
    if let (Err(_), Some(findings)) = (&parsed, findings) {
        let problem = format!("makes no valid server name: {}", quoted(&text));
        let remedy = "shorten the name or the namespace; an all-digit namespace cannot be a DNS name";
        findings.add(service.document, "metadata.name", quoted(&service.name.name), problem, remedy);
    }
    parsed.ok()
}

fn circuit(message: Option<&CircuitLimitsMessage>) -> CircuitLimits {
    let default = CircuitLimits::default();
    message.map_or(default, |it| CircuitLimits {
        max_connections: it.max_connections.unwrap_or(default.max_connections),
        max_pending: it.max_pending.unwrap_or(default.max_pending),
        max_requests: it.max_requests.unwrap_or(default.max_requests),
        max_retries: it.max_retries.unwrap_or(default.max_retries),
    })
}

fn outlier(message: Option<Of<'_, OutlierDetection>>, findings: &mut Findings) -> OutlierPolicy {
    let default = OutlierPolicy::default();
    let Some((document, it)) = message else { return default };
    let length = |message: Option<&_>, default: Duration| message.map_or(default, duration::of);
    let policy = OutlierPolicy {
        consecutive_failures: it.consecutive_failures.unwrap_or(default.consecutive_failures),
        base_ejection: length(it.base_ejection.as_ref(), default.base_ejection),
        max_ejection: length(it.max_ejection.as_ref(), default.max_ejection),
        max_ejected_percent: it.max_ejection_percent.unwrap_or(default.max_ejected_percent),
    };
    if policy.base_ejection > policy.max_ejection {
        let value = quoted(&duration::format(policy.base_ejection));
        let problem = format!("longer than `maxEjection` ({})", duration::format(policy.max_ejection));
        findings.add(
            document,
            "spec.outlier.baseEjection",
            value,
            problem,
            "shorten it or lengthen `maxEjection`",
        );
    }
    policy
}
