//! `get`: what there is.

use std::fmt::Write;

use clap::Args;
use serde_json::{Value, json};
use trama_proto::{
    document::{self, ResourceId},
    yaml,
};

use crate::{
    about,
    arguments::{Global, Namespace},
    client::{Client, Listed, Stored},
    exit::Exit,
    failure::Failure,
    output::{self, Format, Table},
    reference::{self, AnyKinds, Kinds},
};

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The kind; upper case, plural and dashes do not matter.
    #[arg(value_parser = AnyKinds, hide_possible_values = true)]
    kind: Kinds,
    /// Names, each NAME or NAMESPACE/NAME. A name without a namespace is in `default`.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    within: Namespace,
}

impl Get {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let namespace = self.within.namespace.as_deref();
        if self.names.is_empty() {
            let client = Client::connect(global).await?;
            let Listed { stamp, resources } = client.list(self.kind, namespace).await?;
            match global.output {
                Format::Json => {
                    let items = resources.iter().map(written).collect::<Result<Vec<_>, _>>()?;
                    let value = json!({ "revision": stamp.revision, "items": items });
                    output::text(&format!("{value:#}\n"))?;
                }
                other => print(other, &resources)?,
            }
            return Ok(Exit::Done);
        }
        let Kinds::One(kind) = self.kind else {
            return Err(Failure::Usage(
                "a name needs its kind: write `get KIND NAME` instead of `get all`".to_owned(),
            ));
        };
        let ids = self.names.iter().map(|name| reference::resource(kind, namespace, name));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        let client = Client::connect(global).await?;
        let found = client.look_up(&ids).await?;
        let there: Vec<_> = found.iter().flatten().cloned().collect();
        match (global.output, &there[..]) {
            (_, []) => {}
            (Format::Json, [one]) if ids.len() == 1 => output::text(&format!("{:#}\n", written(one)?))?,
            (Format::Json, many) => {
                let items = many.iter().map(written).collect::<Result<Vec<_>, _>>()?;
                output::text(&format!("{:#}\n", json!({ "items": items })))?;
            }
            (other, many) => print(other, many)?,
        }
        let missing: Vec<_> =
            ids.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(id, _)| id).collect();
        if missing.is_empty() { Ok(Exit::Done) } else { Err(client.missing(missing).await) }
    }
}

fn print(format: Format, resources: &[Stored]) -> Result<(), Failure> {
    match format {
        Format::Yaml => output::text(&documents(resources)?),
        _ => output::text(&table(resources)),
    }
}

/// One document for each, with what has no place in it as a comment.
pub(super) fn documents(resources: &[Stored]) -> Result<String, Failure> {
    let mut text = String::new();
    for stored in resources {
        let separator = if text.is_empty() { "" } else { "---\n" };
        let id = ResourceId::of(&stored.resource);
        let _ = write!(text, "{separator}# {id}, revision {}\n{}", stored.version, yaml(&written(stored)?));
    }
    Ok(text)
}

pub(super) fn written(stored: &Stored) -> Result<Value, Failure> {
    document::written(&stored.resource).map_err(|error| {
        let id = ResourceId::of(&stored.resource);
        Failure::Local(format!("{id} has a value that this version has no word for ({error}); take the version of the control plane"))
    })
}

fn table(resources: &[Stored]) -> String {
    let mut table = Table::new(&["KIND", "NAMESPACE", "NAME", "REVISION", "ABOUT"]);
    for stored in resources {
        let ResourceId { kind, namespace, name } = ResourceId::of(&stored.resource);
        let about = about::about(&stored.resource);
        table.row([kind.to_owned(), namespace, name, stored.version.to_string(), about]);
    }
    table.text()
}
