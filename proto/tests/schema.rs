//! The published JSON Schema: it does not drift from the messages, takes the examples, and refuses what the
//! policy file's reader refuses.

use serde_json::{Value, json};
use std::{fs, path::PathBuf};
use trama_proto::{located::Located, schema};

fn published() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/src/reference/policy.schema.json")
}

fn validator() -> jsonschema::Validator {
    jsonschema::draft202012::new(schema()).expect("the schema is one")
}

fn service() -> Value {
    json!({
        "apiVersion": "trama.dev/v1alpha1",
        "kind": "Service",
        "metadata": { "name": "orders" },
        "spec": { "addresses": ["10.0.0.1"], "ports": [{ "port": 80 }] },
    })
}

#[test]
fn the_published_schema_is_the_present_one() {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let text = serde_json::to_string_pretty(schema()).unwrap();
        fs::write(published(), text + "\n").unwrap();
    }
    let text = fs::read_to_string(published()).unwrap_or_default();
    let present: Value = serde_json::from_str(&text).unwrap_or_default();
    assert!(&present == schema(), "{} is out of date: run with UPDATE_GOLDEN=1", published().display());
}

#[test]
fn the_examples_obey_the_schema() {
    let validator = validator();
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files: Vec<_> = fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for document in Located::parse("example", &text).unwrap() {
            let errors: Vec<_> = validator.iter_errors(document.value()).map(|e| e.to_string()).collect();
            assert!(errors.is_empty(), "{}: {errors:?}", file.display());
        }
    }
}

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let validator = validator();
    assert!(validator.is_valid(&service()));
    let negatives = [
        ("/kind", json!("Sevice")),
        ("/metadata/name", json!("Not A Name")),
        ("/metadata/colour", json!("blue")),
        ("/spec/ports", json!([])),
        ("/spec/ports/0/port", json!(0)),
        ("/spec/ports/0/port", json!("80")),
        ("/spec/ports/0/appProtocol", json!("SMTP")),
        ("/spec/addresses/0", json!("orders.example.com")),
        ("/spec/pool", json!({ "maxAge": "5 minutes" })),
        ("/spec/outlier", json!({ "maxEjectionPercent": 101 })),
    ];
    for (pointer, value) in negatives {
        let mut document = service();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match document.pointer_mut(parent).unwrap() {
            Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
            object => object[key] = value,
        }
        assert!(!validator.is_valid(&document), "{document}");
        let text = document.to_string();
        assert!(trama_proto::document::Document::parse("p.yaml", &text).is_err(), "{document}");
    }
}
