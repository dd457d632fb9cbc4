//! `cargo xtask demo`: checks what the demo needs, builds it and the programs that it starts in a profile that is quick to
//! build and quick to serve, and hands the terminal over. The story itself is `tests/src/bin/demo/scenario.rs`.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Instant;

use crate::error::{Error, Result};
use crate::{process, tools};

/// What is built: of which package, and its name.
const PROGRAMS: [(&str, &str); 4] = [
    ("trama-sidecar", "trama-sidecar"),
    ("trama-control-plane", "trama-control-plane"),
    ("trama-cli", "tramactl"),
    ("trama-tests", "demo"),
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Tell the story unattended: one line per check, exit code 1 at the first lie
    #[arg(long)]
    once: bool,
    /// Do not capture traffic, not even as root: the client calls its sidecar's explicit listener
    #[arg(long)]
    explicit: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut needs = vec![tools::SETPRIV, tools::CURL];
    if tools::is_root() && !args.explicit {
        needs.extend([tools::IP, tools::NFT]);
    }
    tools::ensure(&needs)?;

    eprintln!("building the sidecar, the control plane and the demo; the first time takes some minutes");
    let began = Instant::now();
    let mut arguments = vec!["build", "--profile", "demo"];
    arguments.extend(PROGRAMS.iter().flat_map(|(package, program)| ["--package", package, "--bin", program]));
    process::loud(&mut process::cargo(&arguments))?;
    eprintln!("built in {:.0} s", began.elapsed().as_secs_f64());

    let programs = process::target()?.join("demo");
    let mut command = Command::new(programs.join("demo"));
    command.arg("run").arg("--programs").arg(&programs);
    command.args(args.once.then_some("--once")).args(args.explicit.then_some("--explicit"));
    // In our place: at Ctrl-C the terminal must be the demo's until everything is taken down.
    let source = tools::with_path(&mut command).exec();
    Err(Error::Start { command: process::spell(&command), source })
}
