//! Says what a mesh is made of, and starts it.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use super::application::Application;
use super::net::{Net, SIDECAR_USER};
use super::pod::{self, Pod, Sidecar, Start};
use super::policy::{Endpoint, Policy, TRUST_DOMAIN};
use super::{EXPLICIT, Mesh, Ports};
use crate::authority::{Authority, Issued};
use crate::control::Control;
use crate::control_plane::ControlPlane;
use crate::lab::Lab;

/// Where a mesh runs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Where {
    /// Sidecars in this process, on loopback addresses, with explicit listeners.
    #[default]
    InProcess,
    /// The same as processes, which can be killed and measured.
    Processes,
    /// Processes in network namespaces, with captured traffic. It takes root.
    Namespaces,
}

/// What a pod's certificate is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Certificate {
    /// As it should be.
    #[default]
    Good,
    /// Its time is over.
    Expired,
    /// Signed by another authority.
    Foreign,
    /// It has none.
    None,
}

/// A pod, as a test wants it.
#[derive(Debug)]
pub struct PodSpec {
    pub(super) name: String,
    service: Option<String>,
    /// Whether its sidecar is told its service.
    told: bool,
    region: String,
    application: Option<Application>,
    sidecar: bool,
    identity: String,
    record_identity: Option<String>,
    certificate: Certificate,
    workers: u16,
    pub(super) start: Start,
    config: String,
    /// Fields of `telemetry`.
    spans_to: String,
    listeners: Vec<(String, String)>,
}

impl PodSpec {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            service: None,
            told: true,
            region: String::new(),
            application: None,
            sidecar: true,
            identity: format!("spiffe://{TRUST_DOMAIN}/ns/shop/sa/{name}"),
            record_identity: None,
            certificate: Certificate::default(),
            workers: 1,
            config: String::new(),
            start: Start::default(),
            spans_to: String::new(),
            listeners: vec![("explicit".to_owned(), "protocol: HTTP".to_owned())],
        }
    }

    /// It is an endpoint of this service, `namespace/name`, whose port 80 is the application's 8080.
    #[must_use]
    pub fn serves(mut self, service: &str) -> Self {
        self.service = Some(service.to_owned());
        self
    }

    /// Its sidecar is not told which service it serves.
    #[must_use]
    pub fn untold(mut self) -> Self {
        self.told = false;
        self
    }

    /// Its region.
    #[must_use]
    pub fn region(mut self, region: &str) -> Self {
        self.region = region.to_owned();
        self
    }

    /// What serves there.
    #[must_use]
    pub fn application(mut self, application: &Application) -> Self {
        self.application = Some(application.clone());
        self
    }

    /// It has no sidecar: its endpoint is reached in the clear.
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.sidecar = false;
        self
    }

    /// The identity in its certificate.
    #[must_use]
    pub fn identity(mut self, identity: &str) -> Self {
        self.identity = identity.to_owned();
        self
    }

    /// The identity in its endpoint's record, where it differs from the certificate's.
    #[must_use]
    pub fn recorded_as(mut self, identity: &str) -> Self {
        self.record_identity = Some(identity.to_owned());
        self
    }

    /// What is wrong with its certificate.
    #[must_use]
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.certificate = certificate;
        self
    }

    /// How many workers its sidecar has; one if nothing is said.
    #[must_use]
    pub fn workers(mut self, workers: u16) -> Self {
        self.workers = workers;
        self
    }

    /// Its sidecar's ports. Only in namespaces: the capture rules are made for them.
    #[must_use]
    pub fn ports(mut self, ports: Ports) -> Self {
        self.start.ports = ports;
        self
    }

    /// What is started as its sidecar, with a sidecar's arguments. Only where sidecars are processes.
    #[must_use]
    pub fn program(mut self, program: &Path) -> Self {
        self.start.program = Some(program.to_owned());
        self
    }

    /// More lines of its sidecar's configuration.
    #[must_use]
    pub fn config(mut self, lines: &str) -> Self {
        self.config.push_str(lines.trim_end());
        self.config.push('\n');
        self
    }

    /// Who receives its sidecar's spans, by OTLP over gRPC.
    #[must_use]
    pub fn spans_to(mut self, receiver: SocketAddr) -> Self {
        self.spans_to = format!(", otlpEndpoint: \"http://{receiver}\"");
        self
    }

    /// Who receives its sidecar's spans in TLS, by this entry of `upstreamTls`.
    #[must_use]
    pub fn spans_sealed_to(mut self, receiver: SocketAddr, entry: &str) -> Self {
        self.spans_to = format!(", otlpEndpoint: \"https://{receiver}\", otlpTls: {entry}");
        self
    }

    /// One more explicit listener: `name, address` are given, these fields come after them.
    #[must_use]
    pub fn listener(mut self, name: &str, fields: &str) -> Self {
        self.listeners.push((name.to_owned(), fields.to_owned()));
        self
    }
}

