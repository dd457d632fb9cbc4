//! A certificate authority for one run: identities of workloads, and what is wrong with some of them.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, Error, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
};

/// A trust domain's authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, both PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// A new authority with a key of its own.
    pub fn new() -> Result<Self, Error> {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        // Of its own: OpenSSL takes a certificate whose issuer has its subject's name for a self-signed one.
        parameters.distinguished_name.push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate()?;
        let certificate = parameters.self_signed(&key)?;
        Ok(Self { pem: certificate.pem(), issuer: Issuer::new(parameters, key) })
    }

    /// Its own certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate that carries a SPIFFE id.
    pub fn issue(&self, identity: &str) -> Result<Issued, Error> {
        self.sign(workload(identity)?)
    }

    /// The same, but its time is over.
    pub fn issue_expired(&self, identity: &str) -> Result<Issued, Error> {
        self.sign(expired(workload(identity)?))
    }

    /// A certificate that carries a SPIFFE id for so long, in whole seconds.
    pub fn issue_for(&self, identity: &str, time: Duration) -> Result<Issued, Error> {
        let mut parameters = workload(identity)?;
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        parameters.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs((now + time).as_secs());
        self.sign(parameters)
    }

    /// A certificate for a host's name.
    pub fn issue_for_host(&self, host: &str) -> Result<Issued, Error> {
        self.sign(CertificateParams::new(vec![host.to_owned()])?)
    }

    /// The same, but its time is over.
    pub fn issue_expired_for_host(&self, host: &str) -> Result<Issued, Error> {
        self.sign(expired(CertificateParams::new(vec![host.to_owned()])?))
    }

    fn sign(&self, parameters: CertificateParams) -> Result<Issued, Error> {
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn workload(identity: &str) -> Result<CertificateParams, Error> {
    let mut parameters = CertificateParams::default();
    parameters.subject_alt_names = vec![SanType::URI(identity.try_into()?)];
    Ok(parameters)
}

fn expired(mut parameters: CertificateParams) -> CertificateParams {
    parameters.not_before = date_time_ymd(2001, 1, 1);
    parameters.not_after = date_time_ymd(2002, 1, 1);
    parameters
}
