//! The bootstrap configuration: what a sidecar must know before any policy. Parsed once, at the start.
//!
//! It is read from a YAML file, every leaf can be set by an environment variable, and what is wrong is told all at
//! once. `docs/src/reference/config.schema.json` is its JSON Schema, generated from these types.

mod control_plane;
mod cpu;
mod limits;
mod listener;
mod schema;
mod sections;
mod text;
mod upstream_tls;
mod validate;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trama_proto::{
    Problems,
    settings::{Form, all_addresses},
};

pub use self::{
    control_plane::{ControlPlane, Join},
    limits::{Limits, Pool, Timeouts},
    listener::{ClientName, Listener, ListenerProtocol, ListenerTls, ServiceAddress},
    schema::schema,
    sections::{
        AccessLogTarget, Admin, Application, Capture, Identity, Node, Ports, Startup, Telemetry,
        WithoutPolicy, sealed_host,
    },
    upstream_tls::UpstreamTls,
};

const FORM: Form<Config> = Form {
    schema,
    reserved: &["TRAMA_CONFIG", "TRAMA_POLICY", "TRAMA_LOG", "TRAMA_LOG_FORMAT"],
    problems: validate::problems,
};

/// The bootstrap configuration of a sidecar. Everything has a default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Who and where this sidecar is.
    pub node: Node,
    /// Worker threads. Left out: the CPU limit of the control group rounded up; without a limit 2.
    #[schemars(range(min = 1, max = 256))]
    pub workers: Option<usize>,
    /// The address of every port in `ports`. Left out: all addresses, IPv6 and IPv4.
    pub bind_address: Option<IpAddr>,
    /// The ports of the sidecar.
    pub ports: Ports,
    /// Which traffic is captured.
    pub capture: Capture,
    /// Listeners for outbound traffic that is not captured: the authority of a request decides where it goes.
    pub listeners: Vec<Listener>,
    /// The application beside this sidecar.
    pub application: Application,
    /// The identity of the workload, in files. Left out, and without `controlPlane.join`: nothing is sent or taken by mTLS.
    pub identity: Option<Identity>,
    /// Files for TLS to endpoints without a sidecar, by the names that policies use.
    pub upstream_tls: Vec<UpstreamTls>,
    /// The policy file. It is watched. The command line's `--policy` comes first.
    pub policy_file: Option<PathBuf>,
    /// The control plane, which gives policy instead of a file.
    pub control_plane: Option<ControlPlane>,
    /// A folder of this sidecar's own, where the last good policy is kept for a start whose policy is missing or bad, and the
    /// identity that it joined with. Left out: such a start has none.
    pub state_directory: Option<PathBuf>,
    /// The most of everything.
    pub limits: Limits,
    /// The longest of everything.
    pub timeouts: Timeouts,
    /// Pooled connections to endpoints.
    pub pool: Pool,
    /// What happens before there is a policy.
    pub startup: Startup,
    /// The admin interface.
    pub admin: Admin,
    /// Logs and traces.
    pub telemetry: Telemetry,
}

impl Config {
    /// Reads the configuration from a file, if there is one, and from `TRAMA_…` variables.
    pub fn load(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Problems> {
        FORM.load(file, variables)
    }

    /// Reads the configuration from a text and from `TRAMA_…` variables.
    pub fn parse(
        source: &str,
        text: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Problems> {
        FORM.parse(source, text, variables)
    }

    /// The number of worker threads.
    pub fn worker_count(&self) -> usize {
        self.workers.unwrap_or_else(cpu::workers)
    }

    /// How the identity is had from the control plane, where it is.
    pub fn join(&self) -> Option<&Join> {
        self.control_plane.as_ref()?.join.as_ref()
    }

    /// Whether the workload has an identity, or is to have one.
    pub fn has_identity(&self) -> bool {
        self.identity.is_some() || self.join().is_some()
    }

    /// The address of every port in `ports`.
    pub fn bind_ip(&self) -> IpAddr {
        self.bind_address.unwrap_or_else(all_addresses)
    }
}

#[cfg(test)]
mod tests;
