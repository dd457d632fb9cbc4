//! The JSON Schema of a configuration.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};

/// The JSON Schema (2020-12) of a configuration file that is read into a `T`.
pub fn schema_of<T: JsonSchema>(title: &str) -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value();
    without_null(&mut schema);
    schema["title"] = json!(title);
    schema
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
