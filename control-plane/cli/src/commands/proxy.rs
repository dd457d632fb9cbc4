//! `proxy`: the sidecars themselves.

use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};

use crate::{
    arguments::{Global, Namespace},
    client::Client,
    exit::Exit,
    failure::Failure,
    output::Table,
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
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    within: Namespace,
}

impl Proxy {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let Command::List(List { within }) = self.command;
        let known = Client::connect(global).await?.sidecars(within.namespace.as_deref()).await?;
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
