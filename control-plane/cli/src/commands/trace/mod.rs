//! `trace`: the requests of which the control plane keeps the spans.

mod list;
mod show;
mod tree;

use std::time::{Duration, UNIX_EPOCH};

use clap::{Args, Subcommand};
use trama_sidecar::telemetry::Timestamp;

use crate::{arguments::Global, exit::Exit, failure::Failure};

#[derive(Debug, Args)]
pub(crate) struct Trace {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows the traces that are kept, the newest first.
    ///
    /// Of several conditions one span must fulfil all. What a line says may change as more spans of its trace come.
    List(list::List),
    /// Shows the spans of a trace as a tree, those of all sidecars that the request passed.
    ///
    /// A span's identity is proved by its sender's certificate; the rest is what that sidecar says, its clock's times too.
    Show(show::Show),
}

impl Trace {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        match self.command {
            Command::List(list) => list.run(global).await,
            Command::Show(show) => show.run(global).await,
        }
    }
}

/// Nanoseconds since 1970, as a date and a time.
fn date(nanos: u64) -> String {
    Timestamp(UNIX_EPOCH + Duration::from_nanos(nanos)).to_string()
}

/// Nanoseconds, for people.
fn millis(nanos: u64) -> String {
    format!("{:.1} ms", nanos as f64 / 1e6)
}
