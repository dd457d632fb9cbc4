//! The JSON Schema of the configuration.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::Config;

/// The JSON Schema (2020-12) of the configuration file; `docs/src/reference/config.schema.json` is a copy.
pub fn schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
        let generated = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>();
        let mut schema = generated.to_value();
        without_null(&mut schema);
        schema["title"] = json!("Trama sidecar configuration");
        schema
    });
    &SCHEMA
}

/// Takes back that an optional field may be null: what is not there is left out of a file, and a line without a
/// value is more likely a slip.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Object(fields) => {
            if fields.get("default").is_some_and(Value::is_null) {
                fields.remove("default");
            }
            if let Some(Value::Array(types)) = fields.get("type") {
                let present = types.iter().find(|name| *name != "null").cloned();
                fields.insert("type".to_owned(), present.unwrap_or_default());
            }
            if let Some(Value::Array(alternatives)) = fields.remove("anyOf") {
                let present = alternatives.into_iter().find(|one| one["type"] != "null");
                if let Some(Value::Object(present)) = present {
                    fields.extend(present);
                }
            }
            fields.values_mut().for_each(without_null);
        }
        _ => {}
    }
}
