//! The key of our own certificate, made here: only signing requests leave the process.

use std::fmt;

use rcgen::{CertificateParams, Error, KeyPair, PKCS_ECDSA_P256_SHA256, SanType, string::Ia5String};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::config::snapshot::SpiffeId;

/// A key for a certificate of ours, PKCS #8 (RFC 5208).
#[derive(Clone, Eq, PartialEq)]
pub struct OwnKey(Vec<u8>);

/// Why there is no key, or no request of it.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct KeyError(#[from] Error);

impl OwnKey {
    /// A new one, ECDSA on P-256.
    pub fn generate() -> Result<Self, KeyError> {
        Ok(Self(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?.serialize_der()))
    }

    /// One that was kept.
    pub fn from_pkcs8(bytes: Vec<u8>) -> Result<Self, KeyError> {
        let key = Self(bytes);
        key.pair()?;
        Ok(key)
    }

    /// As it is kept.
    pub fn as_pkcs8(&self) -> &[u8] {
        &self.0
    }

    /// A request for a certificate with this id: PKCS #10 (RFC 2986), DER.
    pub fn request(&self, id: &SpiffeId) -> Result<Vec<u8>, KeyError> {
        let mut request = CertificateParams::default();
        request.subject_alt_names = vec![SanType::URI(Ia5String::try_from(id.as_str())?)];
        Ok(request.serialize_request(&self.pair()?)?.der().to_vec())
    }

    fn pair(&self) -> Result<KeyPair, Error> {
        let key = PrivatePkcs8KeyDer::from(self.0.as_slice());
        KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)
    }
}

impl From<&OwnKey> for PrivateKeyDer<'static> {
    fn from(key: &OwnKey) -> Self {
        PrivatePkcs8KeyDer::from(key.0.clone()).into()
    }
}

/// What is printed ends up in logs; the key does not.
impl fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnKey")
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateSigningRequestParams, PublicKeyData};
    use rustls_pki_types::CertificateSigningRequestDer;

    use super::*;

    #[test]
    fn a_request_is_signed_by_its_key_and_names_the_id() {
        let id = SpiffeId::parse("spiffe://mesh.test/ns/shop/sa/orders").unwrap();
        let key = OwnKey::generate().unwrap();
        let kept = OwnKey::from_pkcs8(key.as_pkcs8().to_vec()).unwrap();
        let der = CertificateSigningRequestDer::from(kept.request(&id).unwrap());
        // Parsing checks the signature.
        let request = CertificateSigningRequestParams::from_der(&der).unwrap();
        assert_eq!(request.params.subject_alt_names, [SanType::URI(id.as_str().try_into().unwrap())]);
        assert_eq!(request.public_key.der_bytes(), key.pair().unwrap().der_bytes());
        assert_eq!(format!("{key:?}"), "OwnKey");
        assert!(OwnKey::from_pkcs8(b"no key".to_vec()).is_err());
    }
}
