//! A workload's identity.

use std::fs;
use std::path::Path;

use pem::Pem;
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use trama_proto::discovery::v1::Node;
use trama_proto::identity::v1::IdentityResponse;
use trama_sidecar::tls::{Credentials, Identity};

use crate::tls::Certified;

/// A workload with its certificate.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// Its account, which is also the name of its only sidecar.
    pub account: String,
    certificate: Vec<u8>,
    key: Vec<u8>,
    bundle: Vec<Vec<u8>>,
}

impl Workload {
    /// Of what an authority gave for a key.
    #[must_use]
    pub fn new(namespace: &str, account: &str, key: &KeyPair, given: &IdentityResponse) -> Self {
        let (certificate, key) = (given.certificate.clone(), key.serialize_der());
        let (namespace, account) = (namespace.to_owned(), account.to_owned());
        Self { namespace, account, certificate, key, bundle: given.bundle.clone() }
    }

    /// Certificate and key, for TLS.
    #[must_use]
    pub fn certified(&self) -> Certified {
        let key = PrivatePkcs8KeyDer::from(self.key.clone());
        (vec![CertificateDer::from(self.certificate.clone())], key.into())
    }

    /// What its sidecar says of the roots that it was given.
    #[must_use]
    pub fn root_digests(&self) -> Vec<Vec<u8>> {
        let (chain, key) = self.certified();
        let bundle = self.bundle.iter().cloned().map(CertificateDer::from).collect();
        Identity::new(Credentials { chain, key, bundle }, 1).unwrap().root_digests()
    }

    /// Writes `identity.pem`, `identity.key` and `ca.pem`.
    pub fn write_to(&self, folder: &Path) {
        fs::write(folder.join("identity.pem"), pem_of(std::slice::from_ref(&self.certificate))).unwrap();
        let key = pem::encode(&Pem::new("PRIVATE KEY", self.key.clone()));
        fs::write(folder.join("identity.key"), key).unwrap();
        fs::write(folder.join("ca.pem"), pem_of(&self.bundle)).unwrap();
    }

    /// What its sidecar says of itself.
    #[must_use]
    pub fn node(&self) -> Node {
        Node {
            identity: super::identity(&self.namespace, &self.account),
            name: self.account.clone(),
            namespace: self.namespace.clone(),
            ..Node::default()
        }
    }
}

/// Certificates in PEM.
#[must_use]
pub fn pem_of(certificates: &[Vec<u8>]) -> String {
    certificates.iter().map(|der| pem::encode(&Pem::new("CERTIFICATE", der.clone()))).collect()
}

/// A signing request that names these URIs.
#[must_use]
pub fn request(key: &KeyPair, names: &[&str]) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.iter().map(|name| SanType::URI((*name).try_into().unwrap())).collect();
    params.serialize_request(key).unwrap().der().to_vec()
}
