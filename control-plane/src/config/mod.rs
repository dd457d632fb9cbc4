//! The configuration of the control plane. Parsed once, at the start.
//!
//! It is read as the sidecar's is: from a YAML file and from an environment variable for every leaf; what is wrong is told
//! all at once. `docs/src/reference/control-plane.schema.json` is its JSON Schema, generated from these types.

mod sections;
mod traces;
mod validate;

use std::{net::IpAddr, path::Path, sync::LazyLock};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trama_proto::{
    Problems,
    settings::{Form, all_addresses},
    spiffe::SpiffeId,
};

use self::sections::TrustDomainText;
pub use self::{
    sections::{Admin, Certificates, Limits, Ports, Store, Timeouts, Workload},
    traces::{Forward, TraceWindow, Traces},
};

const FORM: Form<Config> = Form {
    schema,
    reserved: &["TRAMA_CONFIG", "TRAMA_LOG", "TRAMA_LOG_FORMAT"],
    problems: validate::problems,
};

/// The configuration of a control plane. Everything has a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// The trust domain: the first part of every identity of the mesh. It cannot be changed afterwards.
    #[schemars(with = "TrustDomainText")]
    pub trust_domain: String,
    /// The control plane's own identity: sidecars expect it of whoever they connect to.
    pub workload: Workload,
    /// The address of every port in `ports`. Left out: all addresses, IPv6 and IPv4.
    pub bind_address: Option<IpAddr>,
    /// The ports of the control plane.
    pub ports: Ports,
    /// What must outlive the process.
    pub store: Store,
    /// The Admin API.
    pub admin: Admin,
    /// What the certificate authority gives.
    pub certificates: Certificates,
    /// The spans of sidecars.
    pub traces: Traces,
    /// The most of everything.
    pub limits: Limits,
    /// The longest of everything.
    pub timeouts: Timeouts,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            trust_domain: "trama.local".to_owned(),
            workload: Workload::default(),
            bind_address: None,
            ports: Ports::default(),
            store: Store::default(),
            admin: Admin::default(),
            certificates: Certificates::default(),
            traces: Traces::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
        }
    }
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

    /// The control plane's own identity.
    pub fn identity(&self) -> Result<SpiffeId, &'static str> {
        let Workload { namespace, account } = &self.workload;
        SpiffeId::parse(&format!("spiffe://{}/ns/{namespace}/sa/{account}", self.trust_domain))
    }

    /// The address of every port in `ports`.
    pub fn bind_ip(&self) -> IpAddr {
        self.bind_address.unwrap_or_else(all_addresses)
    }
}

/// The JSON Schema (2020-12) of the configuration file; `docs/src/reference/control-plane.schema.json` is a copy.
pub fn schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> =
        LazyLock::new(|| trama_proto::settings::schema_of::<Config>("Trama control plane configuration"));
    &SCHEMA
}

#[cfg(test)]
mod tests;
