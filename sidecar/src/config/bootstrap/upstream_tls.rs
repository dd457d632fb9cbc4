//! The files of TLS to endpoints without a sidecar.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::LabelText;

/// Authorities, and a client certificate, for TLS to endpoints without a sidecar. The `tls` of a service's port names it.
/// The files are read again when they change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpstreamTls {
    /// The name that policies use, unique.
    #[schemars(with = "LabelText")]
    pub name: String,
    /// PEM file of the authorities that endpoints' certificates must come from. Left out: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<PathBuf>,
    /// PEM file of the client certificate's chain, the certificate itself first. Left out: none is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM file of its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}
