//! `cargo xtask bench`: the CPU time, memory and start of Trama beside Envoy, nginx and haproxy.
//!
//! On shared machines only a ratio within one run holds, so every row plays its peers in turn, round by round,
//! with the same load and the same backend, and reports medians. Everything runs on loopback, one worker each.

mod backend;
mod certificates;
mod load;
mod measure;
mod peers;
mod report;
mod row;
mod running;
mod site;

use std::process::ExitCode;

use crate::error::Result;
use measure::Effort;
use site::Site;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// One short round of each row: shows that everything runs, its figures mean nothing
    #[arg(long)]
    quick: bool,
    /// Only these rows, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = row::names())]
    rows: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let effort = if args.quick { Effort::QUICK } else { Effort::FULL };

    let site = Site::prepare()?;
    let peers = peers::install()?;
    let _backend = backend::start(&site)?;

    let mut results = Vec::new();
    for row in row::select(&args.rows) {
        eprintln!("{}: {} round(s)", row.title, effort.rounds);
        let result = measure::row(row, &peers, &site, &effort)?;
        eprint!("{}", report::lines(&result));
        results.push(result);
    }
    report::write(&results, &peers, &site, &effort)?;
    Ok(ExitCode::SUCCESS)
}
