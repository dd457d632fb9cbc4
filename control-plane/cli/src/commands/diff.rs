//! `diff`: what `apply` would change, line by line.

use clap::Args;
use serde::Serialize;
use similar::TextDiff;
use trama_proto::{document, yaml};

use super::get;
use crate::{
    arguments::Global,
    client::{Client, Stored},
    exit::Exit,
    failure::Failure,
    files::Sources,
    output::printable,
};

#[derive(Debug, Args)]
pub(crate) struct Diff {
    #[command(flatten)]
    sources: Sources,
}

#[derive(Debug, Serialize)]
struct Compared {
    resource: String,
    /// As `apply` would tell it: `created`, `configured` or `unchanged`.
    outcome: &'static str,
    /// A unified diff.
    #[serde(skip_serializing_if = "String::is_empty")]
    diff: String,
}

impl Diff {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let files = self.sources.read()?;
        let held = Client::connect(global).await?.look_up(files.ids()).await?;
        let compared = files.documents.iter().zip(&held).map(|(document, held)| {
            let wanted = Stored { resource: document.resource.clone(), version: 0 };
            compare(&document.id, held.as_ref(), &wanted)
        });
        let compared = compared.collect::<Result<Vec<_>, _>>()?;
        global.output.print(&compared, |compared| compared.iter().map(|one| one.diff.as_str()).collect())?;
        let same = compared.iter().all(|one| one.outcome == "unchanged");
        Ok(if same { Exit::Done } else { Exit::Differs })
    }
}

fn compare(id: &document::ResourceId, held: Option<&Stored>, wanted: &Stored) -> Result<Compared, Failure> {
    let outcome = match held {
        None => "created",
        Some(held) if held.resource == wanted.resource => "unchanged",
        Some(_) => "configured",
    };
    let (before, version) = match held {
        Some(held) => (yaml(&get::written(held)?), format!("revision {}", held.version)),
        None => (String::new(), "absent".to_owned()),
    };
    let after = yaml(&get::written(wanted)?);
    let headings = [printable(&format!("{id} ({version})")), printable(&format!("{id} (files)"))];
    let diff = TextDiff::from_lines(&before, &after);
    let diff = diff.unified_diff().context_radius(3).header(&headings[0], &headings[1]).to_string();
    Ok(Compared { resource: id.to_string(), outcome, diff })
}

#[cfg(test)]
mod tests {
    use trama_proto::document::Document;

    use super::*;

    fn stored(port: u16) -> (document::ResourceId, Stored) {
        let text =
            format!("kind: Service\nmetadata: {{ name: orders }}\nspec: {{ ports: [{{ port: {port} }}] }}\n");
        let document = Document::parse("test", &text).unwrap().pop().unwrap();
        (document.id, Stored { resource: document.resource, version: 7 })
    }

    #[test]
    fn a_difference_is_told_with_the_lines_around_it() {
        let (id, before) = stored(80);
        let (_, after) = stored(81);
        let compared = compare(&id, Some(&before), &after).unwrap();
        assert_eq!(compared.outcome, "configured");
        assert_eq!(
            compared.diff,
            "--- Service default/orders (revision 7)\n+++ Service default/orders (files)\n@@ -4,4 +4,4 @@\n   name: orders\n \
             spec:\n   ports:\n-  - port: 80\n+  - port: 81\n"
        );
        let same = compare(&id, Some(&before), &before).unwrap();
        assert_eq!((same.outcome, same.diff.as_str()), ("unchanged", ""));
        let new = compare(&id, None, &after).unwrap();
        assert_eq!(new.outcome, "created");
        assert!(new.diff.starts_with("--- Service default/orders (absent)\n"), "{}", new.diff);
    }
}
