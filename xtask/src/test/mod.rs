//! `cargo xtask test`: named suites, their progress, and one number at the end.

mod libtest;
mod network;
mod report;
mod runner;
mod suites;

use std::process::ExitCode;

use crate::error::{Error, Result};
use crate::{process, tools};

use network::Network;
use report::Progress;
use suites::{SUITES, Step, Suite};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Suites to run; all when none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Show the suites and what each one judges
    #[arg(long)]
    list: bool,
}

impl Args {
    /// What `cargo xtask check` runs.
    pub(crate) fn quick() -> Self {
        let names = ["format", "lints", "deny", "unused-deps"];
        Self { names: names.map(str::to_owned).to_vec(), list: false }
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let suites = select(&args.names)?;
    if args.list {
        let width = suites.iter().map(|suite| suite.name.len()).max().unwrap_or(0);
        suites.iter().for_each(|suite| println!("{:width$}  {}", suite.name, suite.about));
        return Ok(ExitCode::SUCCESS);
    }
    // All of them first: a missing program is better known now than after half an hour.
    for suite in &suites {
        tools::ensure(suite.needs)?;
    }
    let network = network(&suites)?;
    // cargo-deny looks at the crates of every system, where a build fetched those of this one.
    for manifest in ["Cargo.toml", suites::FUZZ] {
        process::loud(&mut process::cargo(&["fetch", "--locked", "--quiet", "--manifest-path", manifest]))?;
    }
    let own = std::env::current_exe();
    let own = own.map_err(|source| Error::Start { command: "cargo xtask".to_owned(), source })?;
    let mut progress = Progress::new(&suites);
    let run = |suite: &&'static Suite| runner::run(suite, &own, network, &mut progress);
    let results = suites.iter().map(run).collect::<Result<Vec<_>>>()?;
    Ok(if report::summary(&results) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the suites' tests have; said aloud, for it decides what they prove.
fn network(suites: &[&Suite]) -> Result<Network> {
    if !suites.iter().any(|suite| suite.steps.iter().any(Step::is_of_tests)) {
        return Ok(Network::Machine);
    }
    if tools::is_root() {
        tools::ensure(&[tools::UNSHARE, tools::IP])?;
    }
    let network = Network::available();
    println!("{}", network.describe());
    Ok(network)
}

/// The named suites in the order of the list, or all of them.
fn select(names: &[String]) -> Result<Vec<&'static Suite>> {
    if let Some(name) = names.iter().find(|name| !SUITES.iter().any(|suite| suite.name == name.as_str())) {
        return Err(unknown(name));
    }
    let wanted = |suite: &&Suite| names.is_empty() || names.iter().any(|name| name == suite.name);
    Ok(SUITES.iter().filter(wanted).collect())
}

fn unknown(name: &str) -> Error {
    let similarity = |suite: &&Suite| (strsim::jaro_winkler(name, suite.name) * 1000.0) as u32;
    let nearest = SUITES.iter().max_by_key(similarity).filter(|suite| similarity(suite) > 700);
    let hint = nearest.map_or_else(String::new, |suite| format!(" (did you mean `{}`?)", suite.name));
    let known = SUITES.iter().map(|suite| suite.name).collect::<Vec<_>>().join(", ");
    Error::UnknownSuite { name: name.to_owned(), hint, known }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_means_all_suites() {
        assert_eq!(select(&[]).unwrap().len(), SUITES.len());
    }

    #[test]
    fn named_suites_run_once_in_the_order_of_the_list() {
        let names = ["unit", "format", "unit"].map(str::to_owned);
        let selected: Vec<&str> = select(&names).unwrap().iter().map(|suite| suite.name).collect();
        assert_eq!(selected, ["format", "unit"]);
    }

    #[test]
    fn an_unknown_name_gets_the_nearest_and_the_list() {
        let error = select(&["mehs".to_owned()]).map(|_| ()).unwrap_err();
        assert_eq!(error.exit_code(), 2, "the code of a wrong command line");
        let message = error.to_string();
        assert!(message.contains("did you mean `mesh`?"), "{message}");
        assert!(message.contains("format, lints"), "{message}");
    }

    #[test]
    fn the_quick_suites_exist() {
        assert_eq!(select(&Args::quick().names).unwrap().len(), 4);
    }
}
