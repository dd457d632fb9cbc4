//! The JSON Schema (2020-12) of a policy document, from the messages, their comments and their rules.

use protox::prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
    ReflectMessage, Value as Reflected,
};
use serde_json::{Map, Value, json};

const API_VERSION: &str = "trama.dev/v1alpha1";

/// Named shapes: the name in `trama.schema.v1.Format`, the name in `$defs`, the words for people, the pattern.
const FORMATS: &[(&str, &str, &str, &str)] = &[
    (
        "DNS_LABEL",
        "DnsLabel",
        "a name of at most 63 lower-case letters, digits and dashes, such as `orders`",
        "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$",
    ),
    (
        "DNS_NAME",
        "DnsName",
        "a DNS name in lower case, such as `orders` or `orders.example.com`",
        "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$",
    ),
    (
        "HOST_PATTERN",
        "HostPattern",
        "a DNS name in lower case whose first label may be `*`, such as `*.example.com`",
        "^(\\*\\.)?[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$",
    ),
    (
        "IP_ADDRESS",
        "IpAddress",
        "an IP address, such as `10.0.0.7` or `fd00::7`",
        "^([0-9]{1,3}(\\.[0-9]{1,3}){3}|[0-9a-fA-F]*:[0-9a-fA-F:]*(\\.[0-9]{1,3}){0,3})$",
    ),
    (
        "SOCKET_ADDRESS",
        "SocketAddress",
        "an IP address with a port, such as `10.0.0.7:15008` or `[fd00::7]:15008`",
        "^([0-9]{1,3}(\\.[0-9]{1,3}){3}|\\[[0-9a-fA-F:.]+\\]):[0-9]{1,5}$",
    ),
    (
        "SPIFFE_ID",
        "SpiffeId",
        "a SPIFFE id, such as `spiffe://mesh.local/ns/shop/sa/orders`",
        "^spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)+$",
    ),
    (
        "HEADER_NAME",
        "HeaderName",
        "a header field's name, such as `x-canary`",
        "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$",
    ),
    ("METHOD", "Method", "an HTTP method, such as `GET`", "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"),
    ("ABSOLUTE_PATH", "AbsolutePath", "a path that starts with a slash, such as `/v1/orders`", "^/"),
    (
        "HTTP_URL",
        "HttpUrl",
        "an address of the form `http://host:port` or `https://host:port`",
        "^https?://[^/?#\\s]+/?$",
    ),
    ("SHA256_DIGEST", "Sha256Digest", "`sha256:` and 64 hexadecimal digits", "^sha256:[0-9a-f]{64}$"),
];

/// The schema of one policy document: any kind of resource with its `apiVersion` and `kind`.
pub(crate) fn policy(pool: &DescriptorPool) -> Result<Value, String> {
    let resource =
        pool.get_message_by_name("trama.policy.v1.Resource").ok_or("trama.policy.v1.Resource is missing")?;
    let mut defs = shared_definitions(pool)?;
    let mut kinds = Vec::new();
    for field in resource.fields() {
        let Kind::Message(message) = field.kind() else {
            return Err(format!("{} is no message", field.name()));
        };
        kinds.push(json!({ "$ref": format!("#/$defs/{}", message.name()) }));
        define(&message, &mut defs)?;
        as_document(message.name(), &mut defs);
    }
    Ok(json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Trama policy document",
        "description": "One document of a policy file.",
        "oneOf": kinds,
        "$defs": defs,
    }))
}

fn shared_definitions(pool: &DescriptorPool) -> Result<Map<String, Value>, String> {
    let formats =
        pool.get_enum_by_name("trama.schema.v1.Format").ok_or("trama.schema.v1.Format is missing")?;
    let mut defs = Map::new();
    for (format, name, title, pattern) in FORMATS {
        let value = formats.get_value_by_name(format).ok_or_else(|| format!("{format} is no format"))?;
        let text = comment(&formats.parent_file(), value.path(), value.full_name())?;
        let schema = json!({ "type": "string", "title": title, "description": text, "pattern": pattern });
        defs.insert((*name).to_owned(), schema);
    }
    defs.insert(
        "Duration".to_owned(),
        json!({
            "type": "string",
            "title": "a length of time with its unit, such as `1.5s`, `250ms` or `1h30m`",
            "description": "Gateway API's GEP-2257, and the JSON form of protobuf's Duration.",
            "pattern": "^([0-9]+(\\.[0-9]{1,9})?(h|ms|m|s))+$",
        }),
    );
    Ok(defs)
}

/// Adds what only a document's outermost level has.
fn as_document(kind: &str, defs: &mut Map<String, Value>) {
    let properties = &mut defs[kind]["properties"];
    properties["apiVersion"] =
        json!({ "const": API_VERSION, "description": "The version of this form of the resource." });
    properties["kind"] = json!({ "const": kind, "description": "The kind of resource." });
    if let Some(required) = defs[kind]["required"].as_array_mut() {
        required.insert(0, json!("kind"));
    }
}

