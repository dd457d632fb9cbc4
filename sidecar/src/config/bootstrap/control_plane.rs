//! Where the control plane is, who it must be, and how an identity is had from it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trama_proto::{Problem, located::Located, spiffe::SpiffeId};

use super::{
    Config,
    text::{HostPortText, SpiffeIdText},
};

/// The control plane: it gives policy, as a file otherwise does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ControlPlane {
    /// Its address, host and port.
    #[schemars(with = "HostPortText")]
    pub address: String,
    /// PEM file of the authorities that its certificate must come from. It is read again for each connection. With `join`
    /// it is for joining; afterwards those count that came with the identity.
    pub bundle: PathBuf,
    /// The SPIFFE id that its certificate must carry. Left out: `spiffe://<trust domain>/ns/trama-system/sa/trama-control-plane`
    /// in our own trust domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// How the identity of the workload is had from it, in the place of files (`identity`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<Join>,
}

/// An identity from the control plane. Its key is made here and kept in `stateDirectory`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Join {
    /// The SPIFFE id of the workload.
    #[schemars(with = "SpiffeIdText")]
    pub identity: SpiffeId,
    /// The file of the join token that was made for it. It is read when there is no identity, or none any more.
    pub token: PathBuf,
}

/// What contradicts a control plane.
pub(super) fn problems(config: &Config, located: &Located, found: &mut Vec<Problem>) {
    let Some(control_plane) = &config.control_plane else { return };
    if let Some(file) = &config.policy_file {
        let value = format!("\"{}\"", file.display());
        let remedy = "remove one of the two: policy has one source";
        found.push(located.problem("policyFile", value, "excluded by `controlPlane`", remedy));
    }
    match (&config.identity, &control_plane.join) {
        (None, None) => {
            let remedy = "name the files of an identity, or how it joins by `controlPlane.join`: the control plane tells \
                          policy to none without";
            found.push(located.problem("identity", "", "missing with `controlPlane`", remedy));
        }
        (Some(_), Some(_)) => {
            let remedy = "remove one of the two: an identity has one source";
            found.push(located.problem("controlPlane.join", "", "excluded by `identity`", remedy));
        }
        _ => {}
    }
    if control_plane.join.is_some() && config.state_directory.is_none() {
        let remedy = "name a folder of this sidecar's own: its key is kept there, and a join token is good for one key";
        found.push(located.problem("stateDirectory", "", "missing with `controlPlane.join`", remedy));
    }
    let identity = control_plane.identity.as_deref();
    if let Some((text, Err(rule))) = identity.map(|text| (text, SpiffeId::parse(text))) {
        let remedy = "write `spiffe://<trust domain>/ns/<namespace>/sa/<account>`";
        found.push(located.problem("controlPlane.identity", format!("{text:?}"), rule, remedy));
    }
}
