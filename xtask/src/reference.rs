//! `cargo xtask reference`: the published schemas and the book's tables of fields, written anew from the code.
//!
//! Tests say when they are out of date; with `UPDATE_GOLDEN` set the same tests write them.

use std::process::ExitCode;

use crate::error::Result;
use crate::process;

/// What the names of those tests begin with.
const TESTS: &str = "the_published_";

pub(crate) fn run() -> Result<ExitCode> {
    let targets = ["test", "--workspace", "--quiet", "--lib", "--test", "schema", "--test", "docs_book"];
    let mut tests = process::cargo(&targets);
    process::loud(tests.args(["--", TESTS]).env("UPDATE_GOLDEN", "1"))?;
    Ok(ExitCode::SUCCESS)
}
