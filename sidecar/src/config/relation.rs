//! Whom a resource concerns. The control plane tells by it what a sidecar needs, the sidecar what it must not serve without.

use std::net::IpAddr;

use trama_proto::{
    document::{Resource, ResourceId},
    policy::v1::{Endpoint, RouteSpec, route_filter::Filter},
};

/// A service's namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Service {
    /// Names a service.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// `namespace/name`.
    pub fn label(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Whom a resource concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relation {
    /// Every sidecar: names and addresses of services, and what holds for the mesh.
    pub everybody: bool,
    /// Sidecars that subscribe to one of these.
    pub of: Vec<Service>,
    /// Sidecars that subscribe to any service of this namespace.
    pub of_namespace: Option<String>,
    /// Whoever gets this needs what concerns the endpoints of these, too.
    pub leads_to: Vec<Service>,
    /// Whoever gets this needs these chains, too.
    pub chains: Vec<ResourceId>,
    /// The workloads that serve what this concerns, by identity.
    pub identities: Vec<String>,
    /// Where it is served by whoever is there: endpoints without an identity. One with an identity is that one's alone, and
    /// nobody's for saying that he has its address.
    pub addresses: Vec<IpAddr>,
}

impl Relation {
    /// Whom a resource concerns.
    pub fn of(resource: &Resource) -> Self {
        let id = ResourceId::of(resource);
        let here = |name: &str| Service::new(&id.namespace, name);
        match resource {
            Resource::Service(_)
            | Resource::RegionTopology(_)
            | Resource::Telemetry(_)
            | Resource::MeshSettings(_) => {
                Self { everybody: Self::is_everybodys(id.kind), ..Self::default() }
            }
            Resource::EndpointSet(set) => {
                let spec = spec(&set.spec);
                let (identities, addresses) = served_by(&spec.endpoints);
                Self { identities, addresses, ..Self::one(here(&spec.service)) }
            }
            Resource::RegionalPolicy(policy) => Self::one(here(&spec(&policy.spec).service)),
            Resource::AuthzPolicy(policy) => Self::one_or_namespace(&id, &spec(&policy.spec).service),
            Resource::PluginChain(chain) => match spec(&chain.spec).service.as_str() {
                // Only routes that name it lead to it.
                "" => Self::default(),
                service => Self::one(here(service)),
            },
            Resource::Route(route) => Self::of_route(&id, &spec(&route.spec)),
        }
    }

    /// Whether resources of a kind concern every sidecar.
    pub fn is_everybodys(kind: &str) -> bool {
        matches!(kind, "Service" | "RegionTopology" | "Telemetry" | "MeshSettings")
    }

    fn one(service: Service) -> Self {
        Self { of: vec![service], ..Self::default() }
    }

    fn one_or_namespace(id: &ResourceId, service: &str) -> Self {
        if service.is_empty() {
            Self { of_namespace: Some(id.namespace.clone()), ..Self::default() }
        } else {
            Self::one(Service::new(&id.namespace, service))
        }
    }

    fn of_route(id: &ResourceId, route: &RouteSpec) -> Self {
        let named = |namespace: &str, name: &str| {
            Service::new(if namespace.is_empty() { &id.namespace } else { namespace }, name)
        };
        let filters = route.rules.iter().flat_map(|rule| &rule.filters);
        let chains = filters.filter_map(|filter| match &filter.filter {
            Some(Filter::PluginChain(chain)) => ResourceId::new("PluginChain", &id.namespace, &chain.name),
            _ => None,
        });
        let backends = route.rules.iter().flat_map(|rule| &rule.backend_refs);
        Self {
            of: route.parent_refs.iter().map(|parent| named(&parent.namespace, &parent.service)).collect(),
            leads_to: backends.map(|backend| named(&backend.namespace, &backend.service)).collect(),
            chains: chains.collect(),
            ..Self::default()
        }
    }
}

fn served_by(endpoints: &[Endpoint]) -> (Vec<String>, Vec<IpAddr>) {
    let (nameless, named): (Vec<_>, Vec<_>) =
        endpoints.iter().partition(|endpoint| endpoint.identity.is_empty());
    let identities = named.into_iter().map(|endpoint| endpoint.identity.clone());
    let addresses = nameless.into_iter().filter_map(|endpoint| endpoint.address.parse::<IpAddr>().ok());
    (identities.collect(), addresses.map(|address| address.to_canonical()).collect())
}

fn spec<T: Clone + Default>(spec: &Option<T>) -> T {
    spec.clone().unwrap_or_default()
}
