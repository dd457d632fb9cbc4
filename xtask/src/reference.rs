//! `cargo xtask reference`: the published schemas, the book's tables of fields, metrics and reasons and the chart's of values,
//! written anew from the code.
//!
//! Tests say when they are out of date; with `UPDATE_GOLDEN` set the same tests write them.

use std::process::ExitCode;

use crate::error::Result;
use crate::process;

/// Where those tests are, beside the libraries.
const TARGETS: [&str; 3] = ["schema", "docs_book", "charts_reference"];
/// What the names of those tests begin with.
const TESTS: &str = "the_published_";

pub(crate) fn run() -> Result<ExitCode> {
    let mut tests = process::cargo(&["test", "--workspace", "--quiet", "--lib"]);
    for target in TARGETS {
        tests.args(["--test", target]);
    }
    process::loud(tests.args(["--", TESTS]).env("UPDATE_GOLDEN", "1"))?;
    Ok(ExitCode::SUCCESS)
}
