//! The client side: the peer must come from an authority that we trust, and be the identity that policy names.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{ALPN_HTTP2, ALPN_TCP, files::Loaded, identity::provider, spiffe::spiffe_id_of};
use crate::config::snapshot::SpiffeId;

/// What a mesh connection carries; its ALPN.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Carried {
    /// HTTP/2.
    Http2,
    /// One opaque stream.
    Tcp,
}

pub(super) fn config(
    source: &Loaded,
    roots: &Arc<RootCertStore>,
    expected: &SpiffeId,
    carried: Carried,
) -> Result<ClientConfig, Error> {
    let provider = provider();
    let verifier = VerifyIdentity {
        roots: Arc::clone(roots),
        expected: expected.clone(),
        provider: Arc::clone(&provider),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(source.chain.clone(), source.key.clone_key())?;
    config.alpn_protocols = vec![match carried {
        Carried::Http2 => ALPN_HTTP2.to_vec(),
        Carried::Tcp => ALPN_TCP.to_vec(),
    }];
    Ok(config)
}

/// Checks a sidecar's certificate: the chain by webpki, then the identity instead of a host name.
pub struct VerifyIdentity {
    roots: Arc<RootCertStore>,
    expected: SpiffeId,
    provider: Arc<CryptoProvider>,
}

/// The peer is trusted, but is not whom policy names.
#[derive(Debug, thiserror::Error)]
#[error("the peer is {actual}, policy names {expected}")]
struct WrongIdentity {
    actual: String,
    expected: SpiffeId,
}

impl ServerCertVerifier for VerifyIdentity {
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
        let actual = match spiffe_id_of(end_entity) {
            Ok(id) if id == self.expected => return Ok(ServerCertVerified::assertion()),
            Ok(id) => id.to_string(),
            Err(problem) => problem.to_owned(),
        };
        let wrong = WrongIdentity { actual, expected: self.expected.clone() };
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(wrong)))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl VerifyIdentity {
    /// Whether a handshake failed because the peer is somebody else.
    pub fn refused(error: &std::io::Error) -> bool {
        let tls = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
        matches!(tls, Some(Error::InvalidCertificate(CertificateError::Other(OtherError(other))))
            if other.downcast_ref::<WrongIdentity>().is_some())
    }
}

impl fmt::Debug for VerifyIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyIdentity").field("expected", &self.expected).finish_non_exhaustive()
    }
}
