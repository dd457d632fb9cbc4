//! `cargo xtask bench`: the CPU time, memory and start of Trama beside Envoy, nginx and haproxy, and its control plane with a
//! fleet of sidecars.
//!
//! On shared machines only a ratio within one run holds, so every row plays its peers in turn, round by round,
//! with the same load and the same backend, and reports medians. Everything runs on loopback, one worker each. The rows
//! of the control plane have no peers: their figures are told against a bound.

mod backend;
mod certificates;
mod control;
mod load;
mod measure;
mod peers;
mod profile;
mod report;
mod row;
mod running;
mod site;

use std::process::ExitCode;

use crate::error::Result;
use crate::tools;
use measure::{Effort, Players};
use site::Site;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// One short round of each row: shows that everything runs, its figures mean nothing
    #[arg(long)]
    quick: bool,
    /// Only these rows, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = row::names())]
    rows: Vec<String>,
    /// Also sample ours with perf, and write where the time goes beside the table
    #[arg(long)]
    profile: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let effort = if args.quick { Effort::QUICK } else { Effort::FULL };
    let effort = Effort { profile: args.profile, ..effort };

    let rows: Vec<_> = row::select(&args.rows).collect();
    let compares = rows.iter().any(|row| row.scene.has_peers());
    let site = if compares { Site::with_peers()? } else { Site::prepare()? };
    if effort.profile {
        tools::ensure(&[tools::PERF])?;
    }
    let players = Players {
        peers: if compares { peers::install()? } else { Vec::new() },
        control: rows.iter().any(|row| !row.scene.has_peers()).then(control::Programs::build).transpose()?,
    };
    let _backend = compares.then(|| backend::start(&site)).transpose()?;

    let mut results = Vec::new();
    for row in rows {
        eprintln!("{}: {} round(s)", row.title, effort.rounds);
        let result = measure::row(row, &players, &site, &effort)?;
        eprint!("{}", report::lines(&result));
        results.push(result);
    }
    report::write(&results, &players, &site, &effort)?;
    Ok(ExitCode::SUCCESS)
}