/// Puts a mesh together.
#[derive(Debug, Default)]
pub struct MeshBuilder {
    place: Where,
    ipv6: bool,
    pods: Vec<PodSpec>,
    policy: Policy,
    control: Option<Control>,
}

impl MeshBuilder {
    /// Where it runs.
    #[must_use]
    pub fn at(mut self, place: Where) -> Self {
        self.place = place;
        self
    }

    /// Pods are reached at their IPv6 addresses. Only in namespaces.
    #[must_use]
    pub fn ipv6(mut self, ipv6: bool) -> Self {
        self.ipv6 = ipv6;
        self
    }

    /// A pod.
    #[must_use]
    pub fn pod(mut self, name: &str, describe: impl FnOnce(PodSpec) -> PodSpec) -> Self {
        self.pods.push(describe(PodSpec::new(name)));
        self
    }

    /// What the policy says beyond the pods.
    #[must_use]
    pub fn policy(mut self, describe: impl FnOnce(&mut Policy)) -> Self {
        describe(&mut self.policy);
        self
    }

    /// A control plane tells the policy, instead of a file.
    #[must_use]
    pub fn control(mut self, control: Control) -> Self {
        self.control = Some(control);
        self
    }

    /// Starts everything and waits until it serves.
    pub async fn start(self) -> Mesh {
        self.begin(None).await
    }

    /// The same with a real control plane: it is applied the policy, and each sidecar joins it by a token.
    pub async fn start_in(self, control_plane: &ControlPlane) -> Mesh {
        self.begin(Some(control_plane)).await
    }

    async fn begin(mut self, control_plane: Option<&ControlPlane>) -> Mesh {
        let folder = tempfile::Builder::new().prefix("trama-mesh-").tempdir().unwrap();
        open(folder.path(), 0o755);
        let lab = (self.place == Where::Namespaces).then(|| Lab::new().unwrap_or_else(|e| panic!("{e}")));
        let nets: Vec<Net> = self.pods.iter().map(|spec| net(lab.as_ref(), spec, self.ipv6)).collect();
        let policy = self.complete_policy(&nets, lab.as_ref());
        fs::write(folder.path().join("policy.yaml"), policy.text()).unwrap();
        let authorities = [Authority::new().unwrap(), Authority::new().unwrap()];
        fs::write(folder.path().join("ca.pem"), authorities[0].pem()).unwrap();
        if let Some(control) = &mut self.control {
            fs::remove_file(folder.path().join("policy.yaml")).unwrap();
            control.publish(&policy.text());
            control.start(&authorities[0]).await;
        }
        if let Some(control_plane) = control_plane {
            fs::remove_file(folder.path().join("policy.yaml")).unwrap();
            control_plane.apply(&policy.text()).await.unwrap();
        }
        let mut pods = BTreeMap::new();
        for (spec, net) in self.pods.into_iter().zip(nets) {
            let own = folder.path().join(&spec.name);
            fs::create_dir(&own).unwrap();
            // Application and sidecar write here, and in namespaces they are different users.
            open(&own, 0o777);
            let issued = issue(&authorities, &spec);
            put_identity(&own, &issued, self.place);
            if let Some(control_plane) = control_plane {
                control_plane.invite(&spec.identity, &own).await;
            }
            let source = match (&self.control, control_plane) {
                (Some(control), _) => Source::Control(control.address()),
                (None, Some(control_plane)) => Source::ControlPlane(control_plane.address()),
                (None, None) => Source::File,
            };
            fs::write(own.join("sidecar.yaml"), configuration(&own, &spec, &net, source)).unwrap();
            let application = spec.application.as_ref().map(|a| pod::start_application(a, &net, &spec.name));
            let sidecar = match (spec.sidecar, self.place) {
                (false, _) => None,
                (true, Where::InProcess) => Some(Sidecar::in_process(&own)),
                (true, Where::Processes) => Some(Sidecar::process(&own, None, &spec.start)),
                (true, Where::Namespaces) => Some(Sidecar::process(&own, Some(&net), &spec.start)),
            };
            let pod = Pod::new(&spec.name, (net, spec.start), own, sidecar, application, spec.identity);
            pods.insert(spec.name, pod);
        }
        for pod in pods.values() {
            pod.ready().await;
        }
        let [authority, _] = authorities;
        Mesh { pods, policy, authority, place: self.place, ipv6: self.ipv6, control: self.control, folder }
    }

