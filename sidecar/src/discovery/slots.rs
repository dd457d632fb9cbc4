//! What must outlive the process, on disk: the last good policy, the identity.
//!
//! Two slots are written in turn, so that whatever becomes of a write, the one before it is still there. A slot is
//! written beside its place and renamed into it. Each carries a checksum over all of it: what a crash, a full disk or a
//! failing one has torn is told from what is whole, and never read as content.
//!
//! A slot, integers in big endian: magic (8 bytes), sequence (8), the content, checksum (8).

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    marker::PhantomData,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::config::fnv1a;

const HEAD: usize = 8 + 8;
const CHECKSUM: usize = 8;

/// What is kept in slots.
pub trait Content: Sized {
    /// The slots are the files `<name>.0` and `<name>.1`.
    const NAME: &'static str;
    /// What a slot begins with. It changes with the form of the content.
    const MAGIC: &'static [u8; 8];

    /// As it is kept.
    fn encode(&self) -> Vec<u8>;

    /// Reads what was kept; an error says why it cannot be.
    fn decode(bytes: &[u8]) -> Result<Self, String>;
}

/// The slots of one content in a folder. Nobody else may write there.
#[derive(Debug)]
pub struct Slots<T> {
    folder: PathBuf,
    /// The slot that may be overwritten: not the newest good one.
    free: usize,
    sequence: u64,
    content: PhantomData<fn(T) -> T>,
}

/// A slot that is there and cannot be used. What was in it is lost.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}; it is left aside and will be overwritten", path.display())]
pub struct Torn {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

impl<T: Content> Slots<T> {
    /// Reads what is kept: the newest good content, and the slots that cannot be used. A folder that is not there is
    /// empty.
    pub fn open(folder: PathBuf) -> (Self, Option<T>, Vec<Torn>) {
        let mut newest: Option<(usize, Slot<T>)> = None;
        let mut torn = Vec::new();
        for index in 0..2 {
            let path = slot(&folder, T::NAME, index);
            match read(&path) {
                Ok(Some(slot)) if newest.as_ref().is_none_or(|(_, best)| slot.sequence > best.sequence) => {
                    newest = Some((index, slot));
                }
                Ok(_) => {}
                Err(problem) => torn.push(Torn { path, problem }),
            }
        }
        let (free, sequence, content) = match newest {
            Some((index, slot)) => (1 - index, slot.sequence, Some(slot.content)),
            None => (0, 0, None),
        };
        (Self { folder, free, sequence, content: PhantomData }, content, torn)
    }

    /// Keeps a content. After an error the one before it is still kept.
    pub fn save(&mut self, content: &T) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let next = being_written::<T>(&self.folder);
        // Policies match on headers, which hold secrets, and an identity has a key. The mode counts only for a file that is
        // new.
        remove_if_there(&next)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
        file.write_all(&encode(self.sequence + 1, content))?;
        file.sync_all()?;
        fs::rename(&next, slot(&self.folder, T::NAME, self.free))?;
        self.sequence += 1;
        self.free = 1 - self.free;
        // Else the rename may come after a crash of the machine, or not at all.
        File::open(&self.folder)?.sync_all()
    }
}

fn slot(folder: &Path, name: &str, index: usize) -> PathBuf {
    folder.join(format!("{name}.{index}"))
}

fn being_written<T: Content>(folder: &Path) -> PathBuf {
    folder.join(format!("{}.next", T::NAME))
}

struct Slot<T> {
    sequence: u64,
    content: T,
}

fn read<T: Content>(path: &Path) -> Result<Option<Slot<T>>, String> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => decode(&bytes).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

fn encode<T: Content>(sequence: u64, content: &T) -> Vec<u8> {
    let mut bytes = T::MAGIC.to_vec();
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes.extend_from_slice(&content.encode());
    bytes.extend_from_slice(&fnv1a(bytes.iter().copied()).to_be_bytes());
    bytes
}

