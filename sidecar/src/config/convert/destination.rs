//! The indexes that say which service an address or authority means.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use trama_proto::policy::v1::plugin_chain_spec::Direction;

use super::{
    EndpointAddress, Extent, Local,
    authz::{self, Authorizations},
    chain::Chains,
    cluster::{Clusters, Placed},
    findings::{Findings, quoted},
    route::Tables,
    service::{Port, Service, Services},
};
use crate::config::snapshot::{
    Authorization, DestinationIndex, Direct, FilterChain, Pending, ServicePort, Transport,
};

/// What stands before services and their applications.
pub(super) struct Before {
    pub(super) chains: Chains,
    pub(super) authorizations: Authorizations,
}

/// Builds the indexes from what was read before.
pub(super) fn build(
    services: &Services<'_>,
    clusters: &Clusters<'_>,
    mut tables: Tables,
    before: Before,
    (local, extent): (&Local, Extent<'_>),
    findings: &mut Findings,
) -> DestinationIndex {
    let mut index = DestinationIndex::default();
    let nameless = extent.part().into_iter().flat_map(|part| &part.nameless);
    index.nameless = nameless.map(|(address, service)| (*address, Arc::clone(service))).collect();
    for service in services.iter() {
        for port in &service.ports {
            let Some(cluster) = clusters.of(&service.name, port.port) else { continue };
            let key = (Arc::clone(&service.name.label), port.port);
            let entry = Arc::new(ServicePort {
                service: service.name.clone(),
                port: port.port,
                protocol: port.protocol,
                whole: extent.covers(&service.name.label),
                filters: before.chains.of(&service.name, Direction::Outbound),
                routes: tables.remove(&key).unwrap_or_default(),
                cluster: Arc::clone(cluster),
            });
            for address in &service.addresses {
                index.by_address.insert(SocketAddr::new(*address, port.port), Arc::clone(&entry));
            }
            for host in hosts(service, local) {
                index.by_authority.entry(host.into()).or_default().push(Arc::clone(&entry));
            }
            index.by_name.insert(key, entry);
        }
    }
    let owners = owners(services, &clusters.endpoints, extent);
    direct(&mut index, &clusters.endpoints, (&before, &owners), findings);
    pending(&mut index, &before, &owners);
    index.inbound = before.chains.inbound().collect();
    index.authorization = before.authorizations.into_inner();
    index
}

/// The authorities that mean a service.
fn hosts(service: &Service<'_>, local: &Local) -> Vec<String> {
    let (name, namespace) = (&service.name.name, &service.name.namespace);
    let mut hosts = vec![
        format!("{name}.{namespace}"),
        format!("{name}.{namespace}.svc"),
        format!("{name}.{namespace}.svc.cluster.local"),
    ];
    if **namespace == *local.namespace {
        hosts.push(name.to_string());
    }
    hosts.extend(service.spec.hosts.iter().map(|host| host.to_ascii_lowercase()));
    hosts.sort();
    hosts.dedup();
    hosts
}

/// The services, each once, that have an endpoint at an address, with their ports there.
type Owners = HashMap<SocketAddr, Vec<(Arc<str>, u16)>>;

fn owners(services: &Services<'_>, endpoints: &[Placed<'_>], extent: Extent<'_>) -> Owners {
    let mut owners = Owners::new();
    let mut add = |address, service: &Arc<str>, port| {
        let there: &mut Vec<(Arc<str>, u16)> = owners.entry(address).or_default();
        if there.iter().all(|(known, _)| known != service) {
            there.push((Arc::clone(service), port));
        }
    };
    for placed in endpoints {
        add(placed.endpoint.address, &placed.service, placed.port);
    }
    let told: HashMap<_, _> = extent.part().into_iter().flat_map(|part| &part.endpoints).cloned().collect();
    for service in services.iter() {
        for endpoint in told.get(&service.name.label).into_iter().flat_map(|endpoints| &**endpoints) {
            for (address, port) in served(endpoint, &service.ports) {
                add(address, &service.name.label, port);
            }
        }
    }
    owners
}

