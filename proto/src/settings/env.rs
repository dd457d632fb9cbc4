//! Every leaf of a configuration from the environment: `ports.mesh` is `TRAMA_PORTS_MESH`.
//!
//! The names are derived from the schema, so that a new field has its variable at once. A list is written in YAML's
//! flow form (`[80, 443]`).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Problem, did_you_mean, located::Located};

const PREFIX: &str = "TRAMA_";

/// A leaf: its path, and whether it is text.
struct Leaf<'s> {
    path: Vec<&'s str>,
    text: bool,
}

/// Puts the values of variables over those of the file. A `TRAMA_…` variable without meaning is a problem; those in
/// `reserved` are somebody else's.
pub(super) fn overlay(
    located: &mut Located,
    schema: &Value,
    reserved: &[&str],
    variables: impl IntoIterator<Item = (String, String)>,
) -> Vec<Problem> {
    let leaves = leaves(schema);
    let mut problems = Vec::new();
    let ours = variables.into_iter().filter(|(name, _)| name.starts_with(PREFIX));
    for (name, value) in ours.filter(|(name, _)| !reserved.contains(&name.as_str())) {
        match leaves.get(&name) {
            _ if is_service_link(&name, &value) => {}
            Some(leaf) => located.overlay(&leaf.path, typed(&value, leaf.text), &name),
            None => problems.push(unknown(&name, leaves.keys().map(String::as_str))),
        }
    }
    problems
}

/// The variables of a configuration, each with the path of its field.
pub fn variables(schema: &Value) -> BTreeMap<String, String> {
    leaves(schema).into_iter().map(|(name, leaf)| (name, leaf.path.join("."))).collect()
}

fn leaves(schema: &Value) -> BTreeMap<String, Leaf<'_>> {
    let mut leaves = BTreeMap::new();
    collect(schema, schema, &mut Vec::new(), &mut leaves);
    leaves
}

fn collect<'s>(
    root: &'s Value,
    schema: &'s Value,
    path: &mut Vec<&'s str>,
    leaves: &mut BTreeMap<String, Leaf<'s>>,
) {
    let reference = schema["$ref"].as_str().and_then(|reference| root.pointer(reference.strip_prefix('#')?));
    let schema = reference.unwrap_or(schema);
    let Some(properties) = schema["properties"].as_object() else {
        let text =
            schema["type"] == "string" || schema.get("oneOf").is_some() || schema.get("enum").is_some();
        leaves.insert(variable(path), Leaf { path: path.clone(), text });
        return;
    };
    for (name, property) in properties {
        path.push(name);
        collect(root, property, path, leaves);
        path.pop();
    }
}

/// `["ports", "maxAge"]` is `TRAMA_PORTS_MAX_AGE`.
fn variable(path: &[&str]) -> String {
    let mut name = PREFIX.trim_end_matches('_').to_owned();
    for part in path {
        name.push('_');
        for letter in part.chars() {
            if letter.is_ascii_uppercase() {
                name.push('_');
            }
            name.push(letter.to_ascii_uppercase());
        }
    }
    name
}

/// A variable's value as the file would have it. What is not YAML stays text: the check by the schema names it.
fn typed(value: &str, text: bool) -> Value {
    if text {
        return value.into();
    }
    let parsed = Located::parse("", value).ok().and_then(|mut documents| documents.pop());
    parsed.map_or_else(|| value.into(), |document| document.value().clone())
}

/// Kubernetes gives every pod variables for each service of its namespace. Those of a service whose name begins with
/// `trama` would else stop the program.
pub fn is_service_link(name: &str, value: &str) -> bool {
    let by_value = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let by_name = name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT");
    let of_port = ["_TCP", "_UDP", "_SCTP"].iter().any(|end| {
        name.contains("_PORT_")
            && ["", "_PROTO", "_PORT", "_ADDR"].iter().any(|rest| name.ends_with(&[*end, rest].concat()))
    });
    by_value || by_name || of_port
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Problem {
    let remedy = match did_you_mean(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "remove it; every variable is named after a field: `a.bC` is TRAMA_A_B_C".to_owned(),
    };
    Problem::of_source(name, "unknown environment variable", remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_links_of_kubernetes_are_not_ours() {
        for (name, value) in [
            ("TRAMA_SERVICE_HOST", "10.0.0.1"),
            ("TRAMA_SERVICE_PORT_GRPC", "80"),
            ("TRAMA_ADMIN_PORT", "tcp://10.0.0.1:80"),
            ("TRAMA_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("TRAMA_PORT_80_TCP", "x"),
        ] {
            assert!(is_service_link(name, value), "{name}");
        }
    }
}
