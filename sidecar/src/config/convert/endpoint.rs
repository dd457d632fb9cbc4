//! Endpoints: where instances are, and how they are reached.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use trama_proto::{document::Document, policy::v1::Endpoint as Message};

use super::{
    findings::{Claims, Findings, quoted},
    index::Index,
    region::Topology,
    service::{Port, Service, Services},
};
use crate::config::snapshot::{ServiceName, SpiffeId};

/// An endpoint whose fields are read.
pub(super) struct Endpoint<'d> {
    pub(super) document: &'d Document,
    pub(super) field: String,
    pub(super) address: IpAddr,
    /// The one service port that it serves, and its own port for it. `None`: every port, at its target.
    one: Option<(u16, u16)>,
    pub(super) region: Arc<str>,
    pub(super) zone: Arc<str>,
    pub(super) weight: u32,
    pub(super) ready: bool,
    pub(super) mesh: Option<(SocketAddr, SpiffeId)>,
}

impl Endpoint<'_> {
    /// Where it serves a port of its service, if it does.
    pub(super) fn serves(&self, port: &Port) -> Option<SocketAddr> {
        match self.one {
            None => Some(SocketAddr::new(self.address, port.target)),
            Some((service_port, own)) if service_port == port.port => {
                Some(SocketAddr::new(self.address, own))
            }
            Some(_) => None,
        }
    }
}

/// The endpoints of all services.
#[derive(Default)]
pub(super) struct Endpoints<'d> {
    by_service: BTreeMap<ServiceName, Vec<Endpoint<'d>>>,
    names: BTreeSet<Arc<str>>,
}

impl<'d> Endpoints<'d> {
    /// The endpoints of a service.
    pub(super) fn of(&self, service: &ServiceName) -> &[Endpoint<'d>] {
        self.by_service.get(service).map_or(&[], Vec::as_slice)
    }

    /// All endpoints.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Endpoint<'d>> {
        self.by_service.values().flatten()
    }

    /// One copy of each region's and zone's name.
    fn name(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.names.get(text) {
            return Arc::clone(known);
        }
        let name = Arc::<str>::from(text);
        self.names.insert(Arc::clone(&name));
        name
    }
}

/// Reads every endpoint.
pub(super) fn read<'d>(
    index: &Index<'d>,
    services: &Services<'d>,
    topology: &Topology<'_>,
    findings: &mut Findings,
) -> Endpoints<'d> {
    let mut endpoints = Endpoints::default();
    let mut claims = Claims::default();
    let trust_domain = index.mesh.map_or("", |(_, mesh)| mesh.trust_domain.as_str());
    for &(document, spec) in &index.endpoint_sets {
        let Some(service) = services.named(document, "spec.service", "", &spec.service, findings) else {
            continue;
        };
        for (at, message) in spec.endpoints.iter().enumerate() {
            let mut reader =
                Reader { document, message, field: format!("spec.endpoints[{at}]"), trust_domain, findings };
            let Some(endpoint) = reader.endpoint(service, topology, &mut endpoints) else { continue };
            let key = (&service.name.label, endpoint.address, endpoint.one);
            if let Some(claim) = claims.claim(key, document, &endpoint.field) {
                let problem = format!("the same endpoint as in {claim}");
                reader.add("address", quoted(&message.address), problem, "name each endpoint once");
                continue;
            }
            endpoints.by_service.entry(service.name.clone()).or_default().push(endpoint);
        }
    }
    endpoints
}

/// Reads one endpoint.
struct Reader<'d, 'f> {
    document: &'d Document,
    message: &'d Message,
    field: String,
    trust_domain: &'d str,
    findings: &'f mut Findings,
}

