//! All resources of one moment, and what changed before it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    hash::Hash,
    net::IpAddr,
    sync::Arc,
};

use aws_lc_rs::digest::{SHA256, digest};
use prost::Message;
use trama_proto::{
    discovery::v1::{EndpointAddress, VersionedResource},
    document::{Document, Resource, ResourceId},
    policy::v1,
};

use super::{Relation, Service};
use crate::store::Stamp;

/// Changes that are remembered: thousands, for a push may be on its way for a minute. Who is further behind comes back.
const REMEMBERED: usize = 16_384;

/// A SHA-256.
pub type Digest = [u8; 32];

/// What names a resource's content: the revision that wrote it, and SHA-256 of its canonical encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The revision that wrote it.
    pub number: u64,
    /// Of the canonical encoding.
    pub hash: Digest,
}

/// SHA-256 of a resource's canonical encoding.
pub fn hash(resource: &Resource) -> Digest {
    told_hash(resource, &[])
}

/// The hash that sidecars know a resource by: of its canonical encoding and, for a service, of where its endpoints are.
pub fn told_hash(resource: &Resource, endpoints: &[EndpointAddress]) -> Digest {
    let mut encoded = v1::Resource { kind: Some(resource.clone()) }.encode_to_vec();
    let endpoints = VersionedResource { endpoints: endpoints.to_vec(), ..VersionedResource::default() };
    encoded.extend(endpoints.encode_to_vec());
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, &encoded).as_ref());
    hash
}

/// A resource of the world.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its version.
    pub version: Version,
    /// The version that sidecars know. Of a service it changes with the addresses of its endpoints.
    pub told: Version,
    /// The resource, as it is judged.
    pub document: Arc<Document>,
    /// Of a service: where its endpoints are.
    pub endpoints: Vec<EndpointAddress>,
    relation: Relation,
}

impl Held {
    /// The resource.
    pub fn resource(&self) -> &Resource {
        &self.document.resource
    }
}

/// Where a sidecar is, and so what it serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its identity.
    pub identity: String,
    /// Its namespace.
    pub namespace: String,
    /// Its own addresses, as it says.
    pub addresses: Vec<IpAddr>,
}

impl Place {
    /// Whether something is about what it serves. Its addresses nothing proves, so they count in its own namespace alone.
    fn is_served_by(&self, id: &ResourceId, relation: &Relation) -> bool {
        relation.identities.contains(&self.identity)
            || self.namespace == id.namespace
                && relation.addresses.iter().any(|address| self.addresses.contains(address))
    }
}

/// What a sidecar needs besides what everybody does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// The resources.
    pub resources: BTreeSet<ResourceId>,
    /// The services that it asks for, those that their routes lead to, and those that it serves itself.
    pub reach: BTreeSet<Service>,
    place: Place,
}

impl Needed {
    /// Whether a resource that is new or changed could be needed now. It errs on the side of yes: a chain says nothing of
    /// the routes that name it.
    pub fn may_gain(&self, id: &ResourceId, held: &Held) -> bool {
        let relation = &held.relation;
        id.kind == "PluginChain"
            || self.place.is_served_by(id, relation)
            || relation.of.iter().any(|service| self.reach.contains(service))
            || relation.of_namespace.as_ref().is_some_and(|namespace| {
                *namespace == self.place.namespace
                    || self.reach.iter().any(|service| service.namespace == *namespace)
            })
    }
}

/// A change that is remembered.
#[derive(Clone, Debug)]
struct Change {
    at: u64,
    id: ResourceId,
    /// What it was told by before; `None`: it was not there.
    before: Option<Digest>,
}

/// All resources of one moment.
#[derive(Clone, Debug, Default)]
pub struct World {
    stamp: Stamp,
    resources: BTreeMap<ResourceId, Held>,
    /// What concerns a service directly.
    of_service: HashMap<Service, BTreeSet<ResourceId>>,
    of_namespace: HashMap<String, BTreeSet<ResourceId>>,
    /// What says that a workload, or an address, serves a service.
    of_identity: HashMap<String, BTreeSet<ResourceId>>,
    of_address: HashMap<IpAddr, BTreeSet<ResourceId>>,
    everybody: BTreeSet<ResourceId>,
    changed: VecDeque<Change>,
    /// Of changes before this revision nothing is known.
    known_since: u64,
}

impl World {
    /// A world without resources.
    pub fn new(stamp: Stamp) -> Self {
        Self { stamp, ..Self::default() }
    }

