//! The last good policy on disk, for a start whose source is gone or bad.
//!
//! Two slots are written in turn, so that whatever becomes of a write, the one before it is still there. A slot is
//! written beside its place and renamed into it. Each carries a checksum over all of it: what a crash, a full disk or a
//! failing one has torn is told from what is whole, and never read as a policy.
//!
//! A slot, integers in big endian: magic (8 bytes), sequence, revision's number and digest, length of the content
//! (8 each), the content, checksum (8). What the content is, its writer knows: the text of a file, a message.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::config::{fnv1a, snapshot::Revision};

const SLOTS: [&str; 2] = ["policy.0", "policy.1"];
const BEING_WRITTEN: &str = "policy.next";
const MAGIC: &[u8; 8] = b"TRAMALG1";
const HEAD: usize = 8 + 4 * 8;
const CHECKSUM: usize = 8;

/// A policy as it was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its revision then.
    pub revision: Revision,
    /// Its content, as its source gave it.
    pub content: Vec<u8>,
}

/// The slots in a folder. Nobody else may write there.
#[derive(Debug)]
pub struct LastGood {
    folder: PathBuf,
    /// The slot that may be overwritten: not the newest good one.
    free: usize,
    sequence: u64,
}

/// A slot that is there and cannot be used. The policy in it, if there was one, is lost.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}; it is left aside and will be overwritten", path.display())]
pub struct Torn {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

impl LastGood {
    /// Reads what is kept: the newest good policy, and the slots that cannot be used. A folder that is not there is
    /// empty.
    pub fn open(folder: PathBuf) -> (Self, Option<Kept>, Vec<Torn>) {
        let mut newest: Option<(usize, Slot)> = None;
        let mut torn = Vec::new();
        for (index, name) in SLOTS.iter().enumerate() {
            let path = folder.join(name);
            match read(&path) {
                Ok(Some(slot)) if newest.as_ref().is_none_or(|(_, best)| slot.sequence > best.sequence) => {
                    newest = Some((index, slot));
                }
                Ok(_) => {}
                Err(problem) => torn.push(Torn { path, problem }),
            }
        }
        let (free, sequence, kept) = match newest {
            Some((index, slot)) => (1 - index, slot.sequence, Some(slot.kept)),
            None => (0, 0, None),
        };
        (Self { folder, free, sequence }, kept, torn)
    }

    /// Keeps a policy. After an error the one before it is still kept.
    pub fn save(&mut self, kept: &Kept) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let next = self.folder.join(BEING_WRITTEN);
        // Policies match on headers, and headers hold secrets. The mode counts only for a file that is new.
        remove_if_there(&next)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
        file.write_all(&encode(self.sequence + 1, kept))?;
        file.sync_all()?;
        fs::rename(&next, self.folder.join(SLOTS[self.free]))?;
        self.sequence += 1;
        self.free = 1 - self.free;
        // Else the rename may come after a crash of the machine, or not at all.
        File::open(&self.folder)?.sync_all()
    }
}

struct Slot {
    sequence: u64,
    kept: Kept,
}

fn read(path: &Path) -> Result<Option<Slot>, String> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => decode(&bytes).map(Some).map_err(str::to_owned),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

