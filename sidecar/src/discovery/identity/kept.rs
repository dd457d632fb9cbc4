//! An identity as it is kept on disk.

use std::time::Duration;

use prost::Message;
use rustls_pki_types::CertificateDer;

use super::schedule::Term;
use crate::{
    discovery::slots::Content,
    tls::{Credentials, Identity, OwnKey, Unfit},
};

/// All that is kept.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Kept {
    /// The identity that was given last.
    pub(super) given: Option<Given>,
    /// The key of a join that is under way: a token is good for one key, so that who dies before the answer has to come back
    /// with the same.
    pub(super) joining: Option<OwnKey>,
}

/// An identity as it was given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Given {
    pub(super) key: OwnKey,
    /// DER, our own certificate first.
    pub(super) chain: Vec<Vec<u8>>,
    /// DER.
    pub(super) bundle: Vec<Vec<u8>>,
    /// When, in time since 1970 by our own clock.
    pub(super) since: Duration,
}

/// [`Kept`] as protobuf, so that a later version reads what an earlier one wrote.
#[derive(Clone, PartialEq, Message)]
struct Record {
    /// PKCS #8; empty: none was given.
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    chain: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    bundle: Vec<Vec<u8>>,
    /// Milliseconds since 1970.
    #[prost(uint64, tag = "4")]
    since: u64,
    /// PKCS #8; empty: no join is under way.
    #[prost(bytes = "vec", tag = "5")]
    joining: Vec<u8>,
}

impl Given {
    /// The identity that it makes.
    pub(super) fn identity(&self, revision: u64) -> Result<Identity, Unfit> {
        let certificates = |der: &[Vec<u8>]| der.iter().cloned().map(CertificateDer::from).collect();
        let credentials = Credentials {
            chain: certificates(&self.chain),
            key: (&self.key).into(),
            bundle: certificates(&self.bundle),
        };
        Identity::new(credentials, revision)
    }

    /// The life of its certificate, of which `identity` was made.
    pub(super) fn term(&self, identity: &Identity) -> Term {
        let until = Duration::from_secs(u64::try_from(identity.not_after).unwrap_or_default());
        Term { since: self.since, until }
    }
}

impl Content for Kept {
    const NAME: &'static str = "identity";
    const MAGIC: &'static [u8; 8] = b"TRAMAID1";

    fn encode(&self) -> Vec<u8> {
        let pkcs8 = |key: Option<&OwnKey>| key.map(|key| key.as_pkcs8().to_vec()).unwrap_or_default();
        let given = self.given.as_ref();
        let record = Record {
            key: pkcs8(given.map(|given| &given.key)),
            chain: given.map(|given| given.chain.clone()).unwrap_or_default(),
            bundle: given.map(|given| given.bundle.clone()).unwrap_or_default(),
            since: given.map_or(0, |given| u64::try_from(given.since.as_millis()).unwrap_or(u64::MAX)),
            joining: pkcs8(self.joining.as_ref()),
        };
        record.encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let record = Record::decode(bytes).map_err(|error| error.to_string())?;
        let Record { chain, bundle, since, .. } = record;
        let since = Duration::from_millis(since);
        let given = key(record.key)?.map(|key| Given { key, chain, bundle, since });
        Ok(Self { given, joining: key(record.joining)? })
    }
}

fn key(bytes: Vec<u8>) -> Result<Option<OwnKey>, String> {
    if bytes.is_empty() {
        return Ok(None);
    }
    OwnKey::from_pkcs8(bytes).map(Some).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::discovery::slots::Slots;

    fn given(since: u64) -> Given {
        let key = OwnKey::generate().unwrap();
        Given {
            key,
            chain: vec![vec![7; 20]],
            bundle: vec![vec![1; 9], vec![2; 9]],
            since: Duration::from_millis(since),
        }
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let all = Kept { given: Some(given(1_795_000_000_123)), joining: Some(OwnKey::generate().unwrap()) };
        for kept in
            [all.clone(), Kept { given: None, ..all.clone() }, Kept { joining: None, ..all }, Kept::default()]
        {
            assert_eq!(Kept::decode(&kept.encode()), Ok(kept));
        }
    }

    #[test]
    fn torn_at_any_byte_it_is_the_one_before_or_none() {
        let folder = TempDir::new().unwrap();
        let state = folder.path().join("state");
        let [before, newest] = [1, 2].map(|since| Kept { given: Some(given(since)), joining: None });
        let (mut slots, ..) = Slots::open(state.clone());
        slots.save(&before).unwrap();
        slots.save(&newest).unwrap();
        let read = || {
            let (_, kept, torn) = Slots::<Kept>::open(state.clone());
            (kept, torn.len())
        };
        assert_eq!(read(), (Some(newest), 0));
        let files = ["identity.0", "identity.1"].map(|name| state.join(name));
        let [old, whole] = [0, 1].map(|index| fs::read(&files[index]).unwrap());
        for at in 0..whole.len() {
            let flipped = [&whole[..at], &[whole[at] ^ 1], &whole[at + 1..]].concat();
            for torn in [&whole[..at], &flipped] {
                fs::write(&files[1], torn).unwrap();
                assert_eq!(read(), (Some(before.clone()), 1), "torn at {at}");
            }
            fs::write(&files[0], &old[..at.min(old.len() - 1)]).unwrap();
            assert_eq!(read(), (None, 2), "both torn at {at}");
            fs::write(&files[0], &old).unwrap();
        }
    }
}
