//! `watch`: changes as they happen.

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use tonic::Code;
use trama_proto::{
    admin::v1::{Change, Stamp, WatchEvent, WatchRequest, change},
    document::ResourceId,
    yaml,
};

use super::get;
use crate::{
    arguments::{Global, Namespace},
    client::{Client, Stored},
    connect::Server,
    exit::Exit,
    failure::Failure,
    output::{self, Format, printable},
    reference::{AnyKinds, Kinds},
};

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Of this kind alone; upper case, plural and dashes do not matter.
    #[arg(value_parser = AnyKinds, hide_possible_values = true, default_value = "all")]
    kind: Kinds,
    #[command(flatten)]
    within: Namespace,
    /// Begins with the changes after this revision. Left out: with the next change.
    #[arg(long, value_name = "REVISION")]
    since: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Line {
    revision: u64,
    /// `written` or `deleted`.
    change: &'static str,
    kind: &'static str,
    namespace: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<Value>,
}

impl Watch {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let client = Client::connect(global).await?;
        let after = match self.since {
            Some(revision) => Some(after(revision, client.stamp().await?)?),
            None => None,
        };
        let request = WatchRequest {
            kind: self.kind.filter().to_owned(),
            namespace: self.within.namespace.unwrap_or_default(),
            after,
        };
        let mut events = client.watch(request).await?;
        let mut seen = self.since;
        loop {
            let event = match events.message().await {
                Ok(Some(event)) => event,
                Err(status) if status.code() == Code::OutOfRange => return Err(status.into()),
                ended => return Err(lost(ended.err(), seen, &global.server)),
            };
            seen = event.stamp.map(|stamp| stamp.revision).or(seen);
            for line in lines(event)? {
                output::text(&line.text(global.output)?)?;
            }
        }
    }
}

/// What has not happened yet cannot have been seen.
fn after(revision: u64, now: Stamp) -> Result<Stamp, Failure> {
    if revision > now.revision {
        let last = now.revision;
        return Err(Failure::Usage(format!(
            "--since {revision} is after the last change ({last}); write at most that"
        )));
    }
    Ok(Stamp { revision, ..now })
}

/// Nothing is lost by it, if one knows where to go on.
fn lost(status: Option<tonic::Status>, seen: Option<u64>, server: &Server) -> Failure {
    let why = status.map_or_else(|| "it ended the watch".to_owned(), |status| status.message().to_owned());
    let again = seen.map(|seen| format!("; go on with --since {seen}")).unwrap_or_default();
    Failure::Unreachable { server: server.to_string(), problem: format!("{why}{again}") }
}

fn lines(WatchEvent { stamp, changes }: WatchEvent) -> Result<Vec<Line>, Failure> {
    let revision = stamp.unwrap_or_default().revision;
    let known = changes.into_iter().filter_map(|Change { change }| match change? {
        change::Change::Written(stored) => {
            let stored = Stored::read(stored)?;
            let line =
                |resource| Line::of(revision, "written", ResourceId::of(&stored.resource), Some(resource));
            Some(get::written(&stored).map(line))
        }
        change::Change::Deleted(name) => {
            let id = ResourceId::new(&name.kind, name.namespace, name.name)?;
            Some(Ok(Line::of(revision, "deleted", id, None)))
        }
    });
    known.collect()
}

impl Line {
    fn of(revision: u64, change: &'static str, id: ResourceId, resource: Option<Value>) -> Self {
        let ResourceId { kind, namespace, name } = id;
        Self { revision, change, kind, namespace, name, resource }
    }

    fn text(&self, format: Format) -> Result<String, Failure> {
        let Self { revision, change, kind, namespace, name, .. } = self;
        Ok(match format {
            Format::Table => printable(&format!("{revision} {change} {kind} {namespace}/{name}")) + "\n",
            Format::Json => format!("{}\n", output::json(self)?),
            Format::Yaml => format!("---\n{}", yaml(&output::json(self)?)),
        })
    }
}
