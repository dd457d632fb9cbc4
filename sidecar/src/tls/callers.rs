//! Whom a client's certificate must name on an explicit listener: the chain by webpki, then one of the names.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::verify::carries;
use crate::config::snapshot::CertificateName;

/// Checks a client's certificate by another verifier, and then its names.
#[derive(Debug)]
pub(super) struct VerifyCaller {
    chain: Arc<dyn ClientCertVerifier>,
    /// The certificate must carry one of these.
    names: Vec<CertificateName>,
}

impl VerifyCaller {
    /// Checks the names after the chain, where there are any.
    pub(super) fn after(
        chain: Arc<dyn ClientCertVerifier>,
        names: Vec<CertificateName>,
    ) -> Arc<dyn ClientCertVerifier> {
        if names.is_empty() { chain } else { Arc::new(Self { chain, names }) }
    }
}

impl ClientCertVerifier for VerifyCaller {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let named = self.names.iter().any(|name| carries(end_entity, &parsed, name));
        // The alert `access_denied`: the certificate is good, and somebody else's.
        named.then_some(verified).ok_or(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
