//! TLS to a port's endpoints that have no sidecar.

use std::sync::Arc;

use rustls_pki_types::ServerName;
use trama_proto::{
    document::Document,
    policy::v1::{BackendTls as Message, SubjectAltName, subject_alt_name::Name},
};

use super::findings::{Findings, quoted};
use crate::config::snapshot::{BackendTls, CertificateName};

/// Reads it; `None` where it has a problem.
pub(super) fn read(
    document: &Document,
    field: &str,
    message: &Message,
    findings: &mut Findings,
) -> Option<Arc<BackendTls>> {
    let server_name = host(document, &format!("{field}.hostname"), &message.hostname, findings);
    let mut names = Vec::new();
    for (at, name) in message.subject_alt_names.iter().enumerate() {
        names.push(certificate_name(document, &format!("{field}.subjectAltNames[{at}]"), name, findings)?);
    }
    let server_name = server_name?;
    if names.is_empty() {
        names.push(CertificateName::Host(server_name.clone()));
    }
    Some(Arc::new(BackendTls { server_name, names, files: message.files.as_str().into() }))
}

fn certificate_name(
    document: &Document,
    field: &str,
    message: &SubjectAltName,
    findings: &mut Findings,
) -> Option<CertificateName> {
    match message.name.as_ref()? {
        Name::Hostname(text) => {
            host(document, &format!("{field}.hostname"), text, findings).map(CertificateName::Host)
        }
        Name::Uri(text)
            if text.split_once(':').is_some_and(|(scheme, rest)| is_scheme(scheme) && !rest.is_empty()) =>
        {
            Some(CertificateName::Uri(text.as_str().into()))
        }
        Name::Uri(text) => {
            let remedy = "write it with its scheme, such as `spiffe://example.org/ns/shop/sa/orders`";
            findings.add(document, &format!("{field}.uri"), quoted(text), "not a URI", remedy);
            None
        }
    }
}

/// RFC 3986 section 3.1.
fn is_scheme(text: &str) -> bool {
    let rest = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(rest)
}

fn host(
    document: &Document,
    field: &str,
    text: &str,
    findings: &mut Findings,
) -> Option<ServerName<'static>> {
    let parsed = ServerName::try_from(text.to_owned());
    if parsed.is_err() {
        let remedy = "write a DNS name, such as `payments.example.org`";
        findings.add(document, field, quoted(text), "no name that a certificate can carry", remedy);
    }
    parsed.ok()
}
