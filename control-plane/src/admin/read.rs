//! What there is, and what became of it.

use tonic::Status;
use trama_proto::{
    admin::v1::{
        GetRequest, ListRequest, ListResponse, SidecarStatus, Stamp, StatusRequest, StatusResponse,
        StoredResource,
    },
    discovery::v1::{HeldResource, Refusal, ResourceName, ServiceName},
    document::ResourceId,
    policy::v1,
};

use super::{Shared, error};
use crate::{mirror, model::Held, reason::Reason, store, stream::Seat};

const PAGE: u32 = 100;
const LARGEST_PAGE: u32 = 1000;

impl Shared {
    /// Refuses what would be answered from an empty world.
    pub(super) fn ready(&self) -> Result<(), Status> {
        if self.mirror.is_synced() {
            return Ok(());
        }
        Err(Reason::NotReady.status("the control plane does not know the policy yet; try again"))
    }

    pub(super) fn get(&self, request: &GetRequest) -> Result<StoredResource, Status> {
        self.ready()?;
        let name = request.name.clone().unwrap_or_default();
        let id = id("name", &name)?;
        let found = self.mirror.look(|world| world.get(&id).map(stored));
        found.ok_or_else(|| error::not_found(&name))
    }

    pub(super) fn list(&self, request: &ListRequest) -> Result<ListResponse, Status> {
        self.ready()?;
        let filter = Filter::new(&request.kind, &request.namespace)?;
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(mirror::resource_of(token).ok_or_else(|| bad_token(token))?),
        };
        let size = page_size(request.page_size)?;
        Ok(self.mirror.look(|world| {
            let mut found = world
                .resources()
                .filter(|(id, _)| after.as_ref().is_none_or(|after| *id > after) && filter.takes(id));
            let page: Vec<_> = found.by_ref().take(size).collect();
            let last = page.last().filter(|_| found.next().is_some());
            ListResponse {
                next_page_token: last.map(|(id, _)| mirror::key(id)).unwrap_or_default(),
                resources: page.iter().map(|(_, held)| stored(held)).collect(),
                stamp: Some(stamp(world.stamp())),
            }
        }))
    }

    pub(super) fn status(&self, request: &StatusRequest) -> Result<StatusResponse, Status> {
        self.ready()?;
        let wanted = |seat: &Seat| request.namespace.is_empty() || seat.node.namespace == request.namespace;
        let mut sidecars = self.seats.look(|seat| wanted(seat).then(|| sidecar(seat)));
        let place = |status: &SidecarStatus| {
            status
                .node
                .as_ref()
                .map(|node| (node.namespace.clone(), node.name.clone(), node.identity.clone()))
        };
        sidecars.sort_by_key(place);
        Ok(StatusResponse { stamp: Some(stamp(self.mirror.look(|world| world.stamp()))), sidecars })
    }
}

/// Of which kind and namespace.
pub(super) struct Filter {
    kind: String,
    namespace: String,
}

impl Filter {
    pub(super) fn new(kind: &str, namespace: &str) -> Result<Self, Status> {
        if !kind.is_empty() && ResourceId::new(kind, "", "").is_none() {
            return Err(error::field(
                "kind",
                kind,
                "no such kind; write it as in a policy file, such as `Route`",
            ));
        }
        Ok(Self { kind: kind.to_owned(), namespace: namespace.to_owned() })
    }

    pub(super) fn takes(&self, id: &ResourceId) -> bool {
        let Self { kind, namespace } = self;
        (kind.is_empty() || id.kind == kind) && (namespace.is_empty() || id.namespace == *namespace)
    }
}

fn stored(held: &Held) -> StoredResource {
    let resource = Some(v1::Resource { kind: Some(held.resource().clone()) });
    StoredResource { resource, version: held.version.number }
}

fn sidecar(seat: &Seat) -> SidecarStatus {
    let refusals = seat.session.refused().iter().map(|(id, refusal)| Refusal {
        name: Some(error::name(id)),
        version: refusal.version.map_or(0, |version| version.number),
        path: refusal.path.clone(),
        problem: refusal.problem.clone(),
        hash: refusal.version.map_or_else(Vec::new, |version| version.hash.to_vec()),
    });
    let not_understood = seat.session.not_understood().iter().map(|(id, version)| HeldResource {
        name: Some(error::name(id)),
        version: version.number,
        hash: version.hash.to_vec(),
    });
    let services = seat.session.services().iter();
    let services = services
        .map(|service| ServiceName { namespace: service.namespace.clone(), name: service.name.clone() });
    SidecarStatus {
        node: Some(seat.node.clone()),
        connected_at: seat.since,
        acknowledged: seat.session.acknowledged(),
        acknowledged_in: u64::try_from(seat.answered_in.as_micros()).unwrap_or(u64::MAX),
        refusals: refusals.collect(),
        services: services.collect(),
        not_understood: not_understood.collect(),
    }
}

pub(super) fn stamp(stamp: store::Stamp) -> Stamp {
    Stamp { epoch: stamp.epoch, revision: stamp.revision }
}

/// How many a page may have.
pub(super) fn page_size(asked: u32) -> Result<usize, Status> {
    match asked {
        0 => Ok(PAGE as usize),
        size if size > LARGEST_PAGE => {
            let problem = format!("more than {LARGEST_PAGE}; ask for less and go on with `next_page_token`");
            Err(error::field("page_size", &size.to_string(), &problem))
        }
        size => Ok(size as usize),
    }
}

/// A token that no page has given.
pub(super) fn bad_token(token: &str) -> Status {
    error::field("page_token", token, "not one of ours; give back the `next_page_token` of a page")
}

/// A resource's name out of a request. No part of it can hold what separates them in the store.
pub(super) fn id(field: &str, name: &ResourceName) -> Result<ResourceId, Status> {
    let ResourceName { kind, namespace, name } = name;
    let namespace = if namespace.is_empty() { "default" } else { namespace };
    for (part, text) in [("namespace", namespace), ("name", name)] {
        if text.is_empty() || text.contains('/') || text.len() > 253 {
            let problem = "write 1 to 253 characters without a slash";
            return Err(error::field(&format!("{field}.{part}"), text, problem));
        }
    }
    ResourceId::new(kind, namespace, name).ok_or_else(|| {
        let problem = "no such kind; write it as in a policy file, such as `Route`";
        error::field(&format!("{field}.kind"), kind, problem)
    })
}