fn decode<T: Content>(bytes: &[u8]) -> Result<Slot<T>, String> {
    let (head, _) = bytes.split_first_chunk::<HEAD>().ok_or("torn: it is shorter than its head")?;
    let sequence = head.strip_prefix(T::MAGIC).ok_or("not what is kept here, or of another version")?;
    let sequence = sequence.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let (checked, checksum) = bytes.split_last_chunk::<CHECKSUM>().ok_or("torn: it has no checksum")?;
    if fnv1a(checked.iter().copied()) != u64::from_be_bytes(*checksum) {
        return Err("torn: its checksum is wrong".to_owned());
    }
    let content = checked.get(HEAD..).ok_or("torn: it is shorter than its head")?;
    Ok(Slot { sequence, content: T::decode(content)? })
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

    #[derive(Debug, PartialEq)]
    struct Note(String);

    impl Content for Note {
        const NAME: &'static str = "note";
        const MAGIC: &'static [u8; 8] = b"TRAMANO1";

        fn encode(&self) -> Vec<u8> {
            self.0.as_bytes().to_vec()
        }

        fn decode(bytes: &[u8]) -> Result<Self, String> {
            String::from_utf8(bytes.to_vec()).map(Self).map_err(|error| error.to_string())
        }
    }

    fn note(number: u64) -> Note {
        Note(format!("# {number}\n{}", "kind: Service\n".repeat(4)))
    }

    fn opened(folder: &TempDir) -> (Option<Note>, usize) {
        let (_, kept, torn) = Slots::<Note>::open(folder.path().join("state"));
        (kept, torn.len())
    }

    /// A folder in which the notes 1 to `last` were kept, one after the other.
    fn kept(last: u64) -> TempDir {
        let folder = TempDir::new().unwrap();
        let (mut store, ..) = Slots::open(folder.path().join("state"));
        (1..=last).for_each(|number| store.save(&note(number)).unwrap());
        folder
    }

    #[test]
    fn the_newest_is_read_and_the_numbers_of_slots_go_on() {
        assert_eq!(opened(&TempDir::new().unwrap()), (None, 0));
        for last in 1..=5 {
            assert_eq!(opened(&kept(last)), (Some(note(last)), 0));
        }
        // Opened anew each time, as by restarts. What the content says is not what orders it.
        let folder = TempDir::new().unwrap();
        for number in [7, 3, 9, 1] {
            let (mut store, ..) = Slots::open(folder.path().join("state"));
            store.save(&note(number)).unwrap();
            assert_eq!(opened(&folder), (Some(note(number)), 0));
        }
    }

    #[test]
    fn nobody_else_can_read_it() {
        let folder = kept(2);
        let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("state/note.0"), mode("state/note.1"), mode("state")), (0o600, 0o600, 0o700));
    }

    #[test]
    fn a_slot_torn_at_any_byte_leaves_the_one_before_it() {
        let folder = kept(2);
        let [before, newest] = [0, 1].map(|index| slot(&folder.path().join("state"), "note", index));
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
                assert_eq!(opened(&folder), (Some(note(1)), 1), "torn at {at}");
            }
        }
        for at in 0..whole.len() {
            fs::write(&before, &old[..at]).unwrap();
            fs::write(&newest, &whole[..at]).unwrap();
            assert_eq!(opened(&folder), (None, 2), "both torn at {at}");
        }
        // What was torn is written anew, and the good one not before that.
        let (mut store, ..) = Slots::open(folder.path().join("state"));
        store.save(&note(8)).unwrap();
        assert_eq!(opened(&folder), (Some(note(8)), 1));
    }

    #[test]
    fn a_write_that_stops_at_any_byte_changes_nothing() {
        let folder = kept(2);
        let written = encode(3, &note(3));
        let next = being_written::<Note>(&folder.path().join("state"));
        for at in 0..written.len() {
            fs::write(&next, &written[..at]).unwrap();
            assert_eq!(opened(&folder), (Some(note(2)), 0));
        }
        let (mut store, ..) = Slots::open(folder.path().join("state"));
        store.save(&note(3)).unwrap();
        assert_eq!(opened(&folder), (Some(note(3)), 0));
    }

    #[test]
    fn a_failed_save_leaves_what_was_kept_and_the_next_one_succeeds() {
        let folder = kept(2);
        let (mut store, ..) = Slots::open(folder.path().join("state"));
        let in_the_way = being_written::<Note>(&folder.path().join("state"));
        fs::create_dir(&in_the_way).unwrap();
        assert!(store.save(&note(3)).is_err());
        assert_eq!(opened(&folder), (Some(note(2)), 0));
        fs::remove_dir(&in_the_way).unwrap();
        store.save(&note(3)).unwrap();
        assert_eq!(opened(&folder), (Some(note(3)), 0));
    }
}
