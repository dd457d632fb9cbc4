//! What is written of the charts' values: comments, schema, READMEs and the book agree. `cargo xtask reference` writes the
//! parts that follow from others.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod book;
mod readme;
mod schema;
mod values;

use std::path::Path;

/// A file that is written from others: it is what it must be, or is written now.
fn published(path: &Path, present: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, present).unwrap();
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert!(text == present, "{} is out of date: run `cargo xtask reference`", path.display());
}
