//! The mesh's policy file: what its pods say, and what a test adds.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// The trust domain of every mesh.
pub(super) const TRUST_DOMAIN: &str = "mesh.test";

/// The policy, before it is written.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub(super) services: BTreeMap<String, Service>,
    pub(super) endpoints: Vec<Endpoint>,
    routes: BTreeMap<String, String>,
    order: Vec<String>,
    more: String,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Service {
    protocol: Option<String>,
    tls: Option<String>,
    spec: String,
    pub(super) addresses: Vec<IpAddr>,
}

#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) service: String,
    pub(super) address: IpAddr,
    pub(super) region: String,
    /// Identity and mesh address, if it has a sidecar.
    pub(super) mesh: Option<(String, SocketAddr)>,
    /// Whether its record says so.
    pub(super) recorded: bool,
}

impl Policy {
    /// More lines for a service's `spec`.
    pub fn service(&mut self, service: &str, spec: &str) {
        self.services.entry(service.to_owned()).or_default().spec = spec.to_owned();
    }

    /// What is spoken on a service's port.
    pub fn protocol(&mut self, service: &str, protocol: &str) {
        self.services.entry(service.to_owned()).or_default().protocol = Some(protocol.to_owned());
    }

    /// The fields of `tls` of a service's port.
    pub fn tls(&mut self, service: &str, fields: &str) {
        self.services.entry(service.to_owned()).or_default().tls = Some(fields.to_owned());
    }

    /// The identity that the records of a service's endpoints name.
    pub fn identity(&mut self, service: &str, identity: &str) {
        let own = self.endpoints.iter_mut().filter(|endpoint| endpoint.service == service);
        own.filter_map(|endpoint| endpoint.mesh.as_mut()).for_each(|(named, _)| *named = identity.to_owned());
    }

    /// Whether the endpoints of a service have mesh records.
    pub fn meshed(&mut self, service: &str, meshed: bool) {
        let own = self.endpoints.iter_mut().filter(|endpoint| endpoint.service == service);
        own.for_each(|endpoint| endpoint.recorded = meshed);
    }

    /// A route with one rule for everything, named `all`, of these lines. It replaces the one before it.
    pub fn route(&mut self, service: &str, rule: &str) {
        self.routes.insert(service.to_owned(), rule.to_owned());
    }

    /// The order in which regions are tried.
    pub fn order(&mut self, regions: &[&str]) {
        self.order = regions.iter().map(|&region| region.to_owned()).collect();
    }

    /// Whole documents besides, with their `---` between them.
    pub fn more(&mut self, documents: &str) {
        self.more = documents.to_owned();
    }

    /// The file.
    pub(super) fn text(&self) -> String {
        let mut documents = Vec::new();
        if !self.order.is_empty() {
            let regions = self.order.join(" }, { name: ");
            documents.push(format!(
                "kind: RegionTopology\nmetadata: {{ name: mesh }}\nspec:\n  regions: [{{ name: {regions} }}]\n  \
                 order:\n    - to: [{}]\n",
                self.order.join(", ")
            ));
        }
        for (label, service) in &self.services {
            documents.push(service.text(label));
            documents.push(self.endpoint_set(label));
        }
        for (label, rule) in &self.routes {
            let (metadata, name) = metadata(label);
            documents.push(format!(
                "kind: Route\n{metadata}spec:\n  parentRefs: [{{ service: {name} }}]\n  rules:\n    - name: all\n{}",
                indented(rule, 6)
            ));
        }
        if !self.more.is_empty() {
            documents.push(self.more.clone());
        }
        documents.join("---\n")
    }

    fn endpoint_set(&self, label: &str) -> String {
        let (metadata, name) = metadata(label);
        let mut text = format!("kind: EndpointSet\n{metadata}spec:\n  service: {name}\n  endpoints:\n");
        let own: Vec<&Endpoint> = self.endpoints.iter().filter(|e| e.service == label).collect();
        if own.is_empty() {
            return text.replace("endpoints:\n", "endpoints: []\n");
        }
        for endpoint in own {
            writeln!(text, "    - address: \"{}\"", endpoint.address).unwrap();
            if !endpoint.region.is_empty() {
                writeln!(text, "      region: {}", endpoint.region).unwrap();
            }
            if let Some((identity, address)) = endpoint.mesh.as_ref().filter(|_| endpoint.recorded) {
                writeln!(text, "      identity: {identity}\n      mesh: {{ address: \"{address}\" }}")
                    .unwrap();
            }
        }
        text
    }
}

impl Service {
    fn text(&self, label: &str) -> String {
        let (metadata, _) = metadata(label);
        let protocol = self.protocol.as_ref().map_or_else(String::new, |p| format!(", appProtocol: {p}"));
        let tls = self.tls.as_ref().map_or_else(String::new, |t| format!(", tls: {{ {t} }}"));
        let addresses = self.addresses.iter().map(|a| format!("\"{a}\"")).collect::<Vec<_>>().join(", ");
        format!(
            "kind: Service\n{metadata}spec:\n  addresses: [{addresses}]\n  \
             ports: [{{ port: 80, targetPort: 8080{protocol}{tls} }}]\n{}",
            indented(&self.spec, 2)
        )
    }
}

fn metadata(label: &str) -> (String, &str) {
    let (namespace, name) = label.split_once('/').expect("a service is written namespace/name");
    (format!("metadata: {{ name: {name}, namespace: {namespace} }}\n"), name)
}

fn indented(lines: &str, by: usize) -> String {
    let lines = lines.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| format!("{:by$}{line}\n", "")).collect()
}
