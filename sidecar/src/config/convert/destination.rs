//! The indexes that say which service an address or authority means.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use trama_proto::policy::v1::plugin_chain_spec::Direction;

use super::{
    Extent, Local,
    authz::{self, Authorizations},
    chain::Chains,
    cluster::{Clusters, Placed},
    findings::{Findings, quoted},
    route::Tables,
    service::{Service, Services},
};
use crate::config::snapshot::{DestinationIndex, Direct, FilterChain, ServicePort, Transport};

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
    direct(&mut index, &clusters.endpoints, &before, findings);
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

/// Endpoints by their own address. One that serves several services has no owner; one that is described in two ways
/// is refused, because which way is right cannot be told.
fn direct(index: &mut DestinationIndex, endpoints: &[Placed<'_>], before: &Before, findings: &mut Findings) {
    let Before { chains, authorizations } = before;
    // Who described an address first, and the service whose policy was put before it last: services come one by one.
    let mut first: HashMap<SocketAddr, (&Placed<'_>, &str)> = HashMap::new();
    for placed in endpoints {
        let address = placed.endpoint.address;
        let Some((known, last)) = first.get_mut(&address) else {
            first.insert(address, (placed, &placed.service));
            let owner = index.of_name(&placed.service, placed.port).cloned();
            let inbound = chains.by_label(&placed.service, Direction::Inbound);
            let authorization = authorizations.by_label(&placed.service);
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
        if known.service != placed.service
            && let Some(direct) = index.by_endpoint.get_mut(&address)
        {
            direct.owner = None;
            if **last != *placed.service {
                let own = chains.by_label(&placed.service, Direction::Inbound);
                direct.inbound = both(direct.inbound.take(), own);
                let own = authorizations.by_label(&placed.service);
                direct.authorization = authz::both(direct.authorization.take(), own);
                *last = &placed.service;
            }
        }
    }
}

/// The filters of two services before one application.
fn both(first: Option<Arc<FilterChain>>, second: Option<Arc<FilterChain>>) -> Option<Arc<FilterChain>> {
    match (first, second) {
        (Some(first), Some(second)) => {
            Some(Arc::new(FilterChain(first.0.iter().chain(&second.0).cloned().collect())))
        }
        (first, second) => first.or(second),
    }
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
