//! Where the control plane is, and who it must be.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trama_proto::{Problem, located::Located, spiffe::SpiffeId};

use super::{Config, text::HostPortText};

/// The control plane: it gives policy, as a file otherwise does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ControlPlane {
    /// Its address, host and port.
    #[schemars(with = "HostPortText")]
    pub address: String,
    /// PEM file of the authorities that its certificate must come from. It is read again for each connection.
    pub bundle: PathBuf,
    /// The SPIFFE id that its certificate must carry. Left out: `spiffe://<trust domain>/ns/trama-system/sa/trama-control-plane`
    /// in our own trust domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
}

/// What contradicts a control plane.
pub(super) fn problems(config: &Config, located: &Located, found: &mut Vec<Problem>) {
    let Some(control_plane) = &config.control_plane else { return };
    if let Some(file) = &config.policy_file {
        let value = format!("\"{}\"", file.display());
        let remedy = "remove one of the two: policy has one source";
        found.push(located.problem("policyFile", value, "excluded by `controlPlane`", remedy));
    }
    if config.identity.is_none() {
        let remedy = "name the files of an identity: the control plane tells policy to none without";
        found.push(located.problem("identity", "", "missing with `controlPlane`", remedy));
    }
    let identity = control_plane.identity.as_deref();
    if let Some((text, Err(rule))) = identity.map(|text| (text, SpiffeId::parse(text))) {
        let remedy = "write `spiffe://<trust domain>/ns/<namespace>/sa/<account>`";
        found.push(located.problem("controlPlane.identity", format!("{text:?}"), rule, remedy));
    }
}
