//! The JSON Schema of a policy document.

use serde_json::Value;
use std::sync::LazyLock;

/// The JSON Schema (2020-12) of one document of a policy file. It is generated from the messages, their comments
/// and their rules; `docs/src/reference/policy.schema.json` is a copy.
pub fn schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
        let text = include_str!(concat!(env!("OUT_DIR"), "/policy.schema.json"));
        serde_json::from_str(text).expect("the build wrote JSON")
    });
    &SCHEMA
}
