//! Certificates as they are made: the root, and a workload's from its signing request.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SanType, SerialNumber, string::Ia5String,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use trama_proto::spiffe::SpiffeId;
use x509_parser::{
    certification_request::X509CertificationRequest,
    prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate},
};

use super::{
    IdentityError,
    token::{random_hex, sha256},
};

/// A signing request larger than this is none.
const LARGEST_REQUEST: usize = 16 * 1024;

/// From when to when, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validity {
    pub(super) from: u64,
    pub(super) until: u64,
}

/// A root as it is made.
pub(super) struct NewRoot {
    pub(super) certificate: Vec<u8>,
    /// PKCS#8.
    pub(super) key: Vec<u8>,
}

/// Names that are logged of one request: it may have kilobytes of them.
const MOST_NAMED: usize = 8;

/// Whom a signing request names, for the log; nobody, where it is none. Nothing is verified: whoever asks may have proved
/// nothing, and is to cost little.
pub(super) fn names_asked(request: &[u8]) -> Vec<String> {
    if request.len() > LARGEST_REQUEST {
        return Vec::new();
    }
    let Ok((_, request)) = X509CertificationRequest::from_der(request) else { return Vec::new() };
    let extensions = request.requested_extensions().into_iter().flatten();
    let names = extensions.filter_map(|extension| match extension {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    let spelled = names.flatten().take(MOST_NAMED).map(|name| match name {
        GeneralName::URI(uri) => (*uri).to_owned(),
        other => format!("{other:?}"),
    });
    spelled.collect()
}

fn spelled(name: &SanType) -> String {
    match name {
        SanType::URI(uri) => uri.as_str().to_owned(),
        other => format!("{other:?}"),
    }
}

/// A signing request that is what it says: signed by its own key.
pub(super) struct Request(CertificateSigningRequestParams);

impl Request {
    /// Parses it and checks its signature.
    pub(super) fn parse(der: &[u8]) -> Result<Self, IdentityError> {
        if der.len() > LARGEST_REQUEST {
            let problem = format!("{} bytes, more than {LARGEST_REQUEST}", der.len());
            return Err(IdentityError::BadRequest(problem));
        }
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der));
        request.map(Self).map_err(|error| IdentityError::BadRequest(error.to_string()))
    }

    /// SHA-256 of the public key.
    pub(super) fn key_digest(&self) -> Vec<u8> {
        sha256(self.0.public_key.der_bytes())
    }

    /// Refuses a request that names someone else. One that names nobody gets the name of its proof.
    pub(super) fn check_names(&self, id: &SpiffeId) -> Result<(), IdentityError> {
        for name in &self.0.params.subject_alt_names {
            if !matches!(name, SanType::URI(uri) if uri.as_str() == id.as_str()) {
                let (asked, allowed) = (spelled(name), id.as_str().to_owned());
                return Err(IdentityError::ForeignRequest { asked, allowed });
            }
        }
        Ok(())
    }

    /// Signs a certificate for its key. Of everything else that the request wishes for, nothing is taken over.
    pub(super) fn sign(&self, id: &SpiffeId, valid: Validity, root: &Root) -> Result<Vec<u8>, IdentityError> {
        let mut leaf = params(valid)?;
        leaf.subject_alt_names = vec![uri(id.as_str())?];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        leaf.use_authority_key_identifier_extension = true;
        let signed = leaf.signed_by(&self.0.public_key, &root.0).map_err(signing)?;
        Ok(signed.der().to_vec())
    }
}

/// A root that can sign.
pub(super) struct Root(Issuer<'static, KeyPair>);

impl Root {
    pub(super) fn open(certificate: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let key =
            KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(key), &PKCS_ECDSA_P256_SHA256);
        let certificate = CertificateDer::from(certificate.to_vec());
        Issuer::from_ca_cert_der(&certificate, key.map_err(signing)?).map(Self).map_err(signing)
    }
}

/// A self-signed root of a trust domain (X.509-SVID, section 4: a signing certificate has the domain's own id).
pub(super) fn new_root(trust_domain: &str, valid: Validity) -> Result<NewRoot, IdentityError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(signing)?;
    let mut root = params(valid)?;
    root.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))?];
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    root.distinguished_name.push(DnType::CommonName, format!("{trust_domain} {}", random_hex::<4>()?));
    let certificate = root.self_signed(&key).map_err(signing)?;
    Ok(NewRoot { certificate: certificate.der().to_vec(), key: key.serialize_der() })
}

/// The trust domain of such a root.
pub(super) fn trust_domain_of(root: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(root).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix("spiffe://").map(str::to_owned),
        _ => None,
    })
}

fn params(valid: Validity) -> Result<CertificateParams, IdentityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Trama");
    params.not_before = moment(valid.from)?;
    params.not_after = moment(valid.until)?;
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| IdentityError::Signing("no random numbers".to_owned()))?;
    // A serial number is positive (RFC 5280 section 4.1.2.2).
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn uri(text: &str) -> Result<SanType, IdentityError> {
    Ok(SanType::URI(Ia5String::try_from(text).map_err(signing)?))
}

fn moment(seconds: u64) -> Result<OffsetDateTime, IdentityError> {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| IdentityError::Signing(error.to_string()))
}

fn signing(error: impl ToString) -> IdentityError {
    IdentityError::Signing(error.to_string())
}