/// Where an endpoint listens, and for which of its service's ports. One that its service would not take is nowhere.
fn served(endpoint: &EndpointAddress, ports: &[Port]) -> Vec<(SocketAddr, u16)> {
    let EndpointAddress { address, port: own, service_port } = *endpoint;
    let at = |port: &Port| (SocketAddr::new(address, own.unwrap_or(port.target)), port.port);
    match (service_port, own, ports) {
        (Some(number), ..) => ports.iter().filter(|port| port.port == number).map(at).collect(),
        (None, _, [only]) => vec![at(only)],
        (None, None, ports) => ports.iter().map(at).collect(),
        (None, Some(_), _) => Vec::new(),
    }
}

/// Endpoints by their own address. One that serves several services has no owner; one that is described in two ways
/// is refused, because which way is right cannot be told.
fn direct(
    index: &mut DestinationIndex,
    endpoints: &[Placed<'_>],
    (before, owners): (&Before, &Owners),
    findings: &mut Findings,
) {
    let mut first: HashMap<SocketAddr, &Placed<'_>> = HashMap::new();
    for placed in endpoints {
        let address = placed.endpoint.address;
        let Some(known) = first.get(&address) else {
            first.insert(address, placed);
            let owners = owners.get(&address).map_or(&[][..], Vec::as_slice);
            let owner = match owners {
                [(service, port)] => index.of_name(service, *port).cloned(),
                _ => None,
            };
            let (inbound, authorization) = before.applications_of(owners);
            let direct = Direct { endpoint: Arc::clone(&placed.endpoint), owner, inbound, authorization };
            index.by_endpoint.insert(address, direct);
            continue;
        };
        if !same_way(&known.endpoint.transport, &placed.endpoint.transport) {
            let place = known.document.place(&known.field);
            let problem = format!("reached in another way than in {} at {place}", known.document.id);
            let remedy = "give both the same `mesh` and `identity`, and their ports the same `tls`";
            findings.add(placed.document, &placed.field, quoted(&address.to_string()), problem, remedy);
        }
    }
}

/// The addresses of endpoints of which nothing else is known, with a service that may still be asked about.
fn pending(index: &mut DestinationIndex, before: &Before, owners: &Owners) {
    for (address, owners) in owners {
        if index.by_endpoint.contains_key(address) {
            continue;
        }
        let ports = || owners.iter().filter_map(|(service, port)| index.of_name(service, *port));
        let Some(owner) = ports().find(|port| !port.whole).or_else(|| ports().next()) else { continue };
        let (inbound, authorization) = before.applications_of(owners);
        let pending = Pending { owner: Arc::clone(owner), inbound, authorization };
        index.by_pending.insert(*address, pending);
    }
}

impl Before {
    /// What passes to the application of these services is filtered by the chains of all of them, and has to be allowed by
    /// the policies of all of them.
    fn applications_of(
        &self,
        owners: &[(Arc<str>, u16)],
    ) -> (Option<Arc<FilterChain>>, Option<Arc<Authorization>>) {
        let services = || owners.iter().map(|(service, _)| service);
        let chains = services().filter_map(|service| self.chains.by_label(service, Direction::Inbound));
        let authorizations = services().map(|service| self.authorizations.by_label(service));
        (chains.reduce(both), authorizations.fold(None, authz::both))
    }
}

/// The filters of two services before one application.
fn both(first: Arc<FilterChain>, second: Arc<FilterChain>) -> Arc<FilterChain> {
    Arc::new(FilterChain(first.0.iter().chain(&second.0).cloned().collect()))
}

fn same_way(one: &Transport, other: &Transport) -> bool {
    match (one, other) {
        (Transport::Plain, Transport::Plain) => true,
        (Transport::Tls(one), Transport::Tls(other)) => one == other,
        (Transport::Mesh(one), Transport::Mesh(other)) => {
            (one.address, &one.identity) == (other.address, &other.identity)
        }
        _ => false,
    }
}
