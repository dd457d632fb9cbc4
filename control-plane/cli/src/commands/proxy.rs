//! `proxy`: the sidecars themselves.

mod config;
mod drain;

use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};

use crate::{
    arguments::{Global, Namespace},
    client::Client,
    exit::Exit,
    failure::Failure,
    output::Table,
    reference,
    sidecars::{Known, Sidecar},
};

#[derive(Debug, Args)]
pub(crate) struct Proxy {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows the sidecars that are connected.
    ///
    /// Who they are is proved by their certificates; the rest they say themselves.
    List(List),
    /// Shows what a sidecar holds and what it runs with.
    ///
    /// The sidecar is asked over its stream. As JSON and YAML with all of its configuration and its compiled policy.
    Config(config::Config),
    /// Has a sidecar drain, as SIGTERM would: it asks its callers to go elsewhere, ends what is under way, and then itself.
    Drain(drain::Drain),
}

// Which one.
#[derive(Debug, Args)]
struct Name {
    /// NAME or NAMESPACE/NAME, as `proxy list` shows them. A name without a namespace is in `default`. Where several identities
    /// have a sidecar of this name, NAME@IDENTITY.
    sidecar: String,
    #[command(flatten)]
    within: Namespace,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    within: Namespace,
}

impl Proxy {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        match self.command {
            Command::List(list) => list.run(global).await,
            Command::Config(config) => config.run(global).await,
            Command::Drain(drain) => drain.run(global).await,
        }
    }
}

impl Name {
    fn label(&self) -> Result<String, Failure> {
        reference::sidecar(self.within.namespace.as_deref(), &self.sidecar)
    }
}

impl List {
    async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let known = Client::connect(global).await?.sidecars(self.within.namespace.as_deref()).await?;
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        global.output.print(&known, |known| table(known, now))?;
        Ok(Exit::Done)
    }
}

/// `now` is the time since 1970.
fn table(Known { revision, sidecars, .. }: &Known, now: Duration) -> String {
    let headings = ["SIDECAR", "IDENTITY", "REGION", "ZONE", "VERSION", "CONNECTED", "ACKNOWLEDGED", "STATE"];
    let mut table = Table::new(&headings);
    for it in sidecars {
        let Sidecar { sidecar, identity, region, zone, version, acknowledged, .. } = it;
        let connected = age(now.saturating_sub(Duration::from_millis(it.connected_at_millis)));
        let words = [sidecar, identity, region, zone, version].map(Clone::clone);
        table.row(words.into_iter().chain([connected, acknowledged.to_string(), it.state(*revision)]));
    }
    table.text()
}

/// With the two largest units.
fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_two_units() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (61, "1m1s"), (3_725, "1h2m"), (90_000, "1d1h")] {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }
}
