use super::*;
use serde::Deserialize;
use serde_json::json;

#[derive(Debug, PartialEq, Deserialize)]
struct Config {
    port: u16,
    #[serde(default)]
    labels: HashMap<String, String>,
}

fn schema() -> Value {
    json!({
        "type": "object",
        "required": ["port"],
        "properties": {
            "port": { "type": "integer", "maximum": 65535, "description": "The port. Always." },
            "labels": { "type": "object", "additionalProperties": { "type": "string" } },
        },
        "additionalProperties": false,
    })
}

fn one(text: &str) -> Located {
    Located::parse("c.yaml", text).unwrap().remove(0)
}

#[test]
fn a_document_is_read_into_a_type() {
    let config: Config = one("port: 80\nlabels: {a.b/c: d}\n").typed(&schema(), "").unwrap();
    assert_eq!(config, Config { port: 80, labels: HashMap::from([("a.b/c".into(), "d".into())]) });
}

#[test]
fn problems_are_in_the_order_of_the_text() {
    let problems = one("labels:\n  a.b/c: 1\nprot: 80\n").typed::<Config>(&schema(), "").unwrap_err();
    let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "c.yaml:1:1: port: missing; add it: The port",
            "c.yaml:2:10: labels[\"a.b/c\"]: a number where a string is needed, got 1; put it in quotes",
            "c.yaml:3:7: prot: unknown field; did you mean `port`? Known: labels, port",
        ]
    );
}

#[test]
fn what_only_the_type_refuses_has_its_place_too() {
    let problems = one("port: -1\n").typed::<Config>(&schema(), "").unwrap_err();
    assert_eq!((problems[0].field.as_str(), problems[0].position.unwrap().line), ("port", 1));
}

#[test]
fn an_overlaid_value_is_named_by_where_it_came_from() {
    let mut located = one("port: 80\n");
    located.overlay(&["port"], json!(90), "TRAMA_PORT");
    located.overlay(&["labels", "zone"], json!(7), "TRAMA_LABELS_ZONE");
    let problems = located.typed::<Config>(&schema(), "").unwrap_err();
    let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["TRAMA_LABELS_ZONE: labels.zone: a number where a string is needed, got 7; put it in quotes"]
    );
}
