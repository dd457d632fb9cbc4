//! The JSON Schema of the configuration.

use std::sync::LazyLock;

use serde_json::Value;
use trama_proto::settings;

use super::Config;

/// The JSON Schema (2020-12) of the configuration file; `docs/src/reference/config.schema.json` is a copy.
pub fn schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> =
        LazyLock::new(|| settings::schema_of::<Config>("Trama sidecar configuration"));
    &SCHEMA
}
