//! Every configuration in the documentation is one that the sidecar would take, and the table of defaults is true.

use serde_json::{Map, Value};
use trama_sidecar::config::bootstrap::{self, Config};

use crate::pages::{self, Block};

/// They are told from policies by their first line.
const MARK: &str = "# sidecar.yaml\n";

fn parsed(block: &Block) -> Config {
    Config::parse(&block.place, &block.text, []).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn every_configuration_is_valid() {
    let blocks = pages::all().into_iter().flat_map(|page| pages::blocks(&page, "yaml"));
    let configurations: Vec<Block> = blocks.filter(|block| block.text.starts_with(MARK)).collect();
    assert!(!configurations.is_empty(), "the blocks must begin with {MARK:?}");
    for configuration in configurations {
        parsed(&configuration);
    }
}

fn reference() -> Vec<Block> {
    let page = pages::all().into_iter().find(|page| page.path.ends_with("reference/config.md")).unwrap();
    pages::blocks(&page, "yaml")
}

#[test]
fn the_reference_shows_every_field_with_its_default() {
    let all = &reference()[0];
    assert_eq!(parsed(all), Config::default());
    // What is equal by default might also be missing: every field must be written.
    let Value::Object(sections) = serde_json::to_value(Config::default()).unwrap() else {
        panic!("a configuration is an object");
    };
    for (section, fields) in sections {
        assert!(shows(&all.text, "", &section), "{section} is missing");
        for field in fields.as_object().into_iter().flatten().map(|(field, _)| field) {
            assert!(shows(&all.text, "  ", field), "{section}.{field} is missing");
        }
    }
}

/// What has no default is shown in a comment.
fn shows(text: &str, indent: &str, field: &str) -> bool {
    ["", "# "].iter().any(|comment| text.contains(&format!("\n{indent}{comment}{field}:")))
}

/// Those of lists and of sections without a default as well.
#[test]
fn the_reference_shows_every_field_of_the_schema() {
    let blocks = reference();
    // `  name: x`, `{ name: x }`, `- name: x` and `# name: x`, but not `hostname: x`.
    let shown = |field: &str| {
        let field = format!(" {field}:");
        blocks.iter().any(|block| format!(" {}", block.text).replace('\n', "\n ").contains(&field))
    };
    let schema = bootstrap::schema();
    let definitions = schema["$defs"].as_object().unwrap().iter();
    let groups = definitions.map(|(name, group)| (name.as_str(), group)).chain([("the file", schema)]);
    for (name, group) in groups {
        for field in group["properties"].as_object().into_iter().flat_map(Map::keys) {
            assert!(shown(field), "{field} of {name} is in no example of the page");
        }
    }
}

/// A block that is neither would be judged by nobody.
#[test]
fn every_yaml_block_is_a_configuration_or_a_policy() {
    for page in pages::all() {
        for block in pages::blocks(&page, "yaml") {
            let known = block.text.starts_with(MARK) || block.text.contains("apiVersion: trama.dev/");
            assert!(known, "{}: begin it with `{}` if it is a configuration", block.place, MARK.trim());
        }
    }
}
