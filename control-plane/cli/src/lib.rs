//! `tramactl`: the control plane from the command line.
//!
//! Each command is a file of `commands`. What it is given as files is read by `files`, what it asks goes through `client` over
//! the one connection that `connect` makes, what it answers is written by `output`, and what goes wrong is a `failure` with
//! an [`Exit`].

// What is asked for.
mod arguments;
mod reference;
mod unchanged;
// The files that a policy is in, and what is said of their lines.
mod explain;
mod files;
// The control plane.
mod client;
mod connect;
mod sidecars;
mod wait;
// What is done.
mod commands;
// What is answered, and how it ends.
mod about;
mod exit;
mod failure;
mod output;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use self::{arguments::Arguments, failure::Failure};

pub use self::exit::Exit;

/// The command line as a tree, from which the reference in the book is made.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Does what the command line says. A command line that is wrong ends the process with [`Exit::Usage`].
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(commands::run(arguments)),
        Err(error) => Err(Failure::Local(format!("a runtime: {error}"))),
    };
    let exit = done.unwrap_or_else(|failure| {
        if let Some(told) = failure.told() {
            eprintln!("{told}");
        }
        failure.exit()
    });
    ExitCode::from(exit.code())
}
