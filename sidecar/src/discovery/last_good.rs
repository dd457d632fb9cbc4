//! The last good policy as it is kept, for a start whose source is gone or bad.
//!
//! In a slot, integers in big endian: the revision's number and digest, the length of the content (8 bytes each), the
//! content. What the content is, its writer knows: the text of a file, a message.

use super::slots::Content;
use crate::config::snapshot::Revision;

const HEAD: usize = 3 * 8;

/// A policy as it was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its revision then.
    pub revision: Revision,
    /// Its content, as its source gave it.
    pub content: Vec<u8>,
}

impl Content for Kept {
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
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written() {
        let policy =
            Kept { revision: Revision { number: 7, digest: 7 << 40 }, content: b"kind: Service".to_vec() };
        let written = policy.encode();
        assert_eq!(Kept::decode(&written), Ok(policy));
        (0..written.len()).for_each(|at| assert!(Kept::decode(&written[..at]).is_err(), "cut at {at}"));
    }
}