    fn complete_policy(&self, nets: &[Net], lab: Option<&Lab>) -> Policy {
        let mut policy = self.policy.clone();
        for (spec, net) in self.pods.iter().zip(nets) {
            let Some(service) = &spec.service else { continue };
            policy.services.entry(service.clone()).or_default();
            let identity = spec.record_identity.as_ref().unwrap_or(&spec.identity).clone();
            policy.endpoints.push(Endpoint {
                service: service.clone(),
                address: net.ip(),
                region: spec.region.clone(),
                mesh: spec.sidecar.then(|| (identity, SocketAddr::new(net.ip(), spec.start.ports.mesh))),
                recorded: true,
            });
        }
        for (number, service) in policy.services.values_mut().enumerate() {
            let number = u8::try_from(number).unwrap() + 10;
            service.addresses = lab.map(|lab| lab.service(number).to_vec()).unwrap_or_default();
        }
        policy
    }
}

fn net(lab: Option<&Lab>, spec: &PodSpec, ipv6: bool) -> Net {
    let Some(lab) = lab else { return Net::loopback() };
    let pod = lab.pod(&spec.name, &spec.region).unwrap();
    let ip: IpAddr = if ipv6 { pod.ip6.into() } else { pod.ip4.into() };
    Net::Lab(pod, ip)
}

fn issue([own, foreign]: &[Authority; 2], spec: &PodSpec) -> Issued {
    let issued = match spec.certificate {
        Certificate::Good | Certificate::None => own.issue(&spec.identity),
        Certificate::Expired => own.issue_expired(&spec.identity),
        Certificate::Foreign => foreign.issue(&spec.identity),
    };
    issued.unwrap()
}

/// Writes an identity as a renewal does: whole files that replace the old ones.
pub(super) fn put_identity(own: &Path, issued: &Issued, place: Where) {
    for (name, text, mode) in
        [("identity.pem", &issued.certificate, 0o644), ("identity.key", &issued.key, 0o600)]
    {
        let next = own.join(format!("{name}.next"));
        fs::write(&next, text).unwrap();
        open(&next, mode);
        if place == Where::Namespaces {
            chown(&next, Some(SIDECAR_USER), Some(SIDECAR_USER)).unwrap();
        }
        fs::rename(next, own.join(name)).unwrap();
    }
}

fn open(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Where policy comes from, and the identity with it.
#[derive(Clone, Copy)]
enum Source {
    File,
    Control(SocketAddr),
    ControlPlane(SocketAddr),
}

fn configuration(own: &Path, spec: &PodSpec, net: &Net, source: Source) -> String {
    let (own, ip) = (own.display(), net.ip());
    let service = spec.service.as_deref().unwrap_or(&spec.name);
    let service = if spec.told { format!(", service: {service}") } else { String::new() };
    let mut text = format!(
        "node: {{ name: {name}, namespace: shop{service}, region: \"{region}\" }}\n\
         workers: {workers}\n\
         telemetry: {{ accessLog: {own}/access.log{spans} }}\n",
        spans = spec.spans_to,
        name = spec.name,
        region = spec.region,
        workers = spec.workers,
    );
    if spec.certificate != Certificate::None && !matches!(source, Source::ControlPlane(_)) {
        text.push_str(&format!(
            "identity: {{ certificate: {own}/identity.pem, key: {own}/identity.key, bundle: {own}/../ca.pem }}\n"
        ));
    }
    match source {
        Source::File => {}
        Source::Control(address) => {
            text.push_str(&format!("controlPlane: {{ address: \"{address}\", bundle: {own}/../ca.pem }}\n"));
        }
        Source::ControlPlane(address) => {
            let identity = &spec.identity;
            text.push_str(&format!(
                "controlPlane:\n  address: \"{address}\"\n  bundle: {own}/control-plane.pem\n  \
                 join: {{ identity: {identity}, token: {own}/token }}\nstateDirectory: {own}/state\n"
            ));
        }
    }
    if let Net::Loopback(_) = net {
        let ways = "capture: { outbound: false, inbound: false }";
        text.push_str(&format!("bindAddress: {ip}\nadmin: {{ address: {ip} }}\n{ways}\nlisteners:\n"));
        for (number, (name, fields)) in (0..).zip(&spec.listeners) {
            let address = SocketAddr::new(ip, EXPLICIT + number);
            text.push_str(&format!("  - {{ name: {name}, address: \"{address}\", {fields} }}\n"));
        }
    }
    if spec.start.ports != Ports::default() {
        let Ports { outbound, inbound, mesh, admin, metrics, health } = spec.start.ports;
        text.push_str(&format!(
            "ports: {{ outbound: {outbound}, inbound: {inbound}, mesh: {mesh}, metrics: {metrics}, health: {health} }}\n\
             admin: {{ port: {admin} }}\n"
        ));
    }
    text + &spec.config
}
