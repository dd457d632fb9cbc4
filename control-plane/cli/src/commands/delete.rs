//! `delete`: resources go, all of them or none.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use trama_proto::{
    admin::v1::{DeleteRequest, Deletion},
    document::ResourceId,
};

use crate::{
    arguments::{Global, Namespace},
    client::{self, Client},
    exit::Exit,
    failure::Failure,
    files::Files,
    output::printable,
    reference::{self, OneKind},
    unchanged::Unchanged,
    wait::{Change, Waiting},
};

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The kind; upper case, plural and dashes do not matter.
    #[arg(value_parser = OneKind, hide_possible_values = true, required_unless_present = "files", conflicts_with = "files")]
    kind: Option<&'static str>,
    /// Names, each NAME or NAMESPACE/NAME. A name without a namespace is in `default`.
    #[arg(value_name = "NAME", required_unless_present = "files")]
    names: Vec<String>,
    #[command(flatten)]
    within: Namespace,
    /// What is in these files, folders, or (`-`) on the standard input, as with `apply`. What is written there besides
    /// names does not matter.
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR|-", value_hint = clap::ValueHint::AnyPath)]
    files: Vec<PathBuf>,
    /// It is well if something is not there.
    #[arg(long)]
    ignore_not_found: bool,
    #[command(flatten)]
    unchanged: Unchanged,
    #[command(flatten)]
    waiting: Waiting,
}

impl Delete {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let ids = self.ids()?;
        let client = Client::connect(global).await?;
        let held = client.look_up(&ids).await?;
        self.unchanged.check(ids.iter().zip(&held))?;
        let (mut deletions, mut missing) = (Vec::new(), Vec::new());
        for (id, held) in ids.iter().zip(&held) {
            match held {
                Some(held) => deletions.push((id, held.version)),
                None => missing.push(id),
            }
        }
        if !missing.is_empty() && !self.ignore_not_found {
            return Err(client.missing(missing).await);
        }
        if deletions.is_empty() {
            global.output.print(&Deleted::default(), |_| "nothing to delete\n".to_owned())?;
            return Ok(Exit::Done);
        }
        let asked = deletions
            .iter()
            .map(|(id, version)| Deletion { name: Some(client::name(id)), expected_version: Some(*version) });
        let done = client.delete(DeleteRequest { deletions: asked.collect() }).await?;
        let resources = deletions.iter().map(|(id, _)| id.to_string()).collect();
        let revision = done.stamp.unwrap_or_default().revision;
        let deleted = Deleted { revision: Some(revision), resources };
        let change = Change { revision, written: &[] };
        self.waiting.tell(&client, global.output, &deleted, deleted.table(revision), change).await
    }

    fn ids(&self) -> Result<Vec<ResourceId>, Failure> {
        let Some(kind) = self.kind else {
            return Ok(Files::read(&self.files)?.ids().cloned().collect());
        };
        let namespace = self.within.namespace.as_deref();
        self.names.iter().map(|name| reference::resource(kind, namespace, name)).collect()
    }
}

#[derive(Debug, Default, Serialize)]
struct Deleted {
    /// The change; left out: nothing was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    resources: Vec<String>,
}

impl Deleted {
    fn table(&self, revision: u64) -> String {
        let lines = self.resources.iter();
        lines.map(|name| printable(&format!("{name} deleted (revision {revision})")) + "\n").collect()
    }
}