fn encode(sequence: u64, kept: &Kept) -> Vec<u8> {
    let Kept { revision, content } = kept;
    let mut bytes = Vec::with_capacity(HEAD + content.len() + CHECKSUM);
    bytes.extend_from_slice(MAGIC);
    for number in [sequence, revision.number, revision.digest, content.len() as u64] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(content);
    bytes.extend_from_slice(&fnv1a(bytes.iter().copied()).to_be_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Result<Slot, &'static str> {
    let (head, _) = bytes.split_first_chunk::<HEAD>().ok_or("shorter than its head")?;
    let (checked, checksum) = bytes.split_last_chunk::<CHECKSUM>().ok_or("shorter than its head")?;
    if !head.starts_with(MAGIC) {
        return Err("not a kept policy, or one of another version");
    }
    let number = |at: usize| head[8 + at * 8..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let content = checked.get(HEAD..).ok_or("shorter than its head")?;
    if number(3) != content.len() as u64 {
        return Err("torn: it has another length than its head says");
    }
    if fnv1a(checked.iter().copied()) != u64::from_be_bytes(*checksum) {
        return Err("torn: its checksum is wrong");
    }
    let revision = Revision { number: number(1), digest: number(2) };
    Ok(Slot { sequence: number(0), kept: Kept { revision, content: content.to_vec() } })
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    fn policy(number: u64) -> Kept {
        let content = format!("# {number}\n{}", "kind: Service\n".repeat(4)).into_bytes();
        Kept { revision: Revision { number, digest: number * 31 }, content }
    }

    fn opened(folder: &TempDir) -> (Option<Kept>, usize) {
        let (_, kept, torn) = LastGood::open(folder.path().join("state"));
        (kept, torn.len())
    }

    /// A folder in which the policies 1 to `last` were kept, one after the other.
    fn kept(last: u64) -> TempDir {
        let folder = TempDir::new().unwrap();
        let (mut store, ..) = LastGood::open(folder.path().join("state"));
        (1..=last).for_each(|number| store.save(&policy(number)).unwrap());
        folder
    }

    #[test]
    fn the_newest_is_read_and_the_numbers_of_slots_go_on() {
        assert_eq!(opened(&TempDir::new().unwrap()), (None, 0));
        for last in 1..=5 {
            assert_eq!(opened(&kept(last)), (Some(policy(last)), 0));
        }
        // Opened anew each time, as by restarts. The revision is the policy's affair, the order is ours.
        let folder = TempDir::new().unwrap();
        for number in [7, 3, 9, 1] {
            let (mut store, ..) = LastGood::open(folder.path().join("state"));
            store.save(&policy(number)).unwrap();
            assert_eq!(opened(&folder), (Some(policy(number)), 0));
        }
    }

    #[test]
    fn nobody_else_can_read_it() {
        let folder = kept(2);
        let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("state/policy.0"), mode("state/policy.1"), mode("state")), (0o600, 0o600, 0o700));
    }

    #[test]
    fn a_slot_torn_at_any_byte_leaves_the_one_before_it() {
        let folder = kept(2);
        let [before, newest] = SLOTS.map(|name| folder.path().join("state").join(name));
        let (old, whole) = (fs::read(&before).unwrap(), fs::read(&newest).unwrap());
        for at in 0..whole.len() {
            let flipped = [&whole[..at], &[whole[at] ^ 1], &whole[at + 1..]].concat();
            let zeroed = [&whole[..at], &vec![0; whole.len() - at]].concat();
            let mixed = [&whole[..at], &old[at..]].concat();
            for torn in [&whole[..at], &flipped, &zeroed, &mixed] {
                // A cut that happens to leave a whole slot behind is none.
                if torn == whole || torn == old {
                    continue;
                }
                fs::write(&newest, torn).unwrap();
                assert_eq!(opened(&folder), (Some(policy(1)), 1), "torn at {at}");
            }
        }
        for at in 0..whole.len() {
            fs::write(&before, &old[..at]).unwrap();
            fs::write(&newest, &whole[..at]).unwrap();
            assert_eq!(opened(&folder), (None, 2), "both torn at {at}");
        }
        // What was torn is written anew, and the good one not before that.
        let (mut store, ..) = LastGood::open(folder.path().join("state"));
        store.save(&policy(8)).unwrap();
        assert_eq!(opened(&folder), (Some(policy(8)), 1));
    }

    #[test]
    fn a_write_that_stops_at_any_byte_changes_nothing() {
        let folder = kept(2);
        let written = encode(3, &policy(3));
        for at in 0..written.len() {
            fs::write(folder.path().join("state").join(BEING_WRITTEN), &written[..at]).unwrap();
            assert_eq!(opened(&folder), (Some(policy(2)), 0));
        }
        let (mut store, ..) = LastGood::open(folder.path().join("state"));
        store.save(&policy(3)).unwrap();
        assert_eq!(opened(&folder), (Some(policy(3)), 0));
    }

    #[test]
    fn a_failed_save_leaves_what_was_kept_and_the_next_one_succeeds() {
        let folder = kept(2);
        let (mut store, ..) = LastGood::open(folder.path().join("state"));
        let in_the_way = folder.path().join("state").join(BEING_WRITTEN);
        fs::create_dir(&in_the_way).unwrap();
        assert!(store.save(&policy(3)).is_err());
        assert_eq!(opened(&folder), (Some(policy(2)), 0));
        fs::remove_dir(&in_the_way).unwrap();
        store.save(&policy(3)).unwrap();
        assert_eq!(opened(&folder), (Some(policy(3)), 0));
    }
}