    /// A world as it was found at `stamp`: resources, each with the revision that wrote it.
    pub fn found(stamp: Stamp, resources: impl IntoIterator<Item = (u64, ResourceId, Resource)>) -> Self {
        let mut world = Self::new(stamp);
        for (revision, id, resource) in resources {
            world.change(revision, id, Some(resource));
        }
        world.changed.clear();
        Self { stamp, known_since: stamp.revision, ..world }
    }

    /// Takes it as it is found at a later time of the same store: what is otherwise than before is remembered as changed then.
    pub fn find(&mut self, stamp: Stamp, resources: impl IntoIterator<Item = (u64, ResourceId, Resource)>) {
        if stamp.epoch != self.stamp.epoch {
            *self = Self::found(stamp, resources);
            return;
        }
        let mut gone: BTreeSet<_> = self.resources.keys().cloned().collect();
        for (version, id, resource) in resources {
            gone.remove(&id);
            if self.resources.get(&id).is_none_or(|held| held.version.number != version) {
                self.write(stamp.revision, version, id, Some(resource));
            }
        }
        for id in gone {
            self.write(stamp.revision, stamp.revision, id, None);
        }
        self.stamp = stamp;
    }

    /// The last change.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// One resource.
    pub fn get(&self, id: &ResourceId) -> Option<&Held> {
        self.resources.get(id)
    }

    /// All resources in the order of their names.
    pub fn resources(&self) -> impl Iterator<Item = (&ResourceId, &Held)> {
        self.resources.iter()
    }

    /// All of them, as they are now: whoever looks longer need not hold anybody up.
    pub fn documents(&self) -> Vec<Arc<Document>> {
        self.resources.values().map(|held| Arc::clone(&held.document)).collect()
    }

    /// Writes or removes a resource. `revision` is the store's; several changes may share one.
    pub fn change(&mut self, revision: u64, id: ResourceId, resource: Option<Resource>) {
        self.write(revision, revision, id, resource);
    }

    /// The same for a change that is noticed `at` a later revision than the one that made it.
    fn write(&mut self, at: u64, revision: u64, id: ResourceId, resource: Option<Resource>) {
        let mut services = BTreeSet::new();
        let before = self.resources.get(&id).map(|held| held.told);
        if let Some(old) = self.resources.remove(&id) {
            self.index(&id, &old.relation, |set, id| set.remove(id));
            services.extend(old.relation.of);
        }
        if let Some(resource) = resource {
            let relation = Relation::of(&resource);
            self.index(&id, &relation, |set, id| set.insert(id.clone()));
            let version = Version { number: revision, hash: hash(&resource) };
            services.extend(relation.of.iter().cloned());
            let document = Arc::new(Document::of_judged("the policy in force", resource));
            let held = Held { version, told: version, document, endpoints: Vec::new(), relation };
            self.resources.insert(id.clone(), held);
        }
        self.stamp.revision = at;
        self.remember(Change { at, id: id.clone(), before: before.map(|told| told.hash) });
        match id.kind {
            "Service" => drop(self.tell_endpoints(revision, &id)),
            "EndpointSet" => services.into_iter().for_each(|service| self.move_endpoints(at, service)),
            _ => {}
        }
        // What says the same is told as it was.
        if let (Some(before), Some(held)) = (before, self.resources.get_mut(&id))
            && held.told.hash == before.hash
        {
            held.told = before;
        }
    }

    /// The endpoints of a service may be elsewhere now.
    fn move_endpoints(&mut self, at: u64, service: Service) {
        let Some(id) = ResourceId::new("Service", service.namespace, service.name) else { return };
        let before = self.resources.get(&id).map(|held| held.told.hash);
        if self.tell_endpoints(at, &id) {
            self.remember(Change { at, id, before });
        }
    }

    /// Has everybody told where the endpoints of a service are. Whether it is elsewhere than before.
    fn tell_endpoints(&mut self, revision: u64, id: &ResourceId) -> bool {
        let endpoints = self.endpoints(&Service::new(&id.namespace, &id.name));
        let Some(held) = self.resources.get_mut(id).filter(|held| held.endpoints != endpoints) else {
            return false;
        };
        held.told = Version { number: revision, hash: told_hash(held.resource(), &endpoints) };
        held.endpoints = endpoints;
        true
    }

    /// The addresses of a service's endpoints, each once and in their order.
    fn endpoints(&self, service: &Service) -> Vec<EndpointAddress> {
        let sets = self.of_service.get(service).into_iter().flatten().filter_map(|id| self.resources.get(id));
        let specs = sets.filter_map(|held| match held.resource() {
            Resource::EndpointSet(set) => set.spec.as_ref(),
            _ => None,
        });
        let addresses: BTreeSet<_> = specs
            .flat_map(|spec| &spec.endpoints)
            .filter_map(|endpoint| {
                let address = endpoint.address.parse::<IpAddr>().ok()?.to_canonical();
                Some((address, endpoint.port.unwrap_or(0), endpoint.service_port.unwrap_or(0)))
            })
            .collect();
        let told = addresses.into_iter().map(|(address, port, service_port)| {
            let address = match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            EndpointAddress { address, port, service_port }
        });
        told.collect()
    }

