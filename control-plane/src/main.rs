//! `trama-control-plane`: the master of the sidecars.

#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use trama_control_plane::{app::App, config::Config};
use trama_sidecar::telemetry::own_log;

/// The master of the sidecars: keeps the policy, gives it to every sidecar that it concerns, and issues identities.
///
/// Exit codes: 0 well; 1 the configuration is refused, or it could not start; 2 the command line is wrong.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration, YAML. Every leaf can be set by an environment variable too: `ports.sidecars` is
    /// TRAMA_PORTS_SIDECARS.
    #[arg(long, env = "TRAMA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Checks the configuration, says what is wrong, and starts nothing.
    #[arg(long)]
    validate: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match own_log::start().and_then(|()| start(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("trama-control-plane: {problem}");
            ExitCode::from(1)
        }
    }
}

fn start(arguments: &Arguments) -> Result<(), String> {
    let config = Config::load(arguments.config.as_deref(), std::env::vars()).map_err(|e| e.to_string())?;
    if arguments.validate {
        println!("valid");
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("a runtime: {error}"))?;
    runtime.block_on(run(config))
}

async fn run(config: Config) -> Result<(), String> {
    let listen = |kind| signal(kind).map_err(|error| format!("signals: {error}"));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    // Who rotates logs sends it to all; unheard it would end the process.
    let mut hang_up = listen(SignalKind::hangup())?;
    let app = App::start(config).await.map_err(|error| error.to_string())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => tracing::info!("SIGHUP: there is no file to open anew, and the configuration is read at the start"),
        }
    }
    tracing::info!("ending");
    app.stop().await;
    Ok(())
}
