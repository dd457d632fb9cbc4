//! The text forms of values, in the schema and for serde.

pub(super) use trama_proto::settings::text::{
    DurationText, HttpUrlText, LabelText, SocketAddressText, SpiffeIdText, duration,
};

/// A host name or an address, with a port.
#[derive(schemars::JsonSchema)]
#[schemars(
    rename = "HostPort",
    title = "a host and a port, such as `trama-control-plane.trama-system:15010` or `[fd00::7]:15010`",
    extend("pattern" = r"^([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$")
)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct HostPortText(String);
