//! Identity from PEM files: certificate chain, key, and the bundle of authorities that we trust.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// Where an identity's files lie.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IdentityFiles {
    /// The certificate chain, our own certificate first.
    pub certificate: PathBuf,
    /// Its key (PKCS#8, SEC1 or PKCS#1).
    pub key: PathBuf,
    /// The authorities that peers' certificates must come from.
    pub bundle: PathBuf,
}

/// Why an identity cannot be used. The old one stays.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file is missing, unreadable or not PEM.
    #[error("{}: {problem}; expected {expected}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What should be there.
        expected: &'static str,
    },
    /// The files can be read but do not make an identity.
    #[error("{}: {problem}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// What the files hold.
pub(super) struct Loaded {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) bundle: Vec<CertificateDer<'static>>,
}

impl IdentityFiles {
    pub(super) fn load(&self) -> Result<Loaded, IdentityError> {
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|e| file_error(&self.key, &e, "a private key in PEM (PKCS#8, SEC1 or PKCS#1)"))?;
        Ok(Loaded { chain: certificates(&self.certificate)?, key, bundle: certificates(&self.bundle)? })
    }
}

/// All certificates of a PEM file; none is an error.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    const EXPECTED: &str = "one or more certificates in PEM";
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|e| file_error(path, &e, EXPECTED))?.collect();
    let found = found.map_err(|e| file_error(path, &e, EXPECTED))?;
    if found.is_empty() {
        let problem = "it holds no certificate".to_owned();
        return Err(IdentityError::File { path: path.into(), problem, expected: EXPECTED });
    }
    Ok(found)
}

fn file_error(path: &Path, error: &rustls_pki_types::pem::Error, expected: &'static str) -> IdentityError {
    IdentityError::File { path: path.into(), problem: error.to_string(), expected }
}

/// Where the files of an explicit listener lie.
#[derive(Clone, Copy, Debug)]
pub struct ListenerFiles<'a> {
    /// The certificate chain, the server's own certificate first.
    pub certificate: &'a Path,
    /// Its key.
    pub key: &'a Path,
    /// The authorities that clients' certificates must come from; `None`: clients need none.
    pub clients: Option<&'a Path>,
}

impl ListenerFiles<'_> {
    /// Loads and checks them.
    pub fn load(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        let key = PrivateKeyDer::from_pem_file(self.key)
            .map_err(|e| file_error(self.key, &e, "a private key in PEM (PKCS#8, SEC1 or PKCS#1)"))?;
        let clients = self.clients.map(certificates).transpose()?;
        super::server::listener_config(certificates(self.certificate)?, key, clients)
            .map(Arc::new)
            .map_err(|e| IdentityError::Content { path: self.key.into(), problem: e.to_string() })
    }
}
