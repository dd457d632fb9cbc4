//! The last good policy as it is kept, for a start whose source is gone or bad.
//!
//! In a slot, integers in big endian: the revision's number and digest, the length of the content (8 bytes each), the
//! content. What the content is, its writer knows: the text of a file, a message.

use std::{fmt, io, sync::Arc};

use super::slots::{self, Slots};
use crate::config::{fnv1a, snapshot::Revision};

const HEAD: usize = 3 * 8;

/// A policy as it was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its revision then.
    pub revision: Revision,
    /// Its content, as its source gave it.
    pub content: Vec<u8>,
}

/// A policy that is to be kept.
#[derive(Clone, Debug)]
pub struct ToKeep {
    /// Its revision.
    pub revision: Revision,
    /// What is kept of it.
    pub content: Content,
}

/// What is kept of a policy. It is made when it is written: it can be large, and of policies that come quickly one after
/// the other most never are.
#[derive(Clone)]
pub struct Content(Arc<dyn Fn() -> Vec<u8> + Send + Sync>);

impl Content {
    /// What this makes.
    pub fn made(make: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    /// These bytes.
    pub fn of(bytes: Vec<u8>) -> Self {
        Self::made(move || bytes.clone())
    }

    /// The bytes.
    pub fn make(&self) -> Vec<u8> {
        (self.0)()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Content")
    }
}

/// The slots of policies.
#[derive(Debug)]
pub struct Policies {
    slots: Slots<Kept>,
    /// What tells the content that is kept from another.
    on_disk: Option<u64>,
}

impl Policies {
    /// Goes on with slots in which this was found.
    pub fn new(slots: Slots<Kept>, found: Option<&Kept>) -> Self {
        Self { slots, on_disk: found.map(|kept| checksum(&kept.content)) }
    }

    /// Keeps a policy. Writes nothing that is there already, as after a start with it.
    pub fn save(&mut self, ToKeep { revision, content }: &ToKeep) -> io::Result<()> {
        let kept = Kept { revision: *revision, content: content.make() };
        let checksum = checksum(&kept.content);
        if self.on_disk != Some(checksum) {
            self.slots.save(&kept)?;
            self.on_disk = Some(checksum);
        }
        Ok(())
    }
}

fn checksum(content: &[u8]) -> u64 {
    fnv1a(content.iter().copied())
}

impl slots::Content for Kept {
    const NAME: &'static str = "policy";
    const MAGIC: &'static [u8; 8] = b"TRAMALG1";

    fn encode(&self) -> Vec<u8> {
        let Self { revision, content } = self;
        let mut bytes = Vec::with_capacity(HEAD + content.len());
        for number in [revision.number, revision.digest, content.len() as u64] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(content);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (head, content) = bytes.split_first_chunk::<HEAD>().ok_or("shorter than its head")?;
        let number = |at: usize| head[at * 8..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        if number(2) != content.len() as u64 {
            return Err("it has another length than its head says".to_owned());
        }
        let revision = Revision { number: number(0), digest: number(1) };
        Ok(Self { revision, content: content.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::atomic::{AtomicU64, Ordering::Relaxed},
        time::Duration,
    };

    use tempfile::TempDir;
    use tokio::{sync::watch, task, time};

    use super::{super::keep, *};
    use slots::Content as _;

    #[tokio::test(start_paused = true)]
    async fn what_is_never_written_is_never_made_and_what_is_there_is_not_written_again() {
        let policy = |number: u64| Kept {
            revision: Revision { number, digest: number },
            content: format!("# {number}").into_bytes(),
        };
        let folder = TempDir::new().unwrap();
        let state = folder.path().join("state");
        let (mut slots, ..) = Slots::open(state.clone());
        slots.save(&policy(1)).unwrap();
        let accepted = watch::Sender::new(None);
        let made = Arc::new(AtomicU64::new(0));
        let counted = |number: u64| {
            let made = Arc::clone(&made);
            let make = move || {
                made.fetch_add(1, Relaxed);
                policy(number).content
            };
            ToKeep { revision: policy(number).revision, content: Content::made(make) }
        };
        let mut policies = Policies::new(slots, Some(&policy(1)));
        let tried = |_: &ToKeep, saved: &io::Result<()>| assert!(saved.is_ok(), "{saved:?}");
        let keeper = tokio::spawn(keep(move |policy| policies.save(policy), accepted.clone(), tried));
        task::yield_now().await;
        accepted.send_replace(Some(counted(1)));
        while made.load(Relaxed) < 1 {
            time::sleep(Duration::from_secs(1)).await;
        }
        (2..=100).for_each(|number| drop(accepted.send_replace(Some(counted(number)))));
        while Slots::<Kept>::open(state.clone()).1 != Some(policy(100)) {
            time::sleep(Duration::from_secs(1)).await;
        }
        assert!(
            fs::metadata(state.join("policy.1")).is_ok(),
            "the first of them is the second that is written"
        );
        assert!(made.load(Relaxed) <= 3, "{made:?}");
        keeper.abort();
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let policy =
            Kept { revision: Revision { number: 7, digest: 7 << 40 }, content: b"kind: Service".to_vec() };
        let written = policy.encode();
        assert_eq!(Kept::decode(&written), Ok(policy));
        (0..written.len()).for_each(|at| assert!(Kept::decode(&written[..at]).is_err(), "cut at {at}"));
    }
}
