//! The SPIFFE id in a certificate (X.509-SVID standard, section 2: exactly one URI SAN), and its other URIs.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::config::snapshot::SpiffeId;

/// Reads the id; the error says what is wrong with the certificate.
pub fn spiffe_id_of(certificate: &CertificateDer<'_>) -> Result<SpiffeId, &'static str> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| "the certificate is not X.509 DER")?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|_| "the certificate's subject alternative name is malformed")?
        .ok_or("the certificate has no subject alternative name")?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => SpiffeId::parse(uri),
        (None, _) => Err("the certificate has no URI in its subject alternative name"),
        (Some(_), Some(_)) => Err("the certificate has more than one URI in its subject alternative name"),
    }
}

/// Whether a certificate carries this URI, among others perhaps.
pub(super) fn has_uri(certificate: &CertificateDer<'_>, wanted: &str) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return false };
    names.value.general_names.iter().any(|name| matches!(name, GeneralName::URI(uri) if *uri == wanted))
}

/// When a certificate ends, seconds since 1970.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.validity().not_after.timestamp())
}
