//! The text forms of values, in the schema and for serde.

pub(super) use trama_proto::settings::text::{DurationText, LabelText, SocketAddressText, duration};

/// Without path, query and user. Spans are sent without TLS.
#[derive(schemars::JsonSchema)]
#[schemars(
    rename = "HttpUrl",
    title = "an address of the form `http://host:port`; for a receiver that wants TLS, a collector beside the sidecar",
    extend("pattern" = r"^http://[^/?#\s]+/?$")
)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct HttpUrlText(String);
