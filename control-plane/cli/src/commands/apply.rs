//! `apply`: what the files say is made true, all of it or nothing.

use clap::Args;
use serde::Serialize;
use trama_proto::admin::v1::{
    AppliedResource, ApplyRequest, ApplyResponse, ResourceChange, applied_resource::Outcome,
};

use crate::{
    arguments::Global,
    client::{Client, Stored},
    exit::Exit,
    explain,
    failure::Failure,
    files::{Files, Sources},
    output::printable,
    unchanged::Unchanged,
    wait::{Change, Waiting},
};

#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    unchanged: Unchanged,
    #[command(flatten)]
    waiting: Waiting,
}

impl Apply {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let files = self.sources.read()?;
        let client = Client::connect(global).await?;
        let held = client.look_up(files.ids()).await?;
        self.unchanged.check(files.ids().zip(&held))?;
        let applied = client.apply(request(&files, &held)).await;
        let applied = Applied::of(applied.map_err(|failure| explain::refusal(failure, &files))?);
        let written: Vec<_> = applied.resources.iter().map(|line| (line.resource(), line.revision)).collect();
        let change = Change { revision: applied.revision, written: &written };
        self.waiting.tell(&client, global.output, &applied, applied.table(), change).await
    }
}

/// Each resource is written over what was there a moment ago, and nothing else.
fn request(files: &Files, held: &[Option<Stored>]) -> ApplyRequest {
    let changes = files.resources().zip(held).map(|(resource, held)| ResourceChange {
        resource: Some(resource),
        expected_version: Some(held.as_ref().map_or(0, |held| held.version)),
    });
    ApplyRequest { changes: changes.collect() }
}

/// What became of it.
#[derive(Debug, Serialize)]
struct Applied {
    /// The last change of all.
    revision: u64,
    resources: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    kind: String,
    namespace: String,
    name: String,
    outcome: &'static str,
    /// Its version from now on.
    revision: u64,
}

impl Applied {
    fn of(ApplyResponse { stamp, resources }: ApplyResponse) -> Self {
        Self {
            revision: stamp.unwrap_or_default().revision,
            resources: resources.into_iter().map(Line::of).collect(),
        }
    }

    fn table(&self) -> String {
        let lines = self.resources.iter().map(|line| {
            printable(&format!("{} {} (revision {})", line.resource(), line.outcome, line.revision)) + "\n"
        });
        lines.collect()
    }
}

impl Line {
    fn of(applied: AppliedResource) -> Self {
        let outcome = match applied.outcome() {
            Outcome::Unspecified => "applied",
            Outcome::Created => "created",
            Outcome::Configured => "configured",
            Outcome::Unchanged => "unchanged",
        };
        let name = applied.name.unwrap_or_default();
        let (kind, namespace, name) = (name.kind, name.namespace, name.name);
        Self { kind, namespace, name, outcome, revision: applied.version }
    }

    fn resource(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use trama_proto::document::Document;

    use super::*;

    /// Between the look and the write somebody else may have been there.
    #[test]
    fn each_resource_is_written_over_the_version_that_was_seen_and_no_other() {
        let text = "kind: Telemetry\nmetadata: { name: new }\nspec: {}\n---\nkind: Telemetry\nmetadata: { name: old }\nspec: {}\n";
        let files = Files { documents: Document::parse("test", text).unwrap() };
        let seen = Stored { resource: files.documents[1].resource.clone(), version: 7 };
        let expected = request(&files, &[None, Some(seen)]).changes.into_iter();
        assert_eq!(expected.map(|change| change.expected_version).collect::<Vec<_>>(), [Some(0), Some(7)]);
    }
}
