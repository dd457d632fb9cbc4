//! Why an identity is not given.

use std::path::PathBuf;

use crate::store::StoreError;

/// Why an identity is not given. To whom asks over the network all tokens that do not fit are alike, or it could find
/// out which exist; the name of the case is for the log and the count.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The store's authority is another trust domain's.
    #[error(
        "trustDomain is `{configured}`, but the store is the authority of `{stored}`; write `{stored}`, or name another `store.path`"
    )]
    OtherDomain {
        /// Whose roots the store has.
        stored: String,
        /// What the configuration says.
        configured: String,
    },
    /// Not a SPIFFE id of a workload of this trust domain.
    #[error("`{id}` is not an identity of this mesh: {rule}")]
    BadIdentity {
        /// What was asked for.
        id: String,
        /// The rule that it breaks.
        rule: String,
    },
    /// Not a token at all.
    #[error("not a join token; make one with `tramactl join-token`")]
    MalformedToken,
    /// No such token, or another secret.
    #[error("this join token is not known; make a new one with `tramactl join-token`")]
    UnknownToken,
    /// Too late.
    #[error("this join token has expired; make a new one with `tramactl join-token`")]
    ExpiredToken,
    /// Someone else has joined with it.
    #[error("this join token was used for another key; make a new one with `tramactl join-token`")]
    UsedToken,
    /// The request names another identity than the token or the certificate.
    #[error("the signing request is for `{asked}`, but only `{allowed}` may be had")]
    ForeignRequest {
        /// Whom the request names.
        asked: String,
        /// Whom the proof names.
        allowed: String,
    },
    /// Not a signing request, or one that its key did not sign.
    #[error("the signing request cannot be used: {0}")]
    BadRequest(String),
    /// The sealed keys cannot be opened.
    #[error(
        "the keys of the certificate authority cannot be opened: {0}; give the sealing key that closed them"
    )]
    Sealed(String),
    /// The file of the sealing key can be neither read nor made.
    #[error("store.sealingKey {}: {problem}", path.display())]
    SealingKey {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would help.
        problem: String,
    },
    /// A key could not be made or used.
    #[error("the certificate authority cannot sign: {0}")]
    Signing(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl IdentityError {
    /// A short name for counts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::OtherDomain { .. } => "other_domain",
            Self::BadIdentity { .. } => "bad_identity",
            Self::MalformedToken => "malformed_token",
            Self::UnknownToken => "unknown_token",
            Self::ExpiredToken => "expired_token",
            Self::UsedToken => "used_token",
            Self::ForeignRequest { .. } => "foreign_request",
            Self::BadRequest(_) => "bad_request",
            Self::Sealed(_) | Self::SealingKey { .. } => "sealed",
            Self::Signing(_) => "signing",
            Self::Store(_) => "store",
        }
    }
}
