//! The part of a mesh's policy that a sidecar holds, and how it is kept on disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use aws_lc_rs::digest::{SHA256, digest};
use prost::Message;
use trama_proto::{
    Problem,
    discovery::v1::{self as discovery, HeldResource, ResourceName, ServiceName, VersionedResource},
    document::{Document, Resource, ResourceId},
    policy::v1,
};

use super::standing::Standing;
use crate::config::convert::EndpointAddress;

/// What a kept state begins with: what is kept in the same place for a policy file begins otherwise.
const MAGIC: &[u8; 8] = b"TRAMAST2";
/// Where what was kept comes from, in a problem.
const KEPT: &str = "the last good policy";
const KINDLESS: &str = "a resource without a kind that this version knows";

/// A moment of a control plane's store. They are ordered.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Stamp {
    /// Rises when the store starts afresh.
    pub epoch: u64,
    /// Rises with each change.
    pub revision: u64,
}

/// What names a resource's content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Version {
    /// The number that the control plane gave it.
    pub(super) number: u64,
    /// SHA-256 of what was told of it.
    pub(super) hash: [u8; 32],
}

impl Version {
    pub(super) fn of(told: &VersionedResource) -> Self {
        let mut encoded = told.resource.as_ref().map(Message::encode_to_vec).unwrap_or_default();
        let endpoints =
            VersionedResource { endpoints: told.endpoints.clone(), ..VersionedResource::default() };
        encoded.extend(endpoints.encode_to_vec());
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &encoded).as_ref());
        Self { number: told.version, hash }
    }
}

/// A resource that is held.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) version: Version,
    pub(super) document: Arc<Document>,
    /// Of a service: where its endpoints are.
    pub(super) endpoints: Arc<[EndpointAddress]>,
}

/// Resources that are in use.
pub(super) type Resources = BTreeMap<ResourceId, Held>;
/// What was told of resources and is not in use.
pub(super) type Wishes = BTreeMap<ResourceId, Wish>;

/// What was told of a resource.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    /// It is there, or has changed.
    Put(Held),
    /// The same, but this version cannot read it.
    Unreadable {
        version: Version,
        resource: Arc<Resource>,
        endpoints: Arc<[EndpointAddress]>,
        problems: Vec<Problem>,
    },
    /// It is gone.
    End,
}

impl Wish {
    /// A resource that was told; `None`: of a kind that this version does not know.
    pub(super) fn of(source: &str, told: VersionedResource) -> Option<(ResourceId, Self)> {
        let version = Version::of(&told);
        let endpoints = told.endpoints.iter().filter_map(endpoint).collect();
        let resource = told.resource?.kind?;
        let id = ResourceId::of(&resource);
        let wish = match Document::received(source, resource.clone()) {
            Ok(document) => Self::Put(Held { version, document: Arc::new(document), endpoints }),
            Err(problems) => Self::Unreadable { version, resource: Arc::new(resource), endpoints, problems },
        };
        Some((id, wish))
    }

    /// Which version; `None`: its end.
    pub(super) fn version(&self) -> Option<&Version> {
        match self {
            Self::Put(held) => Some(&held.version),
            Self::Unreadable { version, .. } => Some(version),
            Self::End => None,
        }
    }

    /// The resource; `None`: its end.
    pub(super) fn resource(&self) -> Option<&Resource> {
        match self {
            Self::Put(held) => Some(&held.document.resource),
            Self::Unreadable { resource, .. } => Some(resource),
            Self::End => None,
        }
    }

    /// Of a service: where its endpoints are.
    pub(super) fn endpoints(&self) -> &[EndpointAddress] {
        match self {
            Self::Put(Held { endpoints, .. }) | Self::Unreadable { endpoints, .. } => endpoints,
            Self::End => &[],
        }
    }

    /// Whether it is the resource's end.
    pub(super) fn is_end(&self) -> bool {
        matches!(self, Self::End)
    }

    fn told(&self) -> Option<VersionedResource> {
        let (version, resource) = self.version().zip(self.resource())?;
        Some(told(version, resource, self.endpoints()))
    }
}

/// All that is held.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) stamp: Stamp,
    pub(super) resources: Resources,
    /// What was told and cannot be used: something else may make it good.
    pub(super) waiting: Wishes,
    pub(super) standing: Standing,
}

/// [`State`] on disk.
#[derive(Clone, PartialEq, Message)]
struct Kept {
    #[prost(uint64, tag = "1")]
    epoch: u64,
    #[prost(uint64, tag = "2")]
    revision: u64,
    #[prost(message, repeated, tag = "3")]
    resources: Vec<VersionedResource>,
    #[prost(message, repeated, tag = "4")]
    told: Vec<ServiceName>,
    /// What is waiting: resources, and ends of resources.
    #[prost(message, repeated, tag = "5")]
    waiting: Vec<VersionedResource>,
    #[prost(message, repeated, tag = "6")]
    ends: Vec<ResourceName>,
    #[prost(message, repeated, tag = "7")]
    whole: Vec<ServiceName>,
    #[prost(message, repeated, tag = "8")]
    settled: Vec<ServiceName>,
    #[prost(bool, tag = "9")]
    mesh: bool,
}

