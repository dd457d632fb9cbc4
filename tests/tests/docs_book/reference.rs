//! The tables of fields in the book are those of the schemas. `cargo xtask reference` writes them anew.

use std::{collections::BTreeSet, fmt::Write};

use trama_sidecar::config::bootstrap;
use trama_tests::published;

use crate::{
    fields::{Tables, reference},
    pages,
    refused::refused,
};

const POLICY: &str = "\
# Policy fields

<!-- Written by `cargo xtask reference` from the messages of the policy model. -->

Every field of every kind of resource; [Policy](../policy.md) says what they are for, and how an editor takes the
[JSON Schema](policy.schema.json) that this page is made from. A field without a default has no value when it is left
out. What is wrong is told as [Errors](../policy.md#errors) says.
";

const REFUSED: &str = "
## Refused by this version

The model can say more than this version can keep. A policy with one of these fields or values is refused as
`not supported`, so that none seems to hold that does not. So is a `PluginChain` without a `service`: it would be for
routes that name it.

| Kind | Refused |
|---|---|
";

const CONFIG: &str = "\
# Configuration fields

<!-- Written by `cargo xtask reference` from the types of the configuration. -->

Every field of the sidecar's configuration file; [Configuration](config.md) shows them in a file and tells how an editor
takes the [JSON Schema](config.schema.json) that this page is made from. A field without a default has no value when it
is left out.
";

/// Holds a page of the reference against what it is to be, or writes it anew.
pub(crate) fn published(name: &str, present: &str) {
    published::published(&pages::book().join("reference").join(name), present);
}

fn policy() -> String {
    let schema = trama_proto::schema();
    let refused = refused(schema);
    let mut page = POLICY.to_owned();
    page += REFUSED;
    let kinds: BTreeSet<&str> = refused.iter().filter_map(|it| it.split('.').next()).collect();
    for kind in kinds {
        let fields = refused.iter().filter_map(|it| it.strip_prefix(kind)?.strip_prefix('.'));
        let fields: Vec<_> = fields.map(spelt).collect();
        let _ = writeln!(page, "| `{kind}` | {} |", fields.join(", "));
    }
    let mut tables = Tables::of(schema, &refused);
    for kind in schema["oneOf"].as_array().unwrap().iter().filter_map(reference) {
        tables.add_definition(kind);
    }
    tables.write(&mut page);
    page
}

fn spelt(refused: &str) -> String {
    match refused.split_once('=') {
        Some((field, value)) => format!("`{field}: {value}`"),
        None if refused == "kind" => "the whole kind".to_owned(),
        None => format!("`{refused}`"),
    }
}

#[test]
fn the_published_table_of_policy_fields_is_the_present_one() {
    published("policy-fields.md", &policy());
}

#[test]
fn the_published_table_of_configuration_fields_is_the_present_one() {
    let mut page = CONFIG.to_owned();
    let nothing = BTreeSet::new();
    let mut tables = Tables::of(bootstrap::schema(), &nothing);
    tables.add_whole("The file");
    tables.write(&mut page);
    published("config-fields.md", &page);
}

/// What the tables are made of must be found: an empty list of refused fields would call everything supported.
#[test]
fn what_is_refused_is_found_and_what_is_not_is_left_alone() {
    let refused = refused(trama_proto::schema());
    for field in [
        "PluginChain.spec.filters[].plugin",
        "RegionalPolicy.spec.mode=MANUAL",
        "RegionalPolicy.spec.targets",
        "Route.spec.rules[].retry.conditions",
        "Service.spec.outlier.latencyFactor",
        "Telemetry.spec.accessLog.mode=FAILURES",
    ] {
        assert!(refused.contains(field), "{field} is not among {refused:?}");
    }
    let known =
        |it: &&String| it.starts_with("Route.spec.rules[].timeouts") || it.starts_with("MeshSettings");
    assert_eq!(refused.iter().find(known), None);
}
