//! The schema of the values: written by hand, but for what follows from elsewhere.
//!
//! The program's configuration has the program's own schema, less what the chart decides. Descriptions are the comments of
//! `values.yaml`, and what it has a default for cannot be taken away by `null`.

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use trama_control_plane::config;
use trama_tests::charts::folder;
use trama_tests::published::published;

use crate::values::{Entry, entries};

/// What the chart decides of the configuration, for manifests rely on it.
const OWN: [&str; 7] = [
    "bindAddress",
    "ports",
    "workload",
    "store.path",
    "store.sealingKey",
    "admin.socket",
    "traces.forward.authorities",
];
/// What may be taken away: no limit is a choice too.
const MAY_BE_ABSENT: &str = "controlPlane.resources";
/// What the definitions of the program's schema are called here.
const PREFIX: &str = "config.";

fn path() -> PathBuf {
    folder().join("trama/values.schema.json")
}

#[test]
fn the_published_schema_of_the_values_is_the_present_one() {
    let mut schema: Value = serde_json::from_str(&std::fs::read_to_string(path()).unwrap()).unwrap();
    let definitions = schema["definitions"].as_object_mut().unwrap();
    definitions.retain(|name, _| !name.starts_with(PREFIX));
    definitions.extend(configuration());
    describe(&mut schema, &entries());
    published(&path(), &(serde_json::to_string_pretty(&schema).unwrap() + "\n"));
}

/// The definitions of the program's configuration.
fn configuration() -> Map<String, Value> {
    let program = config::schema();
    let mut definitions = program["$defs"].as_object().unwrap().clone();
    let mut whole = program.clone();
    whole.as_object_mut().unwrap().retain(|key, _| !key.starts_with('$'));
    definitions.insert("Config".to_owned(), whole);
    for own in OWN {
        let (sections, field) = own.rsplit_once('.').unwrap_or(("", own));
        let sections = sections.split('.').filter(|section| !section.is_empty());
        let owner = sections.fold("Config".to_owned(), |owner, section| {
            referred(&definitions[&owner]["properties"][section]).unwrap().to_owned()
        });
        let taken = definitions[&owner]["properties"].as_object_mut().unwrap().remove(field);
        assert!(taken.is_some(), "{own} is no field of the program's configuration");
    }
    let mut found = Map::new();
    collect(&definitions, "Config", &mut found);
    found
}

/// A definition and those that it refers to, under their names here.
fn collect(definitions: &Map<String, Value>, name: &str, found: &mut Map<String, Value>) {
    let key = format!("{PREFIX}{name}");
    if found.contains_key(&key) {
        return;
    }
    let mut schema = definitions[name].clone();
    let mut names = Vec::new();
    rename(&mut schema, &mut names);
    found.insert(key, schema);
    names.iter().for_each(|name| collect(definitions, name, found));
}

fn rename(schema: &mut Value, names: &mut Vec<String>) {
    if let Some(name) = referred(schema).map(str::to_owned) {
        schema["$ref"] = format!("#/definitions/{PREFIX}{name}").into();
        names.push(name);
    }
    match schema {
        Value::Object(fields) => {
            // What the program takes when a field is left out may name what the chart decides.
            fields.retain(|key, value| key != "default" || !value.is_object());
            fields.values_mut().for_each(|schema| rename(schema, names));
        }
        Value::Array(items) => items.iter_mut().for_each(|schema| rename(schema, names)),
        _ => {}
    }
}

fn referred(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix("#/$defs/")
}

/// Gives each value's schema its comment, and each section's what must be there.
fn describe(schema: &mut Value, entries: &[Entry]) {
    for entry in entries {
        let found = schema.pointer_mut(&pointer(&entry.path));
        let found = found.unwrap_or_else(|| panic!("{} is not in the schema", entry.path));
        found["description"] = entry.comment.clone().into();
    }
    let sections = entries.iter().filter(|entry| entry.default.is_none()).map(|entry| entry.path.as_str());
    for section in sections.chain([""]) {
        let inside: Vec<&str> =
            entries.iter().filter(|entry| entry.parent() == section).map(Entry::name).collect();
        let Some(found) = schema.pointer_mut(&pointer(section)).filter(|it| it["properties"].is_object())
        else {
            continue;
        };
        if section.starts_with(MAY_BE_ABSENT) {
            continue;
        }
        for property in found["properties"].as_object().unwrap().keys().filter(|name| *name != "global") {
            assert!(inside.contains(&property.as_str()), "{section}.{property} is not in values.yaml");
        }
        found["required"] = json!(inside);
    }
}

fn pointer(path: &str) -> String {
    path.split('.').filter(|name| !name.is_empty()).map(|name| format!("/properties/{name}")).collect()
}

/// In the program's part too, but for maps of free names.
#[test]
fn the_schema_is_closed_everywhere() {
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path()).unwrap()).unwrap();
    closed("", &schema);
}

fn closed(place: &str, schema: &Value) {
    if schema.get("properties").is_some_and(|properties| !properties["properties"].is_object()) {
        assert_eq!(schema["additionalProperties"], false, "{place} takes what it does not know");
    }
    for (name, inner) in schema.as_object().into_iter().flatten() {
        closed(&format!("{place}/{name}"), inner);
    }
}
