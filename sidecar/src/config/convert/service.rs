//! Services: their names, addresses and ports.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use trama_proto::{
    document::Document,
    policy::v1::{ServicePort, ServiceSpec, service_port::AppProtocol as AppProtocolMessage},
};

use super::{
    backend_tls,
    findings::{Claim, Claims, Findings, quoted},
    index::Index,
};
use crate::config::snapshot::{AppProtocol, BackendTls, ServiceName};

/// A service whose fields are read.
pub(super) struct Service<'d> {
    pub(super) document: &'d Document,
    pub(super) spec: &'d ServiceSpec,
    pub(super) name: ServiceName,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ports: Vec<Port>,
}

/// A port of a service.
pub(super) struct Port {
    pub(super) port: u16,
    pub(super) target: u16,
    pub(super) protocol: AppProtocol,
    /// How its endpoints without a sidecar are spoken to in TLS, if they are.
    pub(super) tls: Option<Arc<BackendTls>>,
}

/// All services by namespace and name.
#[derive(Default)]
pub(super) struct Services<'d>(BTreeMap<&'d str, BTreeMap<&'d str, Service<'d>>>);

impl<'d> Services<'d> {
    /// All services, in the order of namespace and name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Service<'d>> {
        self.0.values().flat_map(BTreeMap::values)
    }

    /// The entries of the sidecar's configuration that their ports' TLS names.
    pub(super) fn tls_files(&self) -> BTreeSet<Arc<str>> {
        let tls = self.iter().flat_map(|service| &service.ports).filter_map(|port| port.tls.as_ref());
        tls.map(|tls| Arc::clone(&tls.files)).collect()
    }

    /// The service that a field names, or a problem. An empty namespace is the document's.
    pub(super) fn named(
        &self,
        document: &Document,
        field: &str,
        namespace: &str,
        name: &str,
        findings: &mut Findings,
    ) -> Option<&Service<'d>> {
        let namespace = if namespace.is_empty() { &document.id.namespace } else { namespace };
        let in_namespace = self.0.get(namespace);
        let found = in_namespace.and_then(|services| services.get(name));
        if found.is_none() {
            let known = in_namespace.into_iter().flat_map(BTreeMap::keys).copied();
            findings.unknown(document, field, name, &format!("service in namespace `{namespace}`"), known);
        }
        found
    }
}

/// Reads every service. Two that share an address and port, or a host and port, are problems.
pub(super) fn read<'d>(index: &Index<'d>, findings: &mut Findings) -> Services<'d> {
    let mut services = Services::default();
    let (mut addresses, mut hosts) = (Claims::default(), Claims::default());
    for &(document, spec) in &index.services {
        let ports = read_ports(document, spec, findings);
        for (at, host) in spec.hosts.iter().enumerate() {
            for port in &ports {
                let claim = hosts.claim((host, port.port), document, &format!("spec.hosts[{at}]"));
                taken(document, &format!("spec.hosts[{at}]"), host, port.port, claim, findings);
            }
        }
        let addresses = read_addresses(document, spec, &ports, &mut addresses, findings);
        let name = ServiceName::new(&document.id.name, &document.id.namespace);
        let service = Service { document, spec, name, addresses, ports };
        services.0.entry(&document.id.namespace).or_default().insert(&document.id.name, service);
    }
    services
}

fn read_addresses<'d>(
    document: &'d Document,
    spec: &ServiceSpec,
    ports: &[Port],
    claims: &mut Claims<'d, SocketAddr>,
    findings: &mut Findings,
) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for (at, text) in spec.addresses.iter().enumerate() {
        let field = format!("spec.addresses[{at}]");
        let parsed = findings.parse::<IpAddr>(
            document,
            &field,
            text,
            "an IP address, such as `10.0.0.7` or `fd00::7`",
        );
        let Some(address) = parsed.map(|address| address.to_canonical()) else { continue };
        if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
            let remedy = "write the address that clients dial; what never leaves a pod is not captured";
            findings.add(document, &field, quoted(text), "no address of a service", remedy);
            continue;
        }
        for port in ports {
            let claim = claims.claim(SocketAddr::new(address, port.port), document, &field);
            taken(document, &field, text, port.port, claim, findings);
        }
        addresses.push(address);
    }
    addresses
}

fn taken(
    document: &Document,
    field: &str,
    text: &str,
    port: u16,
    claim: Option<Claim<'_>>,
    findings: &mut Findings,
) {
    if let Some(claim) = claim {
        let problem = format!("with port {port} already taken by {claim}");
        findings.add(document, field, quoted(text), problem, "remove it from one of them");
    }
}

fn read_ports(document: &Document, spec: &ServiceSpec, findings: &mut Findings) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    for (at, it) in spec.ports.iter().enumerate() {
        let field = |name: &str| format!("spec.ports[{at}].{name}");
        let Some(port) = findings.port(document, &field("port"), it.port) else { continue };
        let target = findings.port(document, &field("targetPort"), it.target_port.unwrap_or(it.port));
        if ports.iter().any(|other| other.port == port) {
            findings.add(
                document,
                &field("port"),
                port.to_string(),
                "used twice",
                "give each port its own number",
            );
            continue;
        }
        let same_name = |other: &ServicePort| !it.name.is_empty() && other.name == it.name;
        if spec.ports[..at].iter().any(same_name) {
            findings.add(
                document,
                &field("name"),
                quoted(&it.name),
                "used twice",
                "give each port its own name",
            );
        }
        let tls = it.tls.as_ref().and_then(|tls| backend_tls::read(document, &field("tls"), tls, findings));
        ports.push(Port { port, target: target.unwrap_or(port), protocol: protocol(it.app_protocol()), tls });
    }
    ports
}

fn protocol(protocol: AppProtocolMessage) -> AppProtocol {
    match protocol {
        AppProtocolMessage::Auto => AppProtocol::Auto,
        AppProtocolMessage::Http => AppProtocol::Http1,
        AppProtocolMessage::Http2 => AppProtocol::Http2,
        AppProtocolMessage::Grpc => AppProtocol::Grpc,
        AppProtocolMessage::Tcp => AppProtocol::Tcp,
    }
}