/// Adds the schema of a message, and of all that it refers to, to `defs`.
fn define(message: &MessageDescriptor, defs: &mut Map<String, Value>) -> Result<(), String> {
    if defs.contains_key(message.name()) {
        return Ok(());
    }
    defs.insert(message.name().to_owned(), Value::Null);

    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in message.fields() {
        let rule = rule(&field)?;
        if rule.required {
            required.push(json!(field.json_name()));
        }
        properties.insert(field.json_name().to_owned(), property(&field, &rule, defs)?);
    }
    let mut schema = json!({
        "type": "object",
        "description": comment(&message.parent_file(), message.path(), message.full_name())?,
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = Value::Array(required);
    }
    // A message that is nothing but a oneof is an object with exactly one field.
    if message.oneofs().any(|oneof| !oneof.is_synthetic()) {
        schema["minProperties"] = json!(1);
        schema["maxProperties"] = json!(1);
    }
    defs.insert(message.name().to_owned(), schema);
    Ok(())
}

fn property(field: &FieldDescriptor, rule: &Rule, defs: &mut Map<String, Value>) -> Result<Value, String> {
    let mut schema = if field.is_map() {
        json!({ "type": "object", "additionalProperties": { "type": "string" } })
    } else if field.is_list() {
        json!({ "type": "array", "items": single(field, rule, defs)? })
    } else {
        single(field, rule, defs)?
    };
    if field.is_list() && rule.required {
        schema["minItems"] = json!(1);
    }
    let text = comment(&field.parent_file(), field.path(), field.full_name())?;
    schema["description"] = json!(match field.kind() {
        Kind::Enum(values) => format!("{text}{}", value_comments(&values)?),
        _ => text,
    });
    if !rule.default.is_empty() {
        schema["default"] = serde_json::from_str(&rule.default)
            .map_err(|error| format!("{}: default {:?}: {error}", field.full_name(), rule.default))?;
    }
    Ok(schema)
}

/// The schema of a field's value, or of each item of a repeated field.
fn single(field: &FieldDescriptor, rule: &Rule, defs: &mut Map<String, Value>) -> Result<Value, String> {
    Ok(match field.kind() {
        Kind::String => match rule.format {
            Some(name) => json!({ "$ref": format!("#/$defs/{name}") }),
            None => json!({ "type": "string" }),
        },
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Uint32 => json!({
            "type": "integer",
            "minimum": rule.minimum.unwrap_or(0.0) as u32,
            "maximum": rule.maximum.map_or(u32::MAX, |most| most as u32),
        }),
        Kind::Double => number(rule),
        Kind::Enum(values) => json!({ "type": "string", "enum": allowed_values(&values) }),
        Kind::Message(message) if message.full_name() == "google.protobuf.Duration" => {
            json!({ "$ref": "#/$defs/Duration" })
        }
        Kind::Message(message) if message.full_name() == "google.protobuf.Struct" => {
            json!({ "type": "object" })
        }
        Kind::Message(message) => {
            define(&message, defs)?;
            json!({ "$ref": format!("#/$defs/{}", message.name()) })
        }
        other => return Err(format!("{}: no schema for {other:?} yet", field.full_name())),
    })
}

fn number(rule: &Rule) -> Value {
    let mut schema = json!({ "type": "number" });
    if let Some(least) = rule.minimum {
        schema["minimum"] = json!(least);
    }
    if let Some(most) = rule.maximum {
        schema["maximum"] = json!(most);
    }
    schema
}

fn allowed_values(values: &EnumDescriptor) -> Vec<String> {
    values
        .values()
        .map(|value| value.name().to_owned())
        .filter(|name| !name.ends_with("_UNSPECIFIED"))
        .collect()
}

fn value_comments(values: &EnumDescriptor) -> Result<String, String> {
    let mut text = String::new();
    for value in values.values().filter(|value| !value.name().ends_with("_UNSPECIFIED")) {
        let words = comment(&values.parent_file(), value.path(), value.full_name())?;
        text.push_str(&format!("\n- `{}`: {words}", value.name()));
    }
    Ok(text)
}

/// The comment above a declaration, as one line. Without one the build fails: the comments are the reference
/// that users read.
fn comment(file: &FileDescriptor, path: &[i32], name: &str) -> Result<String, String> {
    let locations = file.file_descriptor_proto().source_code_info.iter().flat_map(|info| &info.location);
    let text = locations
        .filter(|location| location.path == path)
        .map(|location| location.leading_comments().split_whitespace().collect::<Vec<_>>().join(" "))
        .find(|text| !text.is_empty());
    text.ok_or_else(|| format!("{name} has no comment: say what it means, with unit and default"))
}

/// `trama.schema.v1.Rule` of a field.
#[derive(Default)]
struct Rule {
    required: bool,
    format: Option<&'static str>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    default: String,
}

fn rule(field: &FieldDescriptor) -> Result<Rule, String> {
    let pool = field.parent_pool();
    let extension =
        pool.get_extension_by_name("trama.schema.v1.rule").ok_or("trama.schema.v1.rule is missing")?;
    let options = field.options();
    if !options.has_extension(&extension) {
        return Ok(Rule::default());
    }
    let value = options.get_extension(&extension);
    let Some(message) = value.as_message() else { return Ok(Rule::default()) };
    Ok(Rule {
        required: get(message, "required").and_then(|value| value.as_bool()).unwrap_or(false),
        format: format_name(message),
        minimum: get(message, "minimum").and_then(|value| value.as_f64()),
        maximum: get(message, "maximum").and_then(|value| value.as_f64()),
        default: get(message, "default")
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_default(),
    })
}

fn get(message: &DynamicMessage, name: &str) -> Option<Reflected> {
    let field = message.descriptor().get_field_by_name(name)?;
    message.has_field(&field).then(|| message.get_field(&field).into_owned())
}

fn format_name(message: &DynamicMessage) -> Option<&'static str> {
    let number = get(message, "format")?.as_enum_number()?;
    let formats = message.descriptor().parent_pool().get_enum_by_name("trama.schema.v1.Format")?;
    let value = formats.get_value(number)?;
    FORMATS.iter().find(|(name, ..)| *name == value.name()).map(|(_, definition, ..)| *definition)
}
