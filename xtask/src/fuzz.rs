//! `cargo xtask fuzz`: builds the fuzz target with the compiler that builds everything else, and runs it for a while.
//!
//! cargo-fuzz wants a nightly compiler, for the address sanitizer; the guard has no unsafe code for it to watch. What
//! guides the fuzzer is coverage, which LLVM counts under any compiler.

use std::fs;
use std::process::ExitCode;

use crate::error::{Error, Result};
use crate::{process, tools};

const MANIFEST: &str = "tests/fuzz/Cargo.toml";
const CORPUS: &str = "tests/fuzz/corpus/guard";
/// Built apart: other flags, another lock file.
const TARGET: &str = "target/fuzz";
/// The flags of cargo-fuzz, without the sanitizer.
const COVERAGE: &str = "--cfg fuzzing -Cdebug-assertions -Ccodegen-units=1 -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table";
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many inputs to try, those of the corpus included
    #[arg(long, default_value_t = 20_000)]
    runs: u32,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    tools::ensure(&[tools::GXX])?;
    // The first folder is where the fuzzer puts what it finds: not into the repository.
    let found = process::root().join(TARGET).join("found");
    fs::create_dir_all(&found).map_err(Error::file("create", &found))?;
    // A named target, or build scripts would be instrumented too.
    let mut fuzz = process::cargo(&["run", "--locked", "--release", "--target", "host-tuple", "--quiet"]);
    fuzz.args(["--manifest-path", MANIFEST, "--target-dir", TARGET, "--bin", "guard", "--"]);
    fuzz.arg(&found).args([CORPUS, "-max_len=2048", "-dict=tests/fuzz/http1.dict"]);
    fuzz.arg(format!("-artifact_prefix={}/", found.display())).arg(format!("-runs={}", args.runs));
    process::loud(fuzz.env("RUSTFLAGS", COVERAGE))?;
    Ok(ExitCode::SUCCESS)
}
