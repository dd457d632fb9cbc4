//! What the policy model can say and this version refuses: found by asking the sidecar about each field.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use trama_proto::document::Document;
use trama_sidecar::config::{
    convert::{self, Local},
    snapshot::state::Registry,
};

use crate::fields::{choices, in_order, reference};

/// Fields as `Kind.spec.list[].field`, values of fields as `Kind.spec.field=VALUE`, kinds as `Kind.kind`.
pub(crate) fn refused(schema: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for kind in schema["oneOf"].as_array().unwrap().iter().filter_map(reference) {
        let mut asked = Asked { schema, kind, found: &mut found };
        asked.about(&mut Vec::new(), &schema["$defs"][kind]);
    }
    found
}

struct Asked<'s, 'f> {
    schema: &'s Value,
    kind: &'s str,
    found: &'f mut BTreeSet<String>,
}

impl<'s> Asked<'s, '_> {
    /// Every field below the schema at the end of `path`; the name of a list ends with `[]`.
    fn about(&mut self, path: &mut Vec<String>, at: &'s Value) {
        for (name, property) in in_order(at) {
            let item = property.get("items");
            let field = resolved(self.schema, item.unwrap_or(property));
            path.push(if item.is_some() { format!("{name}[]") } else { name.clone() });
            let words = choices(field);
            let refused: Vec<_> = words.iter().filter(|word| self.is_refused(path, Some(word))).collect();
            let name = format!("{}.{}", self.kind, path.join(".").trim_end_matches("[]"));
            if words.is_empty() && self.is_refused(path, None)
                || !words.is_empty() && refused.len() == words.len()
            {
                self.found.insert(name);
            } else {
                self.found.extend(refused.iter().map(|word| format!("{name}={word}")));
                self.about(path, field);
            }
            path.pop();
        }
    }

    /// Whether a policy with this field in it is refused for the field's sake.
    fn is_refused(&self, path: &[String], word: Option<&str>) -> bool {
        let text = sample(self.schema, &json!({ "$ref": format!("#/$defs/{}", self.kind) }), path, word);
        let documents = Document::parse("p.yaml", &text.to_string()).unwrap_or_else(|problems| {
            panic!("{text}: {}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        });
        let field = path.join(".").trim_end_matches("[]").replace("[]", "[0]");
        convert::convert(&documents, &Local::default(), &mut Registry::default(), 1).is_err_and(|problems| {
            problems.0.iter().any(|problem| problem.problem == "not supported" && problem.field == field)
        })
    }
}

fn resolved<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    reference(schema).map_or(schema, |name| &root["$defs"][name])
}

/// The smallest value that obeys a schema and has the field at the end of `path`, with the value `word` where that is of
/// several.
fn sample(root: &Value, schema: &Value, path: &[String], word: Option<&str>) -> Value {
    let name = reference(schema).unwrap_or_default();
    let schema = resolved(root, schema);
    if let Some(value) = schema.get("const") {
        return value.clone();
    }
    if let Some(first) = choices(schema).first() {
        return json!(word.unwrap_or(first));
    }
    match schema["type"].as_str() {
        Some("object") => object(root, schema, path, word),
        Some("array") => json!([sample(root, &schema["items"], path, word)]),
        Some("integer") => json!(schema["minimum"].as_u64().unwrap_or(1)),
        Some("number") => json!(schema["minimum"].as_f64().unwrap_or(1.0)),
        Some("boolean") => json!(true),
        _ => json!(text(name)),
    }
}

fn object(root: &Value, schema: &Value, path: &[String], word: Option<&str>) -> Value {
    let mut fields = Map::new();
    let wanted = path.first().map(|name| name.trim_end_matches("[]"));
    let required =
        |name: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|it| it == name));
    for (name, property) in in_order(schema) {
        if wanted == Some(name) {
            fields.insert(name.clone(), sample(root, property, &path[1..], word));
        } else if required(name) || wanted.is_none() && fields.is_empty() && schema["minProperties"] == 1 {
            fields.insert(name.clone(), sample(root, property, &[], None));
        }
    }
    fields.into()
}

/// A text of a named shape.
fn text(shape: &str) -> String {
    match shape {
        "HostPattern" | "DnsName" | "DnsLabel" | "" => "name".to_owned(),
        "IpAddress" => "10.0.0.7".to_owned(),
        "SocketAddress" => "10.0.0.7:15008".to_owned(),
        "SpiffeId" => "spiffe://mesh.local/ns/shop/sa/orders".to_owned(),
        "HeaderName" => "x-name".to_owned(),
        "Method" => "GET".to_owned(),
        "AbsolutePath" => "/".to_owned(),
        "HttpUrl" => "http://collector:4317".to_owned(),
        "Sha256Digest" => format!("sha256:{}", "0".repeat(64)),
        "Duration" => "1s".to_owned(),
        other => panic!("{other} is a new shape: write a text that has it"),
    }
}
