//! The command line.
//!
//! Exit codes: 0 well; 1 the configuration or identity is refused (by `--validate` the policy too), or the sidecar could not
//! start; 2 the command
//! line is wrong; 3 the drain's deadline passed and something was cut off. `redirect` has its own, see its help.

mod ask;
mod signals;

use std::{path::PathBuf, process::ExitCode};

use trama_sidecar::{
    app::Starting,
    config::bootstrap::Config,
    drain::Stage,
    redirect::{self, RedirectArgs},
};

pub(crate) use self::ask::{drain, explain};
use self::{
    ask::{DrainArguments, ExplainArguments},
    signals::Signals,
};

const EXIT_CODES: &str = "\
Exit codes:
  0  drained, or valid
  1  configuration or identity refused (by --validate the policy too), or it could not start
  2  wrong options
  3  something was cut off at the drain's deadline or by a second signal
`redirect --help` has its own.";

/// The proxy beside a service: carries its traffic, by the policy, over mutual TLS.
#[derive(Debug, clap::Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) start: Start,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Start {
    /// The bootstrap configuration, YAML. Every leaf can be set by an environment variable too: `ports.mesh` is
    /// TRAMA_PORTS_MESH.
    #[arg(long, env = "TRAMA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The policy, YAML; it is watched. Comes before the configuration's `policyFile`; excluded by its
    /// `controlPlane`.
    #[arg(long, env = "TRAMA_POLICY", value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Checks configuration, policy and identity, says what is wrong, and starts nothing.
    #[arg(long)]
    pub(crate) validate: bool,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Makes, proves or takes back the rules that capture an application's traffic.
    #[command(after_help = redirect::EXIT_CODES)]
    Redirect(RedirectArgs),
    /// Asks a running sidecar to drain.
    Drain(DrainArguments),
    /// Asks a running sidecar why a request would go where it would go: the rules, regions and endpoints that it passes
    /// over, and why. Nothing is sent.
    Explain(ExplainArguments),
}

pub(crate) fn validate(arguments: &Start) -> ExitCode {
    let checked = load(arguments).and_then(|(config, policy)| {
        trama_sidecar::app::validate(&config, policy).map_err(|e| e.to_string())
    });
    match checked {
        Ok(doubts) => {
            doubts.iter().for_each(|doubt| eprintln!("warning: {doubt}"));
            println!("valid");
            ExitCode::SUCCESS
        }
        Err(problem) => failed(&problem),
    }
}

pub(crate) fn run(arguments: &Start) -> ExitCode {
    match try_run(arguments) {
        Ok(code) => code,
        Err(problem) => failed(&problem),
    }
}

fn try_run(arguments: &Start) -> Result<ExitCode, String> {
    let (config, policy) = load(arguments)?;
    let mut signals = Signals::listen().map_err(|error| format!("signals: {error}"))?;
    let starting = Starting::begin(config, policy).map_err(|e| e.to_string())?;
    let telemetry = starting.telemetry();
    let hung_up = move || {
        let done = if telemetry.reopen_log() {
            "the access log's file is opened anew"
        } else {
            "there is no file to open anew"
        };
        tracing::info!("SIGHUP: {done}");
    };
    if signals.wait_or(&hung_up, starting.opened()) != Some(true) {
        tracing::info!("stopped before there was a policy");
        starting.stop();
        return Ok(ExitCode::SUCCESS);
    }
    let app = starting.open().map_err(|e| e.to_string())?;
    signals.wait_or(&hung_up, app.watch().reach(Stage::All));
    tracing::info!("draining; a second signal stops at once");
    let second = std::thread::Builder::new().name("second-signal".into()).spawn(move || {
        signals.wait_or(hung_up, std::future::pending::<()>());
        tracing::warn!("stopped at the second signal");
        std::process::exit(3);
    });
    if let Err(error) = second {
        tracing::warn!(%error, "a second signal will not be heard");
    }
    Ok(if app.stop() { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

pub(crate) fn redirect(arguments: RedirectArgs) -> ExitCode {
    match redirect::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trama-sidecar redirect: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn load(arguments: &Start) -> Result<(Config, Option<PathBuf>), String> {
    let config = Config::load(arguments.config.as_deref(), std::env::vars()).map_err(|e| e.to_string())?;
    let policy = arguments.policy.clone().or_else(|| config.policy_file.clone());
    Ok((config, policy))
}

/// Problems of files are lines that name their file each, so no line has a prefix.
pub(crate) fn failed(problem: &str) -> ExitCode {
    eprintln!("{problem}");
    ExitCode::from(1)
}
