//! The table of values in the chart's README.

use std::fmt::Write;

use trama_tests::charts::folder;

use crate::{published, values::entries};

const BEGIN: &str = "<!-- Written by `cargo xtask reference` from values.yaml. -->\n";
const END: &str = "<!-- The end of what is written from values.yaml. -->\n";

#[test]
fn the_published_readme_has_every_value() {
    let path = folder().join("trama/README.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) =
        text.split_once(BEGIN).unwrap_or_else(|| panic!("{} has no line {BEGIN}", path.display()));
    let (_, after) = rest.split_once(END).unwrap_or_else(|| panic!("{} has no line {END}", path.display()));
    published(&path, &format!("{before}{BEGIN}\n{}\n{END}{after}", table()));
}

fn table() -> String {
    let mut table = "| Value | Default | What it says |\n|---|---|---|\n".to_owned();
    for entry in entries() {
        let default = entry.default.as_ref().map_or_else(String::new, |default| format!("`{default}`"));
        writeln!(table, "| `{}` | {default} | {} |", entry.path, entry.comment.replace('|', "\\|")).unwrap();
    }
    table
}
