//! Waiting for the sidecars: until each has acknowledged a change, or time is over.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::{
    about::count,
    arguments::length_of_time,
    client::Client,
    exit::Exit,
    failure::Failure,
    output::{self, Format},
    sidecars::{NotUnderstood, Refused, Sidecar},
};

/// Until the sidecars are looked at again.
const AGAIN: Duration = Duration::from_millis(50);

// Whether to wait.
#[derive(Debug, Args)]
pub(crate) struct Waiting {
    /// Waits until every sidecar that is connected has acknowledged the change, and tells who refuses it: for 30s, or for
    /// TIME (`--wait=2m`).
    #[arg(
        long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "30s",
        value_parser = length_of_time
    )]
    wait: Option<Duration>,
}

/// What the sidecars made of a change.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answers {
    connected: usize,
    acknowledged: usize,
    /// Who has not said anything yet, `namespace/name`.
    behind: Vec<String>,
    refusals: Vec<Refused>,
    not_understood: Vec<NotUnderstood>,
}

/// What was done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change<'a> {
    /// The change.
    pub(crate) revision: u64,
    /// The resources that it made what they are, such as `Route shop/orders`, each with its version.
    pub(crate) written: &'a [(String, u64)],
}

/// What was done, and what the sidecars made of it where they were waited for.
#[derive(Serialize)]
struct Told<'a, T> {
    #[serde(flatten)]
    done: &'a T,
    #[serde(skip_serializing_if = "Option::is_none")]
    sidecars: Option<Answers>,
}

impl Waiting {
    /// Tells what was done, to people at once (`table`), and what the sidecars make of it.
    pub(crate) async fn tell<T: Serialize>(
        &self,
        client: &Client,
        output: Format,
        done: &T,
        table: String,
        change: Change<'_>,
    ) -> Result<Exit, Failure> {
        if output == Format::Table {
            output::text(&table)?;
        }
        // It is done, whatever becomes of the waiting.
        let (sidecars, lost) = match self.answers(client, change).await {
            Ok(answers) => (answers, None),
            Err(failure) => (None, Some(failure)),
        };
        let exit = sidecars.as_ref().map_or(Exit::Done, Answers::exit);
        let told = Told { done, sidecars };
        output.print(&told, |told| told.sidecars.as_ref().map_or_else(String::new, Answers::table))?;
        lost.map_or(Ok(exit), Err)
    }

    /// `None`: nobody asked.
    async fn answers(&self, client: &Client, change: Change<'_>) -> Result<Option<Answers>, Failure> {
        let Some(patience) = self.wait else { return Ok(None) };
        let deadline = Instant::now() + patience;
        loop {
            let answers = Answers::of(&client.sidecars(None).await?.sidecars, change);
            if answers.behind.is_empty() || Instant::now() >= deadline {
                return Ok(Some(answers));
            }
            sleep(AGAIN).await;
        }
    }
}

impl Answers {
    fn of(sidecars: &[Sidecar], Change { revision, written }: Change<'_>) -> Self {
        let behind = sidecars.iter().filter(|sidecar| sidecar.acknowledged < revision);
        let behind: Vec<_> = behind.map(|sidecar| sidecar.sidecar.clone()).collect();
        let ours = |resource: &str, revision: u64| {
            written.iter().any(|(written, version)| written == resource && *version == revision)
        };
        let refusals = sidecars.iter().flat_map(|sidecar| &sidecar.refusals);
        let refusals = refusals.filter(|refused| ours(&refused.resource, refused.revision)).cloned();
        let not_understood = sidecars.iter().flat_map(|sidecar| &sidecar.not_understood);
        let not_understood = not_understood.filter(|it| ours(&it.resource, it.revision)).cloned();
        Self {
            connected: sidecars.len(),
            acknowledged: sidecars.len() - behind.len(),
            behind,
            refusals: refusals.collect(),
            not_understood: not_understood.collect(),
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        // What is not understood is not in force as it was written, no more than what is refused.
        if !self.refusals.is_empty() || !self.not_understood.is_empty() {
            Exit::Nacked
        } else if !self.behind.is_empty() {
            Exit::Pending
        } else {
            Exit::Done
        }
    }

    pub(crate) fn table(&self) -> String {
        let Self { connected, acknowledged, behind, refusals, not_understood } = self;
        let mut text: String = refusals.iter().map(Refused::line).collect();
        text.extend(not_understood.iter().map(NotUnderstood::line));
        text += &match connected {
            0 => "no sidecar is connected: nobody to wait for".to_owned(),
            _ => format!("acknowledged by {acknowledged} of {}", count(*connected, "sidecar")),
        };
        if !behind.is_empty() {
            text += &format!("; not yet by {}", behind.join(", "));
        }
        text + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sidecar(name: &str, acknowledged: u64, refused: &[(&str, u64)]) -> Sidecar {
        let refusals = refused.iter().map(|(resource, revision)| Refused {
            sidecar: name.to_owned(),
            resource: (*resource).to_owned(),
            revision: *revision,
            field: "spec".to_owned(),
            problem: "no good".to_owned(),
        });
        Sidecar {
            sidecar: name.to_owned(),
            identity: String::new(),
            region: String::new(),
            zone: String::new(),
            version: String::new(),
            connected_at_millis: 0,
            acknowledged,
            answered_in_micros: 0,
            in_sync: true,
            refusals: refusals.collect(),
            not_understood: Vec::new(),
            services: Vec::new(),
        }
    }

    #[test]
    fn what_is_refused_counts_before_what_is_awaited() {
        let written = [("Route shop/orders".to_owned(), 7)];
        let answers = |sidecars: &[Sidecar]| Answers::of(sidecars, Change { revision: 7, written: &written });
        let nobody = answers(&[]);
        assert_eq!((nobody.exit(), nobody.table().contains("nobody to wait for")), (Exit::Done, true));
        assert_eq!(answers(&[sidecar("a", 7, &[]), sidecar("b", 9, &[])]).exit(), Exit::Done);
        let late = answers(&[sidecar("a", 7, &[]), sidecar("b", 6, &[])]);
        assert_eq!(
            (late.exit(), late.table().as_str()),
            (Exit::Pending, "acknowledged by 1 of 2 sidecars; not yet by b\n")
        );
        let refused = answers(&[sidecar("a", 7, &[("Route shop/orders", 7)]), sidecar("b", 6, &[])]);
        assert_eq!((refused.exit(), refused.refusals.len()), (Exit::Nacked, 1));
        let (sidecar_name, resource) = ("a".to_owned(), "Route shop/orders".to_owned());
        let lacks = NotUnderstood { sidecar: sidecar_name, resource, revision: 7 };
        let earlier = answers(&[Sidecar { not_understood: vec![lacks], ..sidecar("a", 7, &[]) }]);
        assert_eq!(earlier.exit(), Exit::Nacked);
        assert!(
            earlier.table().starts_with("a does not understand all of Route shop/orders"),
            "{}",
            earlier.table()
        );
    }

    /// Else one old quarrel would make every later change seem refused.
    #[test]
    fn what_was_refused_before_is_not_of_this_change() {
        let written = [("Route shop/orders".to_owned(), 7)];
        let old = [("Route shop/orders", 6), ("Route shop/prices", 7)];
        let answers = Answers::of(&[sidecar("a", 7, &old)], Change { revision: 7, written: &written });
        assert_eq!(answers.exit(), Exit::Done);
    }
}
