//! What may be meant as it is written, and mostly is not: told by `--validate`, and no reason to refuse anything.

use std::collections::BTreeSet;

use crate::config::{
    bootstrap::Config,
    snapshot::{Endpoint, ServicePort, Snapshot, Transport},
};

/// Each names the field or the resource, what would come of it, and the remedy.
pub(super) fn of(config: &Config, policy: &Snapshot) -> Vec<String> {
    let ports: Vec<_> = policy.destinations.by_name.values().collect();
    let mut doubts = Vec::new();
    let meshed = |endpoint: &Endpoint| matches!(endpoint.transport, Transport::Mesh(_));
    if config.identity.is_none() && ports.iter().any(|port| endpoints(port).any(meshed)) {
        let doubt = "identity: missing, and the policy has endpoints that are reached by mutual TLS alone: requests for them \
                     would fail with `no_identity`; name certificate, key and bundle";
        doubts.push(doubt.to_owned());
    }
    if let Some(own) = config.node.service_label()
        && !ports.iter().any(|port| *port.service.label == *own)
    {
        doubts.push(format!(
            "node.service: no such service in the policy, got {own:?}; name the one that the application belongs to, or \
             remove it"
        ));
    }
    // A service whose routes lead elsewhere needs none of its own.
    let has_somewhere =
        |port: &ServicePort| endpoints(port).next().is_some() || !port.routes.is_empty() || skips(port);
    let services = |served: bool| -> BTreeSet<&str> {
        ports.iter().filter(|port| has_somewhere(port) == served).map(|port| &*port.service.label).collect()
    };
    doubts.extend(services(false).difference(&services(true)).map(|service| {
        format!("Service {service}: no endpoints: requests for it would fail with `no_endpoint`; add an EndpointSet")
    }));
    doubts
}

fn endpoints(port: &ServicePort) -> impl Iterator<Item = &Endpoint> {
    port.cluster.regions.iter().flat_map(|group| &group.endpoints).map(|endpoint| &**endpoint)
}

fn skips(port: &ServicePort) -> bool {
    !port.cluster.skipped.is_empty()
}

#[cfg(test)]
mod tests {
    use trama_proto::document::Document;

    use super::*;
    use crate::config::{
        convert::{Local, convert},
        snapshot::state::Registry,
    };

    fn doubts(config: &str, policy: &str) -> Vec<String> {
        let config = Config::parse("c.yaml", config, []).unwrap_or_else(|problems| panic!("{problems}"));
        let documents = Document::parse("p.yaml", policy).unwrap();
        let policy = convert(&documents, &Local::default(), &mut Registry::default(), 1);
        of(&config, &policy.unwrap_or_else(|problems| panic!("{problems}")))
    }

    const SERVICE: &str = "kind: Service\nmetadata: { name: orders }\nspec: { ports: [{ port: 80 }] }\n";

    fn with_endpoint(more: &str) -> String {
        format!(
            "{SERVICE}---\nkind: EndpointSet\nmetadata: {{ name: orders }}\n\
             spec: {{ service: orders, endpoints: [{{ address: 10.0.0.1{more} }}] }}\n"
        )
    }

    #[test]
    fn what_is_whole_leaves_no_doubt() {
        assert_eq!(doubts("node: { service: orders }\n", &with_endpoint("")), [""; 0]);
        let route = "---\nkind: Route\nmetadata: { name: shop }\nspec:\n  parentRefs: [{ service: shop }]\n  \
                     rules: [{ backendRefs: [{ service: orders, port: 80 }] }]\n";
        let shop = SERVICE.replace("orders", "shop");
        assert_eq!(doubts("", &format!("{}---\n{shop}{route}", with_endpoint(""))), [""; 0]);
    }

    #[test]
    fn what_would_fail_each_request_is_told() {
        let meshed = ", identity: \"spiffe://a.b/c\", mesh: { address: \"10.0.0.1:15008\" }";
        for (config, policy, told) in [
            ("", with_endpoint(meshed), "identity: missing, "),
            (
                "node: { service: order }\n",
                with_endpoint(""),
                "node.service: no such service in the policy, got \"default/order\"; ",
            ),
            ("", SERVICE.to_owned(), "Service default/orders: no endpoints: "),
        ] {
            let doubts = doubts(config, &policy);
            assert!(doubts.len() == 1 && doubts[0].starts_with(told), "{told}: {doubts:?}");
        }
    }
}
