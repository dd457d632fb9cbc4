//! `status`: who has acknowledged what, and who refuses what and why.

use std::fmt::Write;

use clap::Args;

use crate::{
    about::count,
    arguments::{Global, Namespace},
    client::Client,
    exit::Exit,
    failure::Failure,
    output::Table,
    sidecars::{Known, NotUnderstood, Refused, Sidecar},
};

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    within: Namespace,
}

impl Status {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let known = Client::connect(global).await?.sidecars(self.within.namespace.as_deref()).await?;
        global.output.print(&known, table)?;
        Ok(Exit::Done)
    }
}

fn table(known: &Known) -> String {
    let Known { epoch, revision, sidecars } = known;
    let behind = sidecars.iter().filter(|sidecar| sidecar.acknowledged < *revision).count();
    let refusing = sidecars.iter().filter(|sidecar| !sidecar.refusals.is_empty()).count();
    let mut text = format!(
        "revision {revision} (epoch {epoch}): {} connected, {} in sync, {behind} behind, {refusing} with refusals\n",
        count(sidecars.len(), "sidecar"),
        sidecars.iter().filter(|sidecar| sidecar.in_sync).count(),
    );
    if !sidecars.is_empty() {
        let mut table = Table::new(&["SIDECAR", "REGION", "ACKNOWLEDGED", "ANSWERED IN", "STATE"]);
        for sidecar in sidecars {
            let Sidecar { sidecar: name, region, acknowledged, answered_in_micros, .. } = sidecar;
            let answered_in = format!("{:.1} ms", *answered_in_micros as f64 / 1000.0);
            let state = sidecar.state(*revision);
            table.row([name.clone(), region.clone(), acknowledged.to_string(), answered_in, state]);
        }
        let _ = write!(text, "\n{}", table.text());
    }
    let refusals: String = sidecars.iter().flat_map(|sidecar| &sidecar.refusals).map(Refused::line).collect();
    let not_understood = sidecars.iter().flat_map(|sidecar| &sidecar.not_understood);
    let lines = refusals + &not_understood.map(NotUnderstood::line).collect::<String>();
    if !lines.is_empty() {
        let _ = write!(text, "\n{lines}");
    }
    text
}
