//! Identity from PEM files: certificate chain, key, and the bundle of authorities that we trust.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{Error, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{Credentials, Part, Unfit, server};
use crate::config::snapshot::CertificateName;

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

impl IdentityFiles {
    /// All of them.
    pub fn paths(&self) -> Vec<PathBuf> {
        vec![self.certificate.clone(), self.key.clone(), self.bundle.clone()]
    }

    pub(super) fn load(&self) -> Result<Credentials, IdentityError> {
        Ok(Credentials {
            chain: certificates(&self.certificate)?,
            key: private_key(&self.key)?,
            bundle: certificates(&self.bundle)?,
        })
    }

    /// Says which file is to blame.
    pub fn blame(&self, Unfit { part, problem }: Unfit) -> IdentityError {
        let path = match part {
            Part::Certificate => &self.certificate,
            Part::Key => &self.key,
            Part::Bundle => &self.bundle,
        };
        IdentityError::Content { path: path.clone(), problem }
    }
}

pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|e| file_error(path, &e, "a private key in PEM (PKCS#8, SEC1 or PKCS#1)"))
}

/// All certificates of a PEM file; none is an error.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
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

/// Why a certificate chain and a key make no configuration.
pub(super) fn unusable(error: &Error) -> String {
    match error {
        Error::InconsistentKeys(_) => {
            "not the key of the certificate; name the one that the certificate was issued for".to_owned()
        }
        error => error.to_string(),
    }
}

fn file_error(path: &Path, error: &rustls_pki_types::pem::Error, expected: &'static str) -> IdentityError {
    IdentityError::File { path: path.into(), problem: error.to_string(), expected }
}

/// Where the files of an explicit listener lie.
#[derive(Clone, Debug)]
pub struct ListenerFiles {
    /// The certificate chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whose certificates its clients must show; `None`: they need none.
    pub clients: Option<ListenerClients>,
}

/// Whose certificates the clients of a listener must show.
#[derive(Clone, Debug)]
pub struct ListenerClients {
    /// The authorities that they must come from.
    pub authorities: PathBuf,
    /// One of which they must carry; empty: any will do.
    pub names: Vec<CertificateName>,
}

impl ListenerFiles {
    /// All of them.
    pub fn paths(&self) -> Vec<PathBuf> {
        let clients = self.clients.as_ref().map(|clients| &clients.authorities);
        [&self.certificate, &self.key].into_iter().chain(clients).cloned().collect()
    }

    /// Loads and checks them.
    pub fn load(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        let clients = self.clients.as_ref().map(|clients| {
            let authorities = certificates(&clients.authorities)?;
            Ok((authorities, clients.names.clone()))
        });
        let clients = clients.transpose()?;
        server::listener_config(certificates(&self.certificate)?, private_key(&self.key)?, clients)
            .map(Arc::new)
            .map_err(|error| IdentityError::Content { path: self.key.clone(), problem: unusable(&error) })
    }
}
