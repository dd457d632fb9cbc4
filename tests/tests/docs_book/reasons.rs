//! The book's table of the reasons of the control plane's statuses is the code's. `cargo xtask reference` writes it anew.

use std::fmt::Write;

use trama_control_plane::reason::Reason;
use trama_tests::published::published_part;

use crate::pages;

#[test]
fn the_published_table_of_reasons_is_the_present_one() {
    let mut table = "| Reason | Code | Meaning |\n|---|---|---|\n".to_owned();
    for reason in Reason::ALL {
        let code = in_capitals(&format!("{:?}", reason.code()));
        writeln!(table, "| `{}` | {code} | {} |", reason.name(), reason.meaning()).unwrap();
    }
    published_part(&pages::book().join("reference/control-plane.md"), "the list of reasons", &table);
}

/// `NotFound` as gRPC writes it.
fn in_capitals(name: &str) -> String {
    let mut written = String::new();
    for (at, letter) in name.chars().enumerate() {
        if at > 0 && letter.is_uppercase() {
            written.push('_');
        }
        written.push(letter.to_ascii_uppercase());
    }
    written
}
