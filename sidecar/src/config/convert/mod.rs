//! From the policy model to the immutable snapshot.
//!
//! A pure function: everything that can be wrong with a policy is found here, all at once, each with file, line,
//! resource, field, value and remedy. What a sidecar cannot do yet is refused rather than ignored, or a policy would
//! seem to hold that does not.

mod authz;
mod backend_tls;
mod chain;
mod cluster;
mod destination;
mod endpoint;
mod findings;
mod headers;
mod index;
mod matches;
mod part;
mod region;
mod route;
mod rule;
mod service;
mod settings;
mod unsupported;

use trama_proto::{
    Problems,
    document::{Document, Reading},
};

pub use self::part::{EndpointAddress, Extent, Part};
use self::{destination::Before, findings::Findings, index::Index};
use super::{
    fnv1a,
    snapshot::{Origin, Revision, Snapshot, state::Registry},
};

/// What a sidecar is to policy: services without a namespace and regions are seen from here.
#[derive(Clone, Debug, Default)]
pub struct Local {
    /// The namespace that bare service names are looked up in.
    pub namespace: String,
    /// The sidecar's own region; empty: none is nearer than another.
    pub region: String,
}

/// All that can be told of a policy that cannot be read whole: what is wrong with its fields, and which of the others this
/// version would not keep. What depends on more than one resource is told once all of them can be read.
pub fn unreadable(reading: Reading) -> Problems {
    let documents: Vec<_> = reading.documents.iter().collect();
    let mut findings = Findings::of(reading.problems);
    unsupported::check(&documents, &mut findings);
    findings.in_order()
}

/// Compiles a whole policy. `number` is the new snapshot's revision. The registry gives the state that outlives snapshots.
pub fn convert(
    documents: &[Document],
    local: &Local,
    registry: &mut Registry,
    number: u64,
) -> Result<Snapshot, Problems> {
    let documents: Vec<_> = documents.iter().collect();
    convert_part(&documents, Extent::Whole, local, registry, number)
}

/// Compiles what is known of a policy.
pub fn convert_part(
    documents: &[&Document],
    extent: Extent<'_>,
    local: &Local,
    registry: &mut Registry,
    number: u64,
) -> Result<Snapshot, Problems> {
    let mut findings = Findings::default();
    let index = Index::of(documents, &mut findings);
    unsupported::check(documents, &mut findings);

    let topology = region::topology(&index, &mut findings);
    let services = service::read(&index, &mut findings);
    let endpoints = endpoint::read(&index, &services, &topology, &mut findings);
    let policies = region::policies(&index, &services, &topology, local, &mut findings);
    let clusters =
        cluster::build(&index, &services, &endpoints, (&policies, extent), registry, &mut findings);
    let tables = route::build(&index, &services, &clusters, &mut findings);
    let before = Before {
        chains: chain::read(&index, &services, extent, &mut findings),
        authorizations: authz::read(&index, &services, &mut findings),
    };
    let destinations =
        destination::build(&services, &clusters, tables, before, (local, extent), &mut findings);

    let snapshot = Snapshot {
        revision: Revision { number, digest: digest(documents) },
        origin: Origin::Source,
        destinations,
        mesh: settings::mesh(&index, &topology, &endpoints, (local, extent)),
        telemetry: settings::telemetry(&index),
        tls_files: services.tls_files(),
    };
    findings.none_or(snapshot)
}

/// FNV-1a over the resources in the order of their names: the same for the same policy on every sidecar, however the
/// file is laid out.
fn digest(documents: &[&Document]) -> u64 {
    let mut sorted = documents.to_vec();
    sorted.sort_by(|a, b| a.id.cmp(&b.id));
    fnv1a(sorted.into_iter().flat_map(|document| document.encode()))
}

#[cfg(test)]
mod tests;
