//! The small sections of the configuration.

use std::{
    fmt::{self, Display, Formatter},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{self, DurationText, HttpUrlText, LabelText};

/// Who and where a sidecar is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Node {
    /// What traces call it where `service` is left out, such as the pod's name. Left out: the machine's host name.
    pub name: Option<String>,
    /// The namespace it runs in: names of services without a namespace are looked up there.
    #[schemars(with = "LabelText")]
    pub namespace: String,
    /// The service that its application belongs to, for logs, metrics and traces, and whose filters stand before a port that
    /// is in no policy.
    pub service: Option<String>,
    /// The region it runs in. Empty: no region is nearer than another.
    #[schemars(with = "LabelText")]
    pub region: String,
    /// The zone it runs in: a label, which the control plane is told.
    #[schemars(with = "LabelText")]
    pub zone: String,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            name: None,
            namespace: "default".to_owned(),
            service: None,
            region: String::new(),
            zone: String::new(),
        }
    }
}

impl Node {
    /// The service that its application belongs to, `namespace/name`.
    pub fn service_label(&self) -> Option<String> {
        let service = self.service.as_ref()?;
        Some(if service.contains('/') { service.clone() } else { format!("{}/{service}", self.namespace) })
    }

    /// Its name, or else the machine's.
    pub fn display_name(&self) -> String {
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        self.name.clone().unwrap_or_else(|| host().trim().to_owned())
    }
}

/// The ports of a sidecar, on `bindAddress`. 0: any free port, for tests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Ports {
    /// Takes captured traffic from the application.
    pub outbound: u16,
    /// Takes captured traffic to the application.
    pub inbound: u16,
    /// Takes mTLS from other sidecars. It is open only where the workload has an identity.
    pub mesh: u16,
    /// Answers Prometheus.
    pub metrics: u16,
    /// Answers `/startupz`, `/readyz` and `/livez`.
    pub health: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { outbound: 15001, inbound: 15006, mesh: 15008, metrics: 15020, health: 15021 }
    }
}

/// Which traffic is captured. It needs the rules of `trama-sidecar redirect`; without them, set both to false and
/// use `listeners`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Capture {
    /// From the application.
    pub outbound: bool,
    /// To the application.
    pub inbound: bool,
}

impl Default for Capture {
    fn default() -> Self {
        Self { outbound: true, inbound: true }
    }
}

/// The application beside a sidecar.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Application {
    /// Where it listens. Left out: the address that the connection came in on.
    pub address: Option<IpAddr>,
    /// Its ports that may be reached. Empty: all but the sidecar's own.
    #[schemars(inner(range(min = 1)))]
    pub allowed_ports: Vec<u16>,
}

/// The identity of a workload. The files are read again when they change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Identity {
    /// PEM file of the certificate chain, the workload's own certificate first. It carries the SPIFFE id.
    pub certificate: PathBuf,
    /// PEM file of the key.
    pub key: PathBuf,
    /// PEM file of the authorities of the trust domain.
    pub bundle: PathBuf,
    /// The trust domain that callers must belong to. Left out: that of the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<String>,
}

/// What happens before there is a policy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Startup {
    /// How long the listeners stay closed while there is none.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub wait_for_policy: Duration,
    /// What becomes of outbound traffic after that.
    pub without_policy: WithoutPolicy,
    /// What becomes of plain inbound traffic after that, where there is an identity: the policy may be one that
    /// demands mutual TLS.
    pub plain_inbound: WithoutPolicy,
}

impl Default for Startup {
    fn default() -> Self {
        Self {
            wait_for_policy: Duration::from_secs(30),
            without_policy: WithoutPolicy::PassThrough,
            plain_inbound: WithoutPolicy::Refuse,
        }
    }
}

/// What becomes of traffic without a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WithoutPolicy {
    /// It is passed on plainly.
    PassThrough,
    /// It is refused.
    Refuse,
}

/// The admin interface. It shows and changes everything, so it is on loopback only.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Admin {
    /// A loopback address.
    pub address: IpAddr,
    /// Its port. 0: any free port, for tests.
    pub port: u16,
}

impl Default for Admin {
    fn default() -> Self {
        Self { address: Ipv4Addr::LOCALHOST.into(), port: 15000 }
    }
}

/// Logs and traces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Telemetry {
    /// Where the access log goes.
    pub access_log: AccessLogTarget,
    /// The receiver of traces, by OTLP over gRPC, which most have on port 4317; OTLP over HTTP is not spoken. Left out: the control plane, where `controlPlane` names one, else none is sent.
    #[schemars(with = "Option<HttpUrlText>")]
    pub otlp_endpoint: Option<String>,
    /// The entry of `upstreamTls` that a receiver with `https://` is reached with: the authorities that its certificate must
    /// come from, and the client certificate that it is shown. Left out: the system's authorities, and none.
    #[schemars(with = "Option<LabelText>")]
    pub otlp_tls: Option<String>,
}

impl Telemetry {
    /// The host that the receiver's certificate must name, where its address asks for TLS.
    pub fn sealed_host(&self) -> Option<&str> {
        sealed_host(self.otlp_endpoint.as_deref()?)
    }
}

/// The host of `https://host:port`, which a certificate must name. `None`: this address does not ask for TLS.
pub fn sealed_host(address: &str) -> Option<&str> {
    let authority = address.strip_prefix("https://")?.trim_end_matches('/');
    let (host, end) = authority.strip_prefix('[').map_or((authority, ':'), |rest| (rest, ']'));
    host.split(end).next()
}

/// Where the access log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String", title = "`stdout`, `off` or the path of a file")]
pub enum AccessLogTarget {
    /// Standard output, one JSON object per line.
    #[default]
    Stdout,
    /// Nowhere.
    Off,
    /// The end of a file.
    File(PathBuf),
}

impl From<String> for AccessLogTarget {
    fn from(text: String) -> Self {
        match text.as_str() {
            "stdout" => Self::Stdout,
            "off" => Self::Off,
            _ => Self::File(text.into()),
        }
    }
}

impl From<AccessLogTarget> for String {
    fn from(target: AccessLogTarget) -> Self {
        target.to_string()
    }
}

impl Display for AccessLogTarget {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::Off => f.write_str("off"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}
