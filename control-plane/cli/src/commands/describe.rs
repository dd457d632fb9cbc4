//! `describe`: one resource, and what each sidecar makes of it.

use std::fmt::Write;

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use trama_proto::yaml;

use super::get;
use crate::{
    arguments::{Global, Namespace},
    client::Client,
    exit::Exit,
    failure::Failure,
    output::{Table, printable},
    reference::{self, OneKind},
    sidecars::{NotUnderstood, Refused, Sidecar},
};

#[derive(Debug, Args)]
pub(crate) struct Describe {
    /// The kind; upper case, plural and dashes do not matter.
    #[arg(value_parser = OneKind, hide_possible_values = true)]
    kind: &'static str,
    /// NAME or NAMESPACE/NAME. A name without a namespace is in `default`.
    name: String,
    #[command(flatten)]
    within: Namespace,
}

/// What a sidecar makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum State {
    Acknowledged,
    /// It knows a part of it.
    Partly,
    Refused,
    Pending,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    /// The revision that wrote it.
    revision: u64,
    sidecars: Vec<Line>,
    refusals: Vec<Refused>,
    not_understood: Vec<NotUnderstood>,
    resource: Value,
    #[serde(skip)]
    title: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    sidecar: String,
    region: String,
    acknowledged: u64,
    state: State,
}

impl Describe {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let id = reference::resource(self.kind, self.within.namespace.as_deref(), &self.name)?;
        let client = Client::connect(global).await?;
        let found = client.look_up([&id]).await?.pop().flatten();
        let Some(stored) = found else { return Err(client.missing([&id]).await) };
        let sidecars = client.sidecars(None).await?.sidecars;
        let title = id.to_string();
        let refusals: Vec<_> =
            sidecars.iter().filter_map(|it| refusal(it, &title, stored.version)).cloned().collect();
        let described = Described {
            revision: stored.version,
            sidecars: sidecars.iter().map(|sidecar| Line::of(sidecar, &title, stored.version)).collect(),
            refusals,
            not_understood: sidecars
                .iter()
                .filter_map(|it| part(it, &title, stored.version))
                .cloned()
                .collect(),
            resource: get::written(&stored)?,
            title,
        };
        global.output.print(&described, Described::table)?;
        Ok(Exit::Done)
    }
}

/// Of this very version.
fn refusal<'a>(sidecar: &'a Sidecar, resource: &str, version: u64) -> Option<&'a Refused> {
    sidecar.refusals.iter().find(|refused| refused.resource == resource && refused.revision == version)
}

fn part<'a>(sidecar: &'a Sidecar, resource: &str, version: u64) -> Option<&'a NotUnderstood> {
    sidecar.not_understood.iter().find(|it| it.resource == resource && it.revision == version)
}

impl Line {
    fn of(sidecar: &Sidecar, resource: &str, version: u64) -> Self {
        let state = if refusal(sidecar, resource, version).is_some() {
            State::Refused
        } else if part(sidecar, resource, version).is_some() {
            State::Partly
        } else if sidecar.acknowledged >= version {
            State::Acknowledged
        } else {
            State::Pending
        };
        let Sidecar { sidecar, region, acknowledged, .. } = sidecar;
        Self { sidecar: sidecar.clone(), region: region.clone(), acknowledged: *acknowledged, state }
    }
}

impl Described {
    fn table(&self) -> String {
        let of = |state| self.sidecars.iter().filter(|line| line.state == state).count();
        let partly = of(State::Partly);
        let mut text = format!("{}\nRevision: {}\n", printable(&self.title), self.revision);
        let _ = writeln!(
            text,
            "Sidecars: {} connected, acknowledged by {}, refused by {}, awaited from {}{}",
            self.sidecars.len(),
            of(State::Acknowledged),
            of(State::Refused),
            of(State::Pending),
            if partly == 0 { String::new() } else { format!(", understood in part by {partly}") },
        );
        text += &self.refusals.iter().map(Refused::line).collect::<String>();
        text += &self.not_understood.iter().map(NotUnderstood::line).collect::<String>();
        if !self.sidecars.is_empty() {
            let mut table = Table::new(&["SIDECAR", "REGION", "ACKNOWLEDGED", "STATE"]);
            for Line { sidecar, region, acknowledged, state } in &self.sidecars {
                let state = format!("{state:?}").to_lowercase();
                table.row([sidecar.clone(), region.clone(), acknowledged.to_string(), state]);
            }
            let _ = write!(text, "\n{}", table.text());
        }
        let _ = write!(text, "\n{}", yaml(&self.resource));
        text
    }
}
