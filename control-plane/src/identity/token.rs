//! A join token: proof, once, that its holder may have one certain identity. `trama-join.v1.<name>.<secret>`, the
//! secret 32 random bytes. The store knows only the secret's SHA-256.

use std::fmt::{self, Debug, Display, Formatter};

use aws_lc_rs::{constant_time, digest, rand};
use trama_proto::spiffe::SpiffeId;

use super::{IdentityError, records};

const MARK: &str = "trama-join.v1.";
const NAME_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// A token as it is handed out and shown.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Finds its record. No secret.
    pub(super) name: String,
    secret: String,
}

impl JoinToken {
    /// A new one.
    pub(super) fn draw() -> Result<Self, IdentityError> {
        Ok(Self { name: random_hex::<NAME_BYTES>()?, secret: random_hex::<SECRET_BYTES>()? })
    }

    /// Reads one as it was printed.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let (name, secret) = text
            .trim()
            .strip_prefix(MARK)
            .and_then(|rest| rest.split_once('.'))
            .ok_or(IdentityError::MalformedToken)?;
        let hex =
            |text: &str, bytes| text.len() == 2 * bytes && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hex(name, NAME_BYTES) && hex(secret, SECRET_BYTES) {
            Ok(Self { name: name.to_owned(), secret: secret.to_owned() })
        } else {
            Err(IdentityError::MalformedToken)
        }
    }

    /// What the store knows of a new token.
    pub(super) fn record(&self, id: &SpiffeId, expires: u64) -> records::Token {
        records::Token {
            secret_sha256: self.digest(),
            identity: id.as_str().to_owned(),
            expires,
            used_by: Vec::new(),
        }
    }

    /// Whether it is good at `now`, for whatever key.
    pub(super) fn check(&self, record: &records::Token, now: u64) -> Result<(), IdentityError> {
        // First the secret: who does not know it learns nothing of the token's state.
        if constant_time::verify_slices_are_equal(&record.secret_sha256, &self.digest()).is_err() {
            return Err(IdentityError::UnknownToken);
        }
        if now >= record.expires {
            return Err(IdentityError::ExpiredToken);
        }
        Ok(())
    }

    /// Whether it is good for the key with this digest. A key that has joined with it may do so again until it expires, or a
    /// sidecar that dies before it has stored its certificate could never come back.
    pub(super) fn check_key(record: &records::Token, key: &[u8]) -> Result<(), IdentityError> {
        if !record.used_by.is_empty() && record.used_by != key {
            return Err(IdentityError::UsedToken);
        }
        Ok(())
    }

    fn digest(&self) -> Vec<u8> {
        sha256(self.secret.as_bytes())
    }
}

impl Display for JoinToken {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{MARK}{}.{}", self.name, self.secret)
    }
}

/// Tokens end up in logs by `{:?}`; the secret does not.
impl Debug for JoinToken {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{MARK}{}.(secret)", self.name)
    }
}

pub(super) fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

/// Random bytes in hexadecimal.
pub(super) fn random_hex<const BYTES: usize>() -> Result<String, IdentityError> {
    let mut bytes = [0; BYTES];
    rand::fill(&mut bytes).map_err(|_| IdentityError::Signing("no random numbers".to_owned()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