impl State {
    /// What a Hello says of it.
    pub(super) fn names(&self) -> Vec<HeldResource> {
        let held = self.resources.iter().map(|(id, held)| HeldResource {
            name: Some(resource_name(id)),
            version: held.version.number,
            hash: held.version.hash.to_vec(),
        });
        held.collect()
    }

    /// As it is kept.
    pub(super) fn encode(&self) -> Vec<u8> {
        let resources =
            self.resources.values().map(|held| told(&held.version, &held.document.resource, &held.endpoints));
        let ends = self.waiting.iter().filter(|(_, wish)| wish.is_end());
        let kept = Kept {
            epoch: self.stamp.epoch,
            revision: self.stamp.revision,
            resources: resources.collect(),
            told: names(&self.standing.told),
            whole: names(&self.standing.whole),
            settled: names(&self.standing.settled),
            mesh: self.standing.mesh,
            waiting: self.waiting.values().filter_map(Wish::told).collect(),
            ends: ends.map(|(id, _)| resource_name(id)).collect(),
        };
        [&MAGIC[..], &kept.encode_to_vec()].concat()
    }

    /// Reads what was kept; an error says why it is none. What this version cannot read any more waits.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let message = bytes.strip_prefix(MAGIC).ok_or("it was not kept from a control plane")?;
        let kept = Kept::decode(message).map_err(|error| error.to_string())?;
        let standing = Standing {
            told: labels(&kept.told),
            whole: labels(&kept.whole),
            settled: labels(&kept.settled),
            mesh: kept.mesh,
        };
        let stamp = Stamp { epoch: kept.epoch, revision: kept.revision };
        let mut state = Self { stamp, standing, ..Self::default() };
        for name in kept.ends {
            let id = ResourceId::new(&name.kind, name.namespace, name.name);
            state.waiting.insert(id.ok_or("the end of an unknown kind")?, Wish::End);
        }
        for told in kept.waiting {
            state.waiting.extend([Wish::of(KEPT, told).ok_or(KINDLESS)?]);
        }
        for told in kept.resources {
            match Wish::of(KEPT, told).ok_or(KINDLESS)? {
                (id, Wish::Put(held)) => drop(state.resources.insert(id, held)),
                (id, unreadable) => drop(state.waiting.entry(id).or_insert(unreadable)),
            }
        }
        Ok(state)
    }
}

fn told(version: &Version, resource: &Resource, endpoints: &[EndpointAddress]) -> VersionedResource {
    let resource = v1::Resource { kind: Some(resource.clone()) };
    let endpoints = endpoints.iter().map(|endpoint| discovery::EndpointAddress {
        address: octets(&endpoint.address),
        port: endpoint.port.map_or(0, u32::from),
        service_port: endpoint.service_port.map_or(0, u32::from),
    });
    let (resource, endpoints) = (Some(resource), endpoints.collect());
    VersionedResource { version: version.number, resource, endpoints, ..VersionedResource::default() }
}

/// One that makes no sense is none: it is nowhere.
fn endpoint(told: &discovery::EndpointAddress) -> Option<EndpointAddress> {
    let v4 = || <[u8; 4]>::try_from(&told.address[..]).map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(&told.address[..]).map(IpAddr::from);
    let port = |number: u32| u16::try_from(number).map(|port| (port != 0).then_some(port));
    let address = v4().or_else(|_| v6()).ok()?.to_canonical();
    Some(EndpointAddress {
        address,
        port: port(told.port).ok()?,
        service_port: port(told.service_port).ok()?,
    })
}

/// An address as the stream says it.
pub(super) fn octets(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub(super) fn resource_name(id: &ResourceId) -> ResourceName {
    ResourceName { kind: id.kind.to_owned(), namespace: id.namespace.clone(), name: id.name.clone() }
}

pub(super) fn service_name(label: &str) -> ServiceName {
    let (namespace, name) = label.split_once('/').unwrap_or(("default", label));
    ServiceName { namespace: namespace.to_owned(), name: name.to_owned() }
}

fn names(labels: &BTreeSet<Arc<str>>) -> Vec<ServiceName> {
    labels.iter().map(|label| service_name(label)).collect()
}

fn labels(services: &[ServiceName]) -> BTreeSet<Arc<str>> {
    services.iter().map(|service| format!("{}/{}", service.namespace, service.name).into()).collect()
}
