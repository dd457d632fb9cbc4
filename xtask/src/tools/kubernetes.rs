//! JSON Schemas of Kubernetes' objects, for kubeconform: made from the OpenAPI description in Kubernetes' own module, so
//! that nothing of it is kept here and no test fetches anything.
//!
//! They are strict: a field that Kubernetes does not know is an error, where an API server would warn, and drop it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

use super::cache;
use super::go::Module;

/// The oldest version that the charts take, and the newest that they were tried with.
const VERSIONS: [Module; 2] = [
    Module {
        path: "k8s.io/kubernetes",
        version: "v1.31.14",
        sum: "h1:UtjLfqvXLuSVDdJ4+NpQCIfFkKkLnAAVmxAEMsnkhjk=",
    },
    Module {
        path: "k8s.io/kubernetes",
        version: "v1.36.4",
        sum: "h1:08GT0ZOMtyCcRnslyvnpWurf1wm20KHbC/aRS+0LxSo=",
    },
];
/// Rises when what is made here changes.
const FORM: u32 = 1;
/// Says what a folder of schemas was made from.
const MARK: &str = "made-from";

pub(super) fn are_there() -> bool {
    folder().is_ok_and(|folder| fs::read_to_string(folder.join(MARK)).is_ok_and(|mark| mark == of()))
}

/// Makes the schemas of all versions. Their folder gets its name when it is whole.
pub(super) fn install() -> Result<()> {
    let folder = folder()?;
    eprintln!("making the schemas of Kubernetes in {} (once)", folder.display());
    let partial = folder.with_extension("partial");
    for old in [&partial, &folder] {
        remove(old)?;
    }
    for version in &VERSIONS {
        // In a module cache of its own: 130 MB of which one file is wanted.
        let modules = partial.join("modules");
        let source = version.fetch(Some(&modules))?.join("api/openapi-spec/swagger.json");
        let text = fs::read(&source).map_err(Error::file("read", &source))?;
        let unreadable = |error: serde_json::Error| Error::Unreadable {
            what: source.display().to_string(),
            text: error.to_string(),
        };
        let openapi: Value = serde_json::from_slice(&text).map_err(unreadable)?;
        let made = partial.join(version.version);
        fs::create_dir_all(&made).map_err(Error::file("create", &made))?;
        for (name, schema) in schemas(&openapi) {
            write(&made.join(name), &schema.to_string())?;
        }
        remove(&modules)?;
    }
    write(&partial.join(MARK), &of())?;
    fs::rename(&partial, &folder).map_err(Error::file("rename", &partial))
}

/// One schema for each kind of object, by the name that kubeconform looks for: `deployment-apps-v1.json`.
fn schemas(openapi: &Value) -> BTreeMap<String, Value> {
    let Some(definitions) = openapi["definitions"].as_object() else { return BTreeMap::new() };
    let objects =
        definitions.iter().filter(|(_, definition)| definition["properties"]["metadata"].is_object());
    let kinds = objects.flat_map(|(name, definition)| {
        let kinds = definition["x-kubernetes-group-version-kind"].as_array().into_iter().flatten();
        kinds.filter_map(move |kind| {
            let part = |part: &str| kind[part].as_str();
            Some((name, part("group")?, part("version")?, part("kind")?))
        })
    });
    kinds
        .map(|(name, group, version, kind)| {
            (file(group, version, kind), object(definitions, name, group, version, kind))
        })
        .collect()
}

fn file(group: &str, version: &str, kind: &str) -> String {
    let group = group.split('.').next().filter(|group| !group.is_empty());
    let parts = [Some(kind), group, Some(version)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("-").to_lowercase() + ".json"
}

/// An object's schema with all that it refers to: some refer to themselves, so they cannot be written out.
fn object(definitions: &Map<String, Value>, name: &str, group: &str, version: &str, kind: &str) -> Value {
    let api = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut found = BTreeMap::new();
    collect(definitions, name, &mut found);
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "allOf": [
            { "$ref": format!("#/definitions/{name}") },
            { "properties": { "apiVersion": { "enum": [api] }, "kind": { "enum": [kind] } }, "required": ["apiVersion", "kind"] },
        ],
        "definitions": found,
    })
}

