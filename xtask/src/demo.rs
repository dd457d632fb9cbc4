//! `cargo xtask demo`: checks what the demo needs, builds it and the sidecar in a profile that is quick to build and
//! quick to serve, and hands the terminal over. The story itself is `tests/src/bin/demo/scenario.rs`.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use crate::error::{Error, Result};
use crate::{process, tools};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Tell the story unattended: one line per check, exit code 1 at a lie
    #[arg(long)]
    once: bool,
    /// Do not capture traffic, not even as root: the client calls its sidecar's explicit listener
    #[arg(long)]
    explicit: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut needs = vec![tools::SETPRIV];
    if tools::is_root() && !args.explicit {
        needs.extend([tools::IP, tools::NFT]);
    }
    if args.once {
        needs.push(tools::CURL);
    }
    tools::ensure(&needs)?;

    eprintln!("building the sidecar and the demo; the first time takes some minutes");
    let began = Instant::now();
    process::loud(&mut process::cargo(&[
        "build",
        "--profile",
        "demo",
        "--package",
        "trama-sidecar",
        "--package",
        "trama-tests",
        "--bin",
        "trama-sidecar",
        "--bin",
        "demo",
    ]))?;
    eprintln!("built in {:.0} s", began.elapsed().as_secs_f64());

    let programs = programs()?;
    let mut command = Command::new(programs.join("demo"));
    command.arg("run").arg("--sidecar").arg(programs.join("trama-sidecar"));
    command.args(args.once.then_some("--once")).args(args.explicit.then_some("--explicit"));
    let status = tools::with_path(&mut command).status();
    let status = status.map_err(|source| Error::Start { command: process::spell(&command), source })?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where cargo puts what it builds in the demo's profile: beside the folder in which it put us.
fn programs() -> Result<PathBuf> {
    let own = std::env::current_exe();
    let own = own.map_err(|source| Error::Start { command: "cargo xtask".to_owned(), source })?;
    let target = own.ancestors().nth(2).unwrap_or_else(|| process::root());
    Ok(target.join("demo"))
}
