//! `cargo xtask`: the one door for people and for CI.

mod advisories;
mod bench;
mod demo;
mod error;
mod fuzz;
mod process;
mod reference;
mod source;
mod test;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use error::Result;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Trama's one door for people and for CI",
    after_help = "Start with `cargo xtask demo`. Before a commit: `cargo xtask check`, then `cargo xtask test`."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start two regions and a client, send traffic, kill a region, show what happens
    Demo(demo::Args),
    /// Run every test suite, or the named ones; ends with the line `N passed, N failed`
    Test(test::Args),
    /// Run the quick suites that need no build of the tests: format, lints, deny, unused-deps
    Check,
    /// Write the published schemas, the book's tables and the chart's of values anew from the code
    Reference,
    /// Show how large files and functions are, tests left out, and the sidecar's program where it is built
    Sizes,
    /// Measure CPU time, memory and start beside Envoy, nginx and haproxy
    Bench(bench::Args),
    /// Let the fuzzer loose on the HTTP/1 guard for a number of inputs
    Fuzz(fuzz::Args),
    /// Compare the dependencies with the RustSec database (needs the internet)
    Advisories,
}

fn main() -> ExitCode {
    let outcome = run(Cli::parse().command);
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(error.exit_code())
    })
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Demo(args) => demo::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Check => test::run(&test::Args::quick()),
        Command::Reference => reference::run(),
        Command::Sizes => source::report(),
        Command::Bench(args) => bench::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Advisories => advisories::run(),
    }
}
