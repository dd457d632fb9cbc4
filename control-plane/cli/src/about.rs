//! A resource in a few words.

use trama_proto::{
    document::Resource,
    policy::v1::{EndpointSetSpec, RouteSpec, ServiceSpec, service_port::AppProtocol},
};

/// What a line of a list says of a resource.
pub(crate) fn about(resource: &Resource) -> String {
    match resource {
        Resource::Service(service) => service.spec.as_ref().map(ports).unwrap_or_default(),
        Resource::EndpointSet(set) => set.spec.as_ref().map(endpoints).unwrap_or_default(),
        Resource::Route(route) => route.spec.as_ref().map(rules).unwrap_or_default(),
        Resource::RegionTopology(topology) => {
            let regions = topology.spec.iter().flat_map(|spec| &spec.regions);
            regions.map(|region| region.name.as_str()).collect::<Vec<_>>().join(", ")
        }
        Resource::RegionalPolicy(policy) => of_service(policy.spec.as_ref().map(|spec| &spec.service)),
        Resource::PluginChain(chain) => of_service(chain.spec.as_ref().map(|spec| &spec.service)),
        Resource::AuthzPolicy(policy) => of_service(policy.spec.as_ref().map(|spec| &spec.service)),
        Resource::Telemetry(_) => String::new(),
        Resource::MeshSettings(settings) => {
            settings.spec.as_ref().map(|spec| spec.trust_domain.clone()).unwrap_or_default()
        }
    }
}

fn ports(spec: &ServiceSpec) -> String {
    let ports = spec.ports.iter().map(|port| match port.app_protocol() {
        AppProtocol::Auto => port.port.to_string(),
        protocol => format!("{} {}", port.port, protocol.as_str_name()),
    });
    ports.collect::<Vec<_>>().join(", ")
}

fn endpoints(spec: &EndpointSetSpec) -> String {
    format!("{} of service {}", count(spec.endpoints.len(), "endpoint"), spec.service)
}

fn rules(spec: &RouteSpec) -> String {
    let parents: Vec<_> = spec.parent_refs.iter().map(|parent| parent.service.as_str()).collect();
    format!("{} of service {}", count(spec.rules.len(), "rule"), parents.join(", "))
}

fn of_service(service: Option<&String>) -> String {
    service
        .filter(|service| !service.is_empty())
        .map(|service| format!("of service {service}"))
        .unwrap_or_default()
}

/// A number of things.
pub(crate) fn count(number: usize, thing: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{end}")
}

#[cfg(test)]
mod tests {
    use trama_proto::document::Document;

    use super::*;

    #[test]
    fn each_kind_is_told_by_what_one_looks_for() {
        let documents =
            Document::parse("orders.yaml", include_str!("../../../proto/examples/orders.yaml")).unwrap();
        let told: Vec<_> = documents.iter().map(|document| about(&document.resource)).collect();
        assert_eq!(told[0], "sao-paulo, rio-de-janeiro");
        assert_eq!(told[1], "mesh.local");
        assert_eq!(told[2], "80");
        assert!(told[3].ends_with("endpoints of service orders"), "{}", told[3]);
        assert!(told[4].ends_with("rules of service orders"), "{}", told[4]);
        assert_eq!(told[5], "of service orders");
    }
}
