//! The tables of the file.

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::fault::Fault;
use crate::store::{Batch, Entry, Stamp, state::State};

/// Key to version and value.
const ENTRIES: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("entries");
/// `epoch`, `revision`, `format`.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The layout of the tables.
const FORMAT: u64 = 1;

/// Everything that is in the file.
pub(super) fn load(read: &ReadTransaction, kept: u64) -> Result<State, Fault> {
    let meta = read.open_table(META)?;
    let number = |name| Ok::<_, Fault>(meta.get(name)?.map_or(0, |number| number.value()));
    if number("format")? != FORMAT {
        return Err(Fault::Format { found: number("format")?, known: FORMAT });
    }
    let stamp = Stamp { epoch: number("epoch")?, revision: number("revision")? };
    let mut entries = Vec::new();
    for found in read.open_table(ENTRIES)?.iter()? {
        let (key, value) = found?;
        let (version, value) = value.value();
        entries.push(Entry { key: key.value().to_owned(), value: value.to_vec().into(), version });
    }
    Ok(State::new(stamp, kept, entries))
}

/// Fills a new file.
pub(super) fn fill(write: &WriteTransaction, stamp: Stamp, entries: &[Entry]) -> Result<(), Fault> {
    let mut table = write.open_table(ENTRIES)?;
    for Entry { key, value, version } in entries {
        table.insert(key.as_str(), (*version, value.as_ref()))?;
    }
    let mut meta = write.open_table(META)?;
    meta.insert("format", FORMAT)?;
    meta.insert("epoch", stamp.epoch)?;
    meta.insert("revision", stamp.revision)?;
    Ok(())
}

/// Writes down what a transaction changes; the caller commits.
pub(super) fn write(write: &WriteTransaction, batch: &Batch) -> Result<(), Fault> {
    let mut table = write.open_table(ENTRIES)?;
    for (key, value) in &batch.changes {
        match value {
            Some(value) => drop(table.insert(key.as_str(), (batch.revision, value.as_ref()))?),
            None => drop(table.remove(key.as_str())?),
        }
    }
    write.open_table(META)?.insert("revision", batch.revision)?;
    Ok(())
}