impl<'d> Reader<'d, '_> {
    fn endpoint(
        &mut self,
        service: &Service<'_>,
        topology: &Topology<'_>,
        all: &mut Endpoints<'d>,
    ) -> Option<Endpoint<'d>> {
        let Message { region, zone, weight, ready, .. } = self.message;
        topology.check(self.document, &self.at("region"), region, self.findings);
        topology.check_zone(self.document, &self.at("zone"), region, zone, self.findings);
        let one = self.port(service);
        let mesh = self.mesh();
        let words = "an IP address, such as `10.0.0.7` or `fd00::7`";
        let address = self.findings.parse::<IpAddr>(
            self.document,
            &self.at("address"),
            &self.message.address,
            words,
        )?;
        Some(Endpoint {
            document: self.document,
            field: self.field.clone(),
            address: address.to_canonical(),
            one: one?,
            region: all.name(region),
            zone: all.name(zone),
            weight: weight.unwrap_or(1),
            ready: ready.unwrap_or(true),
            mesh: mesh?,
        })
    }

    /// The service port and the endpoint's own port; `Some(None)`: every port.
    fn port(&mut self, service: &Service<'_>) -> Option<Option<(u16, u16)>> {
        let (port, service_port) = (self.message.port, self.message.service_port);
        let own = port.and_then(|port| self.findings.port(self.document, &self.at("port"), port));
        let serves = match (service_port, service.ports.as_slice()) {
            (Some(number), ports) => {
                let found = ports.iter().find(|port| u32::from(port.port) == number);
                if found.is_none() {
                    let problem = format!("no port of service `{}`", service.name);
                    let known: Vec<_> = ports.iter().map(|port| port.port.to_string()).collect();
                    self.add(
                        "servicePort",
                        number.to_string(),
                        problem,
                        format!("name one of: {}", known.join(", ")),
                    );
                }
                found?
            }
            (None, [only]) => only,
            (None, _) if port.is_none() => return Some(None),
            (None, _) => {
                let problem = format!("missing: service `{}` has several ports", service.name);
                self.add(
                    "servicePort",
                    "",
                    problem,
                    "name the service port that `port` serves, or remove `port`",
                );
                return None;
            }
        };
        if port.is_some() && own.is_none() {
            return None;
        }
        Some(Some((serves.port, own.unwrap_or(serves.target))))
    }

    /// The mesh record; `Some(None)`: reached plainly.
    fn mesh(&mut self) -> Option<Option<(SocketAddr, SpiffeId)>> {
        let text = &self.message.identity;
        let identity = (!text.is_empty()).then(|| SpiffeId::parse(text));
        if let Some(Err(problem)) = &identity {
            self.add(
                "identity",
                quoted(text),
                *problem,
                "write `spiffe://<trust domain>/ns/<namespace>/sa/<account>`",
            );
        }
        if let Some(Ok(identity)) = &identity
            && !self.trust_domain.is_empty()
            && identity.trust_domain() != self.trust_domain
        {
            let problem = format!("outside the trust domain `{}`", self.trust_domain);
            self.add("identity", quoted(text), problem, "correct it, or `trustDomain` of the MeshSettings");
        }
        let Some(record) = &self.message.mesh else { return Some(None) };
        let words = "an IP address with a port, such as `10.0.0.7:15008`";
        let address = self.findings.parse::<SocketAddr>(
            self.document,
            &self.at("mesh.address"),
            &record.address,
            words,
        )?;
        if address.port() == 0 {
            self.add("mesh.address", quoted(&record.address), "port 0", "name the mesh port, such as 15008");
        }
        match identity {
            Some(identity) => Some(Some((address, identity.ok()?))),
            None => {
                let remedy = "name the SPIFFE id that its certificate carries, or remove `mesh`";
                self.add("identity", "", "missing with a mesh record", remedy);
                None
            }
        }
    }

    fn at(&self, name: &str) -> String {
        format!("{}.{name}", self.field)
    }

    fn add(
        &mut self,
        name: &str,
        value: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.findings.add(self.document, &self.at(name), value, problem, remedy);
    }
}
