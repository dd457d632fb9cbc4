use super::*;
use serde_json::json;

fn found(schema: Value, mut value: Value) -> Vec<String> {
    let findings = check(&schema, "", &mut value);
    findings
        .into_iter()
        .map(|found| format!("{}: {}; {}", found.field, found.problem, found.remedy))
        .collect()
}

#[test]
fn an_optional_field_of_a_rust_type_is_checked_like_any_other() {
    let schema = json!({ "properties": {
        "port": { "type": ["integer", "null"], "minimum": 1 },
        "node": { "anyOf": [{ "$ref": "#/$defs/Node" }, { "type": "null" }] },
    }, "type": "object", "$defs": { "Node": {
        "type": "object", "properties": { "name": { "type": "string" } }, "additionalProperties": false,
    } } });
    assert_eq!(found(schema.clone(), json!({ "port": 1, "node": { "name": "a" } })), [""; 0]);
    assert_eq!(
        found(schema, json!({ "port": 0, "node": { "nam": "a" } })),
        [
            "node.nam: unknown field; did you mean `name`? Known: name",
            "port: out of range; write a whole number of at least 1",
        ]
    );
}

#[test]
fn words_may_be_listed_or_described_one_by_one() {
    let schema = json!({ "oneOf": [{ "const": "AUTO", "description": "…" }, { "enum": ["HTTP", "TCP"] }] });
    assert_eq!(found(schema.clone(), json!("TCP")), [""; 0]);
    assert_eq!(
        found(schema.clone(), json!("auto")),
        [": not an allowed value; did you mean `AUTO`? Known: AUTO, HTTP, TCP"]
    );
    assert_eq!(found(schema, json!(1)), [": a number where a word is needed; write one of: AUTO, HTTP, TCP"]);
}

#[test]
fn addresses_are_told_with_their_value() {
    let schema = json!({ "properties": {
        "bindAddress": { "type": ["string", "null"], "format": "ip" },
        "port": { "type": "integer" },
    }, "type": "object" });
    for right in ["0.0.0.0", "::", "fd00::1"] {
        assert_eq!(found(schema.clone(), json!({ "bindAddress": right })), [""; 0]);
    }
    assert_eq!(
        found(schema, json!({ "bindAddress": "nix", "port": "x" })),
        [
            "bindAddress: malformed; write an IP address, such as 0.0.0.0 or ::",
            "port: a string where a whole number is needed; write a whole number",
        ]
    );
}

#[test]
fn durations_become_canonical() {
    let schema = json!({ "$ref": "#/$defs/Duration", "$defs": { "Duration": { "type": "string" } } });
    let mut value = json!("1m250ms");
    assert_eq!(check(&schema, "", &mut value), []);
    assert_eq!(value, json!("60.25s"));
    assert_eq!(found(schema, json!("9999999h")), [": too long to be held; write less than 500 years"]);
}

#[test]
fn a_long_value_is_cut() {
    let shown = shown(&json!("é".repeat(200)));
    assert_eq!(shown.chars().count(), 81);
}

#[test]
fn what_is_wrong_can_be_taken_out_and_the_rest_keeps_its_places() {
    let port = json!({ "type": "object", "required": ["port"], "additionalProperties": false, "properties": {
        "port": { "type": "integer" }, "a/b~c": { "type": "string" },
    } });
    let schema = json!({ "type": "object", "properties": {
        "ports": { "type": "array", "items": port },
        "hosts": { "type": "array", "items": { "type": "string", "pattern": "^[a-z]+$" } },
    } });
    let mut value = json!({
        "ports": [7, { "port": "80", "a/b~c": 1 }, { "port": 81, "prot": 1 }, {}],
        "hosts": ["A", "b"],
    });
    let findings = check(&schema, "", &mut value);
    let left = without(value, &findings);
    assert_eq!(left, json!({ "ports": [{}, {}, { "port": 81 }, {}], "hosts": ["", "b"] }));
    assert_eq!(without(json!(7), &check(&schema, "", &mut json!(7))), Value::Null, "nothing is left of it");
}