fn collect(definitions: &Map<String, Value>, name: &str, found: &mut BTreeMap<String, Value>) {
    let Some(definition) = definitions.get(name).filter(|_| !found.contains_key(name)) else { return };
    let strict = match name.rsplit('.').next() {
        // OpenAPI calls them strings, and an API server takes numbers for both.
        Some("IntOrString") => json!({ "type": ["string", "integer"] }),
        Some("Quantity") => json!({ "type": ["string", "number"] }),
        _ => strict(definition),
    };
    found.insert(name.to_owned(), strict.clone());
    for name in references(&strict) {
        collect(definitions, &name, found);
    }
}

/// The schema without what is for readers, and closed to fields that it does not name.
fn strict(schema: &Value) -> Value {
    let Some(fields) = schema.as_object() else { return schema.clone() };
    let mut made = Map::new();
    for (key, value) in
        fields.iter().filter(|(key, _)| *key != "description" && !key.starts_with("x-kubernetes-"))
    {
        let value = match value {
            Value::Object(named) if key == "properties" => {
                Value::Object(named.iter().map(|(name, schema)| (name.clone(), strict(schema))).collect())
            }
            other => strict(other),
        };
        made.insert(key.clone(), value);
    }
    if made.contains_key("properties") && !made.contains_key("additionalProperties") {
        made.insert("additionalProperties".to_owned(), false.into());
    }
    Value::Object(made)
}

fn references(schema: &Value) -> Vec<String> {
    match schema {
        Value::Object(fields) => {
            let own =
                fields.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix("#/definitions/"));
            own.map(str::to_owned).into_iter().chain(fields.values().flat_map(references)).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

fn folder() -> Result<PathBuf> {
    Ok(cache()?.join("tools/kubernetes"))
}

fn of() -> String {
    let versions: Vec<&str> = VERSIONS.iter().map(|module| module.version).collect();
    format!("{FORM} {}\n", versions.join(" "))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::file("write", path))
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("remove", folder)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_objects_schema_is_closed_and_whole() {
        let openapi = json!({ "definitions": {
            "io.api.Thing": {
                "description": "A thing.",
                "properties": {
                    "apiVersion": { "type": "string" },
                    "kind": { "type": "string" },
                    "metadata": { "$ref": "#/definitions/io.Meta" },
                    "description": { "type": "string", "description": "of the thing" },
                    "port": { "$ref": "#/definitions/io.IntOrString" },
                    "labels": { "additionalProperties": { "type": "string" }, "type": "object" },
                },
                "type": "object",
                "x-kubernetes-group-version-kind": [{ "group": "Things.example", "kind": "Thing", "version": "v1" }],
            },
            "io.Meta": { "properties": { "parent": { "$ref": "#/definitions/io.Meta" } }, "type": "object" },
            "io.IntOrString": { "format": "int-or-string", "type": "string" },
            "io.Unused": { "type": "object" },
            "io.Options": {
                "properties": { "dryRun": { "type": "string" } },
                "x-kubernetes-group-version-kind": [{ "group": "", "kind": "Options", "version": "v1" }],
            },
        } });
        let made = schemas(&openapi);
        assert_eq!(made.keys().collect::<Vec<_>>(), ["thing-things-v1.json"]);
        let schema = &made["thing-things-v1.json"];
        assert_eq!(schema["allOf"][1]["properties"]["apiVersion"]["enum"], json!(["Things.example/v1"]));
        let definitions = schema["definitions"].as_object().unwrap();
        assert_eq!(definitions.keys().collect::<Vec<_>>(), ["io.IntOrString", "io.Meta", "io.api.Thing"]);
        let thing = &definitions["io.api.Thing"];
        assert_eq!(thing["additionalProperties"], false);
        // A field may be called what a schema's own word is.
        assert_eq!(thing["properties"]["description"], json!({ "type": "string" }));
        assert_eq!(thing["properties"]["labels"]["additionalProperties"], json!({ "type": "string" }));
        assert_eq!(thing["description"], Value::Null);
        assert_eq!(definitions["io.IntOrString"]["type"], json!(["string", "integer"]));
    }

    #[test]
    fn files_are_named_as_kubeconform_looks_for_them() {
        assert_eq!(file("", "v1", "Service"), "service-v1.json");
        assert_eq!(file("networking.k8s.io", "v1", "NetworkPolicy"), "networkpolicy-networking-v1.json");
    }
}
