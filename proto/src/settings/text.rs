//! The text forms of values, in the schema and for serde.

/// The schema of a length of time. The reader brings it to protobuf's canonical form.
#[derive(schemars::JsonSchema)]
#[schemars(
    rename = "Duration",
    title = "a length of time with its unit, such as `1.5s`, `250ms` or `1h30m`",
    extend("pattern" = r"^([0-9]+(\.[0-9]{1,9})?(h|ms|m|s))+$")
)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct DurationText(String);

/// The schema of an address with a port.
#[derive(schemars::JsonSchema)]
#[schemars(
    rename = "SocketAddress",
    title = "an IP address with a port, such as `127.0.0.1:8080` or `[::1]:8080`",
    extend("pattern" = r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$")
)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct SocketAddressText(String);

/// The schema of a DNS label.
#[derive(schemars::JsonSchema)]
#[schemars(
    rename = "Label",
    title = "a name of at most 63 lower-case letters, digits and dashes, such as `sao-paulo`",
    extend("pattern" = "^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$")
)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct LabelText(String);

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