    fn remember(&mut self, change: Change) {
        self.changed.push_back(change);
        if self.changed.len() > REMEMBERED {
            self.changed.pop_front();
        }
    }

    /// What changed after a revision, each with what it was told by until then (`None`: it was not there). `None` if that is
    /// too long ago to know.
    pub fn changed_since(&self, revision: u64) -> Option<BTreeMap<&ResourceId, Option<Digest>>> {
        let forgotten = self.changed.len() == REMEMBERED
            && self.changed.front().is_some_and(|oldest| revision < oldest.at);
        if forgotten || revision < self.known_since || revision > self.stamp.revision {
            return None;
        }
        let mut changed = BTreeMap::new();
        let first = self.changed.partition_point(|change| change.at <= revision);
        for Change { id, before, .. } in self.changed.range(first..) {
            changed.entry(id).or_insert(*before);
        }
        Some(changed)
    }

    /// What every sidecar needs, with the version that it is told by.
    pub fn everybodys(&self) -> impl Iterator<Item = (&ResourceId, Version)> {
        self.everybody.iter().filter_map(|id| Some((id, self.get(id)?.told)))
    }

    /// What a sidecar needs, besides what everybody does, which asks for these services and is at this place.
    pub fn needed(&self, services: &BTreeSet<Service>, place: &Place) -> Needed {
        let (resources, reach, place) = (BTreeSet::new(), services.clone(), place.clone());
        let mut needed = Needed { resources, reach, place };
        for id in services.iter().flat_map(|service| self.concerning(service)) {
            let Some(Held { relation, .. }) = self.resources.get(id) else { continue };
            needed.resources.insert(id.clone());
            let chains = relation.chains.iter().filter(|chain| self.resources.contains_key(chain));
            needed.resources.extend(chains.cloned());
            needed.reach.extend(relation.leads_to.iter().cloned());
        }
        needed.reach.extend(self.served_by(&needed.place));
        let own = self.of_namespace.get(&needed.place.namespace);
        needed.resources.extend(own.into_iter().flatten().cloned());
        // Routes of the services that routes lead to are none of ours: a request takes one route. And who serves a service
        // needs its routes for calls of its own only.
        let led_to = needed.reach.difference(services).flat_map(|service| self.concerning(service));
        needed.resources.extend(led_to.filter(|id| id.kind != "Route").cloned());
        needed
    }

    /// The services that have an endpoint at a place. Who may call them stands at its inbound side.
    fn served_by(&self, place: &Place) -> BTreeSet<Service> {
        let by_identity = self.of_identity.get(&place.identity);
        let by_address = place.addresses.iter().filter_map(|address| self.of_address.get(address));
        let sets = by_identity.into_iter().chain(by_address).flatten();
        let sets = sets.filter_map(|id| Some((id, self.resources.get(id)?)));
        let sets = sets.filter(|(id, held)| place.is_served_by(id, &held.relation));
        sets.flat_map(|(_, held)| &held.relation.of).cloned().collect()
    }

    fn concerning(&self, service: &Service) -> impl Iterator<Item = &ResourceId> {
        let named = self.of_service.get(service).into_iter().flatten();
        named.chain(self.of_namespace.get(&service.namespace).into_iter().flatten())
    }

    fn index(
        &mut self,
        id: &ResourceId,
        relation: &Relation,
        change: fn(&mut BTreeSet<ResourceId>, &ResourceId) -> bool,
    ) {
        if relation.everybody {
            change(&mut self.everybody, id);
        }
        for service in &relation.of {
            index_under(&mut self.of_service, service, id, change);
        }
        if let Some(namespace) = &relation.of_namespace {
            index_under(&mut self.of_namespace, namespace, id, change);
        }
        for identity in &relation.identities {
            index_under(&mut self.of_identity, identity, id, change);
        }
        for address in &relation.addresses {
            index_under(&mut self.of_address, address, id, change);
        }
    }
}

fn index_under<K: Clone + Eq + Hash>(
    index: &mut HashMap<K, BTreeSet<ResourceId>>,
    key: &K,
    id: &ResourceId,
    change: fn(&mut BTreeSet<ResourceId>, &ResourceId) -> bool,
) {
    let set = index.entry(key.clone()).or_default();
    change(set, id);
    if set.is_empty() {
        index.remove(key);
    }
}
