//! Every configuration in the documentation is one that its program would take, and the tables of defaults are true.

use serde_json::{Map, Value};
use trama_control_plane::config as control;
use trama_sidecar::config::bootstrap::{self, Config};

use crate::pages::{self, Block};

/// They are told from policies by their first line, which names the file.
const MARK: &str = "# sidecar.yaml\n";
/// As the first steps call the two sidecars' files.
const FIRST_STEPS: [&str; 2] = ["# orders.yaml\n", "# storefront.yaml\n"];
const CONTROL: &str = "# control-plane.yaml\n";
/// Values of the Helm chart, which the suite `charts` judges.
const VALUES: &str = "# values.yaml\n";

fn parsed(block: &Block) -> Config {
    Config::parse(&block.place, &block.text, []).unwrap_or_else(|problems| panic!("{problems}"))
}

fn parsed_control(block: &Block) -> control::Config {
    control::Config::parse(&block.place, &block.text, []).unwrap_or_else(|problems| panic!("{problems}"))
}

fn marked(mark: &str) -> Vec<Block> {
    let blocks = pages::all().into_iter().flat_map(|page| pages::blocks(&page, "yaml"));
    let marked: Vec<Block> = blocks.filter(|block| block.text.starts_with(mark)).collect();
    assert!(!marked.is_empty(), "the blocks must begin with {mark:?}");
    marked
}

#[test]
fn every_configuration_is_valid() {
    for configuration in [MARK].iter().chain(&FIRST_STEPS).flat_map(|mark| marked(mark)) {
        parsed(&configuration);
    }
    for configuration in marked(CONTROL) {
        parsed_control(&configuration);
    }
}

/// The examples of a page.
fn examples(page: &str) -> Vec<Block> {
    let page = pages::all().into_iter().find(|known| known.path.ends_with(page)).unwrap();
    pages::blocks(&page, "yaml")
}

#[test]
fn the_reference_shows_every_field_with_its_default() {
    let all = &examples("reference/config.md")[0];
    assert_eq!(parsed(all), Config::default());
    shows_every_field(&all.text, &serde_json::to_value(Config::default()).unwrap());
    let all = &examples("reference/control-plane.md")[0];
    assert_eq!(parsed_control(all), control::Config::default());
    shows_every_field(&all.text, &serde_json::to_value(control::Config::default()).unwrap());
}

/// What is equal by default might also be missing: every field must be written.
fn shows_every_field(text: &str, defaults: &Value) {
    for (section, fields) in defaults.as_object().unwrap() {
        assert!(shows(text, "", section), "{section} is missing");
        for field in fields.as_object().into_iter().flatten().map(|(field, _)| field) {
            assert!(shows(text, "  ", field), "{section}.{field} is missing");
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
    let blocks = examples("reference/config.md");
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
            let known =
                [MARK, CONTROL, VALUES].iter().chain(&FIRST_STEPS).any(|mark| block.text.starts_with(mark))
                    || block.text.contains("apiVersion: trama.dev/");
            assert!(known, "{}: begin it with `{}` if it is a configuration", block.place, MARK.trim());
        }
    }
}
