//! The text forms of values, in the schema and for serde.

/// Gateway API's GEP-2257, or the JSON form of protobuf's Duration.
#[derive(schemars::JsonSchema)]
#[schemars(
    rename = "Duration",
    title = "a length of time with its unit, such as `1.5s`, `250ms` or `1h30m`",
    extend("pattern" = r"^([0-9]+(\.[0-9]{1,9})?(h|ms|m|s))+$")
)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct DurationText(String);

/// An IPv6 address stands in brackets (RFC 3986 section 3.2.2).
#[derive(schemars::JsonSchema)]
#[schemars(
    rename = "SocketAddress",
    title = "an IP address with a port, such as `127.0.0.1:8080` or `[::1]:8080`",
    extend("pattern" = r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$")
)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct SocketAddressText(String);

/// RFC 1123 section 2.1; it may be empty.
#[derive(schemars::JsonSchema)]
#[schemars(
    rename = "Label",
    title = "a name of at most 63 lower-case letters, digits and dashes, such as `sao-paulo`",
    extend("pattern" = "^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$")
)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct LabelText(String);

/// The schema of a SPIFFE id.
#[derive(schemars::JsonSchema)]
#[schemars(
    rename = "SpiffeId",
    title = "a SPIFFE id, such as `spiffe://mesh.local/ns/shop/sa/orders`",
    extend("pattern" = "^spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)+$")
)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct SpiffeIdText(String);

/// Without path, query and user.
#[derive(schemars::JsonSchema)]
#[schemars(
    rename = "HttpUrl",
    title = "an address of the form `http://host:port` or `https://host:port`, without a path: OTLP goes over gRPC, not over HTTP",
    extend("pattern" = r"^https?://[^/?#\s]+/?$")
)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct HttpUrlText(String);

/// Serde's form of a length of time.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes it.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&crate::duration::format(*duration))
    }

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        crate::duration::parse(&text).ok_or_else(|| D::Error::custom("not a length of time"))
    }
}
