//! That nobody has changed what somebody else is about to change.

use clap::Args;
use trama_proto::document::ResourceId;

use crate::{client::Stored, failure::Failure};

// What must not have changed since it was looked at.
#[derive(Debug, Args)]
pub(crate) struct Unchanged {
    /// Only if none of the resources has changed after this revision: the one that `get` showed when they were looked at.
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<u64>,
}

impl Unchanged {
    pub(crate) fn check<'a>(
        &self,
        held: impl IntoIterator<Item = (&'a ResourceId, &'a Option<Stored>)>,
    ) -> Result<(), Failure> {
        let Some(seen) = self.if_revision else { return Ok(()) };
        let newer = held.into_iter().filter_map(|(id, held)| {
            let version = held.as_ref()?.version;
            (version > seen).then(|| format!("{id} was changed at revision {version}, after {seen}"))
        });
        let newer: Vec<_> = newer.collect();
        if newer.is_empty() {
            return Ok(());
        }
        Err(Failure::Changed(format!("{}; nothing is changed: look at it again", newer.join(", "))))
    }
}
