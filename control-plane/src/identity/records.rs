//! What the store keeps of identities, as protobuf, so that a later version reads what an earlier one wrote.

/// Where roots are kept; the rest of the key is the root's name.
pub(super) const ROOTS: &str = "identity/root/";
/// Where join tokens are kept; the rest of the key is the token's name.
pub(super) const TOKENS: &str = "identity/token/";

/// A root certificate. Times are seconds since 1970.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Root {
    /// DER.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) certificate: Vec<u8>,
    /// The sealed PKCS#8 key.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) sealed_key: Vec<u8>,
    /// When it begins to sign. It is trusted from the moment it exists.
    #[prost(uint64, tag = "3")]
    pub(super) signs_from: u64,
    /// When its certificate ends.
    #[prost(uint64, tag = "4")]
    pub(super) expires: u64,
}

/// A join token.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Token {
    /// SHA-256 of the secret.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) secret_sha256: Vec<u8>,
    /// The only identity that it gives.
    #[prost(string, tag = "2")]
    pub(super) identity: String,
    /// When it ends, in seconds since 1970.
    #[prost(uint64, tag = "3")]
    pub(super) expires: u64,
    /// SHA-256 of the public key that joined with it; empty: nobody yet.
    #[prost(bytes = "vec", tag = "4")]
    pub(super) used_by: Vec<u8>,
}
