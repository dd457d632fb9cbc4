//! The demo: service `orders` in two regions, its client `storefront`, a sidecar beside each, a control plane for all, and
//! what of it dies. Started by `cargo xtask demo`, which builds it and the programs that it starts.
//!
//! [`scenario`] is the story; read that one first. The application and the client are modes of the same program, in
//! processes of their own.

mod application;
mod checks;
mod control;
mod control_acts;
mod failure;
mod fetch;
mod files;
mod ledger;
mod load;
mod mesh;
mod process;
mod scenario;
mod stage;
mod view;
mod waiting;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use failure::{Failure, Result};
use scenario::Pace;
use stage::{Interrupts, Stage};
use world::Place;

#[derive(Parser)]
#[command(name = "demo", about = "Two regions, a client, and a region that dies")]
enum Mode {
    /// Tell the story
    Run(Run),
    /// Be the service `orders`
    Application(application::Args),
    /// Be the client `storefront`
    Load(load::Args),
    /// Ask for one page and print the answer
    Fetch(fetch::Args),
}

#[derive(clap::Args)]
struct Run {
    /// The folder with the programs trama-sidecar, trama-control-plane and tramactl
    #[arg(long)]
    programs: PathBuf,
    /// Unattended: one line per check, exit code 1 at the first lie
    #[arg(long)]
    once: bool,
    /// Use loopback addresses and explicit listeners even where namespaces could be made
    #[arg(long)]
    explicit: bool,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(Failure::on("start", "the runtime")).and_then(|runtime| {
        runtime.block_on(async {
            match Mode::parse() {
                Mode::Run(args) => run(args).await,
                Mode::Application(args) => application::run(args).await.map(|()| true),
                Mode::Load(args) => load::run(args).await.map(|()| true),
                Mode::Fetch(args) => fetch::run(args).await.map(|()| true),
            }
        })
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// True if every check held.
async fn run(args: Run) -> Result<bool> {
    let began = Instant::now();
    let place = if args.explicit { Place::Loopback } else { Place::here() };
    println!("{}", place.describe());
    let mut interrupts = Interrupts::listen()?;
    let mut stage = Stage::new(Interrupts::listen()?, args.once, began);
    let mut mesh = tokio::select! {
        opened = scenario::open(&mut stage, place, &args.programs) => opened?,
        () = interrupts.any() => return Err(Failure("interrupted while the sidecars started".to_owned())),
    };
    let pace = if args.once { Pace::ONCE } else { Pace::LIVE };
    let told = scenario::tell(&mut stage, &mut mesh, &pace).await;
    let interrupted = stage.was_interrupted();
    let held = stage.close();
    match told {
        // Whoever watches may leave when they have seen enough.
        Err(_) if interrupted && !args.once => println!("ended before the story was told"),
        told => told?,
    }
    Ok(held)
}
