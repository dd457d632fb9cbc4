//! `trama-sidecar`: the proxy beside a service.

#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod cli;

use std::process::ExitCode;

use clap::Parser;
use trama_sidecar::telemetry::own_log;

use self::cli::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(problem) = own_log::start() {
        return cli::failed(&problem);
    }
    match arguments.command {
        None if arguments.start.validate => cli::validate(&arguments.start),
        None => cli::run(&arguments.start),
        Some(Command::Redirect(redirect)) => cli::redirect(redirect),
        Some(Command::Drain(drain)) => cli::drain(&drain),
        Some(Command::Explain(explain)) => cli::explain(explain),
    }
}
