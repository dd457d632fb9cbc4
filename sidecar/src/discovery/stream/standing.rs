//! Which services are served, where something cannot be used that concerns them.
//!
//! What was in force stays in force: a refused change costs nothing that ran before. But what never was must not be served
//! as if there were no such chain, route or policy. So a service that was never whole is not whole until all that concerns a
//! call to it can be used; of one whose callers or regions were never settled, nobody may call it, or no region serve it.
//! Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use trama_proto::{
    document::{Resource, ResourceId},
    policy::v1::plugin_chain_spec::Direction,
};

use super::held::{Resources, Wishes};
use crate::config::{
    convert::Part,
    relation::{Relation, Service},
};

/// What was in force so far. Services are `namespace/name`.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    /// Services that were asked for, and of which everything was told.
    pub(super) told: BTreeSet<Arc<str>>,
    /// Those of them that calls are carried to.
    pub(super) whole: BTreeSet<Arc<str>>,
    /// Services of which it was known who may call them, and which regions may serve them.
    pub(super) settled: BTreeSet<Arc<str>>,
    /// Whether it was known what holds for the mesh.
    pub(super) mesh: bool,
}

impl Standing {
    /// What is known with these resources in use, and these not.
    pub(super) fn part(&self, resources: &Resources, waiting: &Wishes) -> Part {
        let unusable = Unusable::of(resources, waiting);
        let unsettled = |service: &&Arc<str>| !self.settled.contains(*service);
        let in_namespaces =
            self.known(resources).into_iter().filter(|service| unusable.is_in_namespace(service));
        let shut: BTreeSet<_> = unusable.callers.iter().cloned().chain(in_namespaces).collect();
        let whole = |service: &&Arc<str>| self.whole.contains(*service) || !unusable.calls.contains(*service);
        let services =
            resources.iter().filter(|(id, held)| id.kind == "Service" && !held.endpoints.is_empty());
        let endpoints = services.map(|(id, held)| (label(id, &id.name), Arc::clone(&held.endpoints)));
        let settings = || resources.keys().any(|id| id.kind == "MeshSettings");
        Part {
            whole: self.told.iter().filter(whole).cloned().collect(),
            shut: shut.iter().filter(unsettled).cloned().collect(),
            unplaced: unusable.places.iter().filter(unsettled).cloned().collect(),
            endpoints: endpoints.collect(),
            nameless: unusable.addresses,
            strict: unusable.mesh && !self.mesh && !settings(),
        }
    }

    /// What is in force once that part is.
    pub(super) fn after(self, resources: &Resources, part: &Part) -> Self {
        let mut settled = self.known(resources);
        settled.retain(|service| !part.shut.contains(service) && !part.unplaced.contains(service));
        Self { whole: part.whole.clone(), settled, mesh: self.mesh || !part.strict, told: self.told }
    }

    /// Nothing of these services is known any more.
    pub(super) fn forget(&mut self, services: &[Arc<str>]) {
        for service in services {
            self.told.remove(service);
            self.whole.remove(service);
            self.settled.remove(service);
        }
    }

    /// The services of which it is known who may call them, and which regions may serve them: what is told of endpoints is
    /// told together with that.
    fn known(&self, resources: &Resources) -> BTreeSet<Arc<str>> {
        let served = resources.iter().filter_map(|(id, held)| match &held.document.resource {
            Resource::EndpointSet(set) => Some(label(id, &set.spec.as_ref()?.service)),
            _ => None,
        });
        served.chain(self.told.iter().cloned()).collect()
    }
}

/// What the resources are about that cannot be used, and of which no older version is in use.
#[derive(Default)]
struct Unusable {
    /// How they are called.
    calls: BTreeSet<Arc<str>>,
    /// Who may call them: services, and all services of namespaces.
    callers: BTreeSet<Arc<str>>,
    namespaces: BTreeSet<String>,
    /// Which regions may serve them.
    places: BTreeSet<Arc<str>>,
    /// What they are.
    addresses: BTreeMap<IpAddr, Arc<str>>,
    /// What holds for the mesh.
    mesh: bool,
}

impl Unusable {
    fn of(resources: &Resources, waiting: &Wishes) -> Self {
        let mut unusable = Self::default();
        for (id, wish) in waiting.iter().filter(|(id, _)| !resources.contains_key(id)) {
            wish.resource().into_iter().for_each(|resource| unusable.add(id, resource));
            let endpoints = wish.endpoints().iter();
            unusable.addresses.extend(endpoints.map(|endpoint| (endpoint.address, label(id, &id.name))));
        }
        unusable
    }

    fn add(&mut self, id: &ResourceId, resource: &Resource) {
        let Relation { of, of_namespace, .. } = Relation::of(resource);
        let services = of.iter().map(Service::label).map(Arc::from);
        match resource {
            Resource::Route(_) => self.calls.extend(services),
            Resource::PluginChain(chain) => {
                // A direction that this version does not know may be either.
                match Direction::try_from(chain.spec.as_ref().map_or(0, |spec| spec.direction)) {
                    Ok(Direction::Inbound) => self.callers.extend(services),
                    Ok(Direction::Outbound) => self.calls.extend(services),
                    Err(_) => services.for_each(|service: Arc<str>| {
                        self.callers.insert(Arc::clone(&service));
                        self.calls.insert(service);
                    }),
                }
            }
            Resource::AuthzPolicy(_) => {
                self.callers.extend(services);
                self.namespaces.extend(of_namespace);
            }
            Resource::RegionalPolicy(_) => self.places.extend(services),
            Resource::Service(service) => {
                let name = label(id, &id.name);
                let addresses = service.spec.iter().flat_map(|spec| &spec.addresses);
                let addresses = addresses.filter_map(|address| address.parse::<IpAddr>().ok());
                self.addresses.extend(addresses.map(|address| (address.to_canonical(), Arc::clone(&name))));
            }
            Resource::MeshSettings(_) => self.mesh = true,
            // Without them there is less to serve, or it is served from farther away, but never to the wrong one.
            Resource::EndpointSet(_) | Resource::RegionTopology(_) | Resource::Telemetry(_) => {}
        }
    }

    fn is_in_namespace(&self, service: &str) -> bool {
        service.split_once('/').is_some_and(|(namespace, _)| self.namespaces.contains(namespace))
    }
}

fn label(id: &ResourceId, service: &str) -> Arc<str> {
    format!("{}/{service}", id.namespace).into()
}
