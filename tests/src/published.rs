//! Files that are written from the code: they are what they must be, or are written now (`cargo xtask reference`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a harness makes its test fail by panicking")]

use std::fs;
use std::path::Path;

/// Holds a file against what it is to be.
pub fn published(path: &Path, present: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, present).unwrap();
    }
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(text == present, "{} is out of date: run `cargo xtask reference`", path.display());
}

/// The same with a part of a file. It stands between the lines that say what it is written from.
pub fn published_part(path: &Path, source: &str, present: &str) {
    let begin = format!("<!-- Written by `cargo xtask reference` from {source}. -->\n");
    let end = format!("<!-- The end of what is written from {source}. -->\n");
    let text = fs::read_to_string(path).unwrap();
    let parts = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) =
        parts.unwrap_or_else(|| panic!("{} has not the lines\n{begin}{end}", path.display()));
    published(path, &format!("{before}{begin}\n{present}\n{end}{after}"));
}
