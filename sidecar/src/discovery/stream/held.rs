//! The part of a mesh's policy that a sidecar holds, and how it is kept on disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use aws_lc_rs::digest::{SHA256, digest};
use prost::Message;
use trama_proto::{
    Problems,
    discovery::v1::{HeldResource, ResourceName, ServiceName, VersionedResource},
    document::{Document, ResourceId},
    policy::v1,
};

/// What a kept state begins with: what is kept in the same place for a policy file begins otherwise.
const MAGIC: &[u8; 8] = b"TRAMAST1";

/// A moment of a control plane's store. They are ordered.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Stamp {
    pub(super) epoch: u64,
    pub(super) revision: u64,
}

/// What names a resource's content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Version {
    /// The number that the control plane gave it.
    pub(super) number: u64,
    /// SHA-256 of its canonical encoding.
    pub(super) hash: [u8; 32],
}

impl Version {
    pub(super) fn of(number: u64, resource: &v1::Resource) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &resource.encode_to_vec()).as_ref());
        Self { number, hash }
    }
}

/// A resource that is held.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) version: Version,
    pub(super) document: Arc<Document>,
}

/// All that is held.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) stamp: Stamp,
    pub(super) resources: BTreeMap<ResourceId, Held>,
    /// The services of which everything is known, `namespace/name`.
    pub(super) whole: BTreeSet<Arc<str>>,
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
    whole: Vec<ServiceName>,
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

    pub(super) fn documents(&self) -> Vec<&Document> {
        self.resources.values().map(|held| &*held.document).collect()
    }

    /// As it is kept.
    pub(super) fn encode(&self) -> Vec<u8> {
        let resources = self.resources.values().map(|held| VersionedResource {
            version: held.version.number,
            resource: Some(v1::Resource { kind: Some(held.document.resource.clone()) }),
        });
        let kept = Kept {
            epoch: self.stamp.epoch,
            revision: self.stamp.revision,
            resources: resources.collect(),
            whole: self.whole.iter().map(|label| service_name(label)).collect(),
        };
        [&MAGIC[..], &kept.encode_to_vec()].concat()
    }

    /// Reads what was kept; an error says why it is none.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let message = bytes.strip_prefix(MAGIC).ok_or("it was not kept from a control plane")?;
        let kept = Kept::decode(message).map_err(|error| error.to_string())?;
        let mut state = Self {
            stamp: Stamp { epoch: kept.epoch, revision: kept.revision },
            resources: BTreeMap::new(),
            whole: kept.whole.iter().map(label).collect(),
        };
        for VersionedResource { version, resource } in kept.resources {
            let resource = resource.ok_or("an empty resource")?;
            let version = Version::of(version, &resource);
            let kind = resource.kind.ok_or("a resource without a kind")?;
            let document = Document::received("the last good policy", kind);
            let document = document.map_err(|problems| Problems(problems).to_string())?;
            state.resources.insert(document.id.clone(), Held { version, document: Arc::new(document) });
        }
        Ok(state)
    }
}

pub(super) fn resource_name(id: &ResourceId) -> ResourceName {
    ResourceName { kind: id.kind.to_owned(), namespace: id.namespace.clone(), name: id.name.clone() }
}

pub(super) fn service_name(label: &str) -> ServiceName {
    let (namespace, name) = label.split_once('/').unwrap_or(("default", label));
    ServiceName { namespace: namespace.to_owned(), name: name.to_owned() }
}

fn label(service: &ServiceName) -> Arc<str> {
    format!("{}/{}", service.namespace, service.name).into()
}
