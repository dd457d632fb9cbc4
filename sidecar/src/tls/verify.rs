//! Whom a server's certificate must come from and name: the chain by webpki, then the name.

use std::{fmt, io, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{
    identity::provider,
    spiffe::{has_uri, spiffe_id_of},
};
use crate::config::snapshot::{BackendTls, CertificateName, SpiffeId};

/// Whom a certificate must name.
pub(super) enum Wanted {
    /// A sidecar with just this identity.
    Identity(SpiffeId),
    /// An endpoint without a sidecar: one of the names.
    Names(Arc<BackendTls>),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(id) => write!(f, "{id}"),
            Self::Names(tls) => {
                let names = tls.names.iter().map(|name| match name {
                    CertificateName::Host(name) => name.to_str(),
                    CertificateName::Uri(uri) => (&**uri).into(),
                });
                f.write_str(&names.collect::<Vec<_>>().join(" or "))
            }
        }
    }
}

/// Checks a server's certificate.
pub struct VerifyPeer {
    roots: Arc<RootCertStore>,
    wanted: Wanted,
    provider: Arc<CryptoProvider>,
}

/// The peer is trusted, but is not whom policy names.
#[derive(Debug, thiserror::Error)]
#[error("{actual}; policy names {wanted}")]
struct WrongPeer {
    actual: String,
    wanted: String,
}

fn wrong_peer(error: &io::Error) -> Option<&WrongPeer> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
            other.downcast_ref::<WrongPeer>()
        }
        _ => None,
    }
}

impl VerifyPeer {
    pub(super) fn new(roots: &Arc<RootCertStore>, wanted: Wanted) -> Self {
        Self { roots: Arc::clone(roots), wanted, provider: provider() }
    }

    /// Whether a handshake failed because the peer is somebody else.
    pub fn refused(error: &io::Error) -> bool {
        wrong_peer(error).is_some()
    }

    /// Why a handshake failed, in words: what the library makes of an error of ours is for its own developers.
    pub fn explain(error: &io::Error) -> String {
        wrong_peer(error).map_or_else(|| error.to_string(), WrongPeer::to_string)
    }

    /// An error says whom the certificate names instead.
    fn verify_name(
        &self,
        certificate: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
    ) -> Result<(), String> {
        match &self.wanted {
            Wanted::Identity(expected) => match spiffe_id_of(certificate) {
                Ok(id) if id == *expected => Ok(()),
                Ok(id) => Err(format!("the peer is {id}")),
                Err(problem) => Err(problem.to_owned()),
            },
            Wanted::Names(tls) => {
                let named = tls.names.iter().any(|name| carries(certificate, parsed, name));
                let wrong = || "the certificate carries other names".to_owned();
                named.then_some(()).ok_or_else(wrong)
            }
        }
    }
}

/// Whether a certificate carries the name.
pub(super) fn carries(
    certificate: &CertificateDer<'_>,
    parsed: &ParsedCertificate<'_>,
    name: &CertificateName,
) -> bool {
    match name {
        CertificateName::Host(host) => verify_server_name(parsed, host).is_ok(),
        CertificateName::Uri(uri) => has_uri(certificate, uri),
    }
}

impl ServerCertVerifier for VerifyPeer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        self.verify_name(end_entity, &certificate).map_err(|actual| {
            let wrong = WrongPeer { actual, wanted: self.wanted.to_string() };
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(wrong))))
        })?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for VerifyPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyPeer").field("wanted", &self.wanted.to_string()).finish_non_exhaustive()
    }
}
