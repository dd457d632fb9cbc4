//! An identity, loaded: what both sides of mutual TLS are configured from. Replaced whole when its files change.

use std::{collections::HashMap, fmt, sync::Arc};

use parking::Lock;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
};

use super::{
    client,
    files::{IdentityError, IdentityFiles, Loaded},
    server, spiffe,
};
use crate::config::snapshot::SpiffeId;

/// A certificate with its key and the authorities that we trust, at one revision.
pub struct Identity {
    /// Rises with each change of the files; connections are kept apart by it.
    pub revision: u64,
    /// Who we are.
    pub id: SpiffeId,
    /// When our certificate ends, seconds since 1970.
    pub not_after: i64,
    /// The server side of the mesh port.
    pub server: Arc<ServerConfig>,
    source: Loaded,
    roots: Arc<RootCertStore>,
    clients: Lock<HashMap<(SpiffeId, client::Carried), Arc<ClientConfig>>>,
}

impl Identity {
    /// Loads and checks an identity.
    pub fn load(files: &IdentityFiles, revision: u64) -> Result<Self, IdentityError> {
        let source = files.load()?;
        let content =
            |path: &std::path::Path, problem: String| IdentityError::Content { path: path.into(), problem };
        let certificate = &source.chain[0];
        let id = spiffe::spiffe_id_of(certificate).map_err(|e| content(&files.certificate, e.to_owned()))?;
        let not_after = spiffe::not_after(certificate).unwrap_or_default();
        let mut roots = RootCertStore::empty();
        for authority in &source.bundle {
            roots.add(authority.clone()).map_err(|e| content(&files.bundle, e.to_string()))?;
        }
        let roots = Arc::new(roots);
        let server = server::config(&source, &roots).map_err(|e| content(&files.key, e.to_string()))?;
        Ok(Self { revision, id, not_after, server, source, roots, clients: Lock::default() })
    }

    /// The client side towards a peer that must be `expected`. Kept, so that TLS sessions are resumed. Called when a
    /// connection is made, never for a request.
    pub fn client(
        &self,
        expected: &SpiffeId,
        carried: client::Carried,
    ) -> Result<Arc<ClientConfig>, rustls::Error> {
        let key = (expected.clone(), carried);
        self.clients.with(|clients| {
            if let Some(config) = clients.get(&key) {
                return Ok(Arc::clone(config));
            }
            let config = Arc::new(client::config(&self.source, &self.roots, expected, carried)?);
            clients.insert(key, Arc::clone(&config));
            Ok(config)
        })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("id", &self.id)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

/// The one cryptography provider.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

mod parking {
    use std::sync::{Mutex, PoisonError};

    /// A lock that is only ever held for the length of a closure.
    #[derive(Default)]
    pub(super) struct Lock<T>(Mutex<T>);

    impl<T> Lock<T> {
        pub(super) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
            f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }
    }
}
