//! The documents of a policy by kind.

use std::collections::HashMap;

use trama_proto::{
    document::{Document, Resource},
    policy::v1::{
        AuthzPolicySpec, EndpointSetSpec, MeshSettingsSpec, PluginChainSpec, RegionTopologySpec,
        RegionalPolicySpec, RouteSpec, ServiceSpec, TelemetrySpec,
    },
};

use super::findings::Findings;

/// A resource's specification and the document that it stands in.
pub(super) type Of<'d, T> = (&'d Document, &'d T);

/// The documents of a policy by kind, each kind in the order of namespace and name (the Gateway API's last rule of
/// precedence), so that the order of a file never matters.
#[derive(Default)]
pub(super) struct Index<'d> {
    pub(super) services: Vec<Of<'d, ServiceSpec>>,
    pub(super) endpoint_sets: Vec<Of<'d, EndpointSetSpec>>,
    pub(super) routes: Vec<Of<'d, RouteSpec>>,
    pub(super) regional_policies: Vec<Of<'d, RegionalPolicySpec>>,
    pub(super) chains: Vec<Of<'d, PluginChainSpec>>,
    pub(super) authz: Vec<Of<'d, AuthzPolicySpec>>,
    pub(super) topology: Option<Of<'d, RegionTopologySpec>>,
    pub(super) telemetry: Option<Of<'d, TelemetrySpec>>,
    pub(super) mesh: Option<Of<'d, MeshSettingsSpec>>,
}

impl<'d> Index<'d> {
    /// Sorts documents by kind. Two of one name, or two of a kind of which there is one, are problems.
    pub(super) fn of(documents: &[&'d Document], findings: &mut Findings) -> Self {
        let mut index = Self::default();
        let mut named = HashMap::new();
        let mut sorted = documents.to_vec();
        sorted.sort_by(|a, b| a.id.cmp(&b.id));
        for document in sorted {
            if let Some(first) = named.insert(&document.id, document) {
                let problem =
                    format!("a second {}; the first is at {}", document.id, first.place("metadata.name"));
                findings.add(document, "metadata.name", "", problem, "rename or remove one of them");
                continue;
            }
            index.add(document, findings);
        }
        index
    }

    fn add(&mut self, document: &'d Document, findings: &mut Findings) {
        match &document.resource {
            Resource::Service(it) => self.services.extend(it.spec.iter().map(|spec| (document, spec))),
            Resource::EndpointSet(it) => {
                self.endpoint_sets.extend(it.spec.iter().map(|spec| (document, spec)))
            }
            Resource::Route(it) => self.routes.extend(it.spec.iter().map(|spec| (document, spec))),
            Resource::RegionalPolicy(it) => {
                self.regional_policies.extend(it.spec.iter().map(|spec| (document, spec)));
            }
            Resource::RegionTopology(it) => only(&mut self.topology, document, it.spec.as_ref(), findings),
            Resource::Telemetry(it) => only(&mut self.telemetry, document, it.spec.as_ref(), findings),
            Resource::MeshSettings(it) => only(&mut self.mesh, document, it.spec.as_ref(), findings),
            Resource::PluginChain(it) => self.chains.extend(it.spec.iter().map(|spec| (document, spec))),
            Resource::AuthzPolicy(it) => self.authz.extend(it.spec.iter().map(|spec| (document, spec))),
        }
    }
}

fn only<'d, T>(
    slot: &mut Option<Of<'d, T>>,
    document: &'d Document,
    spec: Option<&'d T>,
    findings: &mut Findings,
) {
    if let Some((first, _)) = slot {
        let kind = document.id.kind;
        let problem = format!("a second {kind}; the first is at {}", first.place("metadata.name"));
        findings.add(document, "metadata.name", "", problem, format!("keep one {kind}"));
        return;
    }
    *slot = spec.map(|spec| (document, spec));
}
