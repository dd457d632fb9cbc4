//! The table of values in the chart's README.

use std::fmt::Write;

use trama_tests::charts::folder;
use trama_tests::published::published_part;

use crate::values::entries;

#[test]
fn the_published_readme_has_every_value() {
    published_part(&folder().join("trama/README.md"), "values.yaml", &table());
}

fn table() -> String {
    let mut table = "| Value | Default | What it says |\n|---|---|---|\n".to_owned();
    for entry in entries() {
        let default = entry.default.as_ref().map_or_else(String::new, |default| format!("`{default}`"));
        writeln!(table, "| `{}` | {default} | {} |", entry.path, entry.comment.replace('|', "\\|")).unwrap();
    }
    table
}
