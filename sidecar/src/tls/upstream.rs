//! TLS to endpoints without a sidecar: authorities and client certificates from files, what is offered by ALPN.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwapOption;
use rustls::{ClientConfig, Error, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{
    clients::Clients,
    files::{IdentityError, certificates, private_key, unusable},
    identity::provider,
    verify::{VerifyPeer, Wanted},
};
use crate::config::snapshot::BackendTls;

/// Where systems keep the authorities that they trust: Debian and Alpine, Red Hat, SUSE, the BSDs.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What an endpoint is offered by ALPN (RFC 7301); the first is what we would rather speak.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Offer {
    /// HTTP/1.1. An endpoint that knows no ALPN speaks it too.
    Http1,
    /// HTTP/2 (RFC 9113 section 3.2: over TLS it is always negotiated).
    Http2,
    /// Either, HTTP/1.1 rather.
    Http1OrHttp2,
    /// Either, HTTP/2 rather.
    Http2OrHttp1,
    /// Opaque bytes: no ALPN.
    Tcp,
}

impl Offer {
    fn protocols(self) -> Vec<Vec<u8>> {
        let (http1, http2) = (b"http/1.1".to_vec(), b"h2".to_vec());
        match self {
            Self::Http1 => vec![http1],
            Self::Http2 => vec![http2],
            Self::Http1OrHttp2 => vec![http1, http2],
            Self::Http2OrHttp1 => vec![http2, http1],
            Self::Tcp => Vec::new(),
        }
    }
}

/// Where the files for some endpoints lie.
#[derive(Clone, Debug)]
pub struct UpstreamFiles {
    /// The authorities that endpoints' certificates must come from; `None`: the system's.
    pub authorities: Option<PathBuf>,
    /// The client certificate's chain and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl UpstreamFiles {
    /// All of them.
    pub fn paths(&self) -> Vec<PathBuf> {
        let client = self.client.iter().flat_map(|(chain, key)| [chain, key]);
        std::iter::once(self.authorities()).chain(client.cloned()).collect()
    }

    fn authorities(&self) -> PathBuf {
        let system = || {
            let there = SYSTEM.iter().map(Path::new).find(|path| path.exists());
            there.unwrap_or_else(|| Path::new(SYSTEM[0])).to_owned()
        };
        self.authorities.clone().unwrap_or_else(system)
    }

    /// Loads and checks them.
    pub fn load(&self, revision: u64) -> Result<UpstreamTls, IdentityError> {
        let authorities = self.authorities();
        let mut roots = RootCertStore::empty();
        let (taken, _) = roots.add_parsable_certificates(certificates(&authorities)?);
        if taken == 0 {
            let problem = "no certificate in it can be an authority's".to_owned();
            return Err(IdentityError::Content { path: authorities, problem });
        }
        let client = self.client.as_ref().map(|(chain, key)| Ok((certificates(chain)?, private_key(key)?)));
        let loaded = UpstreamTls {
            revision,
            roots: Arc::new(roots),
            client: client.transpose()?,
            configs: Clients::default(),
        };
        // Whether chain and key belong together shows when they are used.
        if let Some((_, key)) = &self.client {
            let config =
                ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
            config
                .and_then(|config| {
                    loaded.with_client(config.with_root_certificates(Arc::clone(&loaded.roots)))
                })
                .map_err(|error| IdentityError::Content { path: key.clone(), problem: unusable(&error) })?;
        }
        Ok(loaded)
    }
}

/// Authorities, and a client certificate, at one revision.
pub struct UpstreamTls {
    /// Rises with each change of the files; connections are kept apart by it.
    pub revision: u64,
    roots: Arc<RootCertStore>,
    client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    configs: Clients<(Arc<BackendTls>, Offer)>,
}

impl UpstreamTls {
    /// The client side towards endpoints of this kind. Called when a connection is made, never for a request.
    pub fn client(&self, endpoints: &Arc<BackendTls>, offer: Offer) -> Result<Arc<ClientConfig>, Error> {
        self.configs.of((Arc::clone(endpoints), offer), |(endpoints, offer)| {
            let verifier = VerifyPeer::new(&self.roots, Wanted::Names(Arc::clone(endpoints)));
            let builder = ClientConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier));
            let mut config = self.with_client(builder)?;
            config.alpn_protocols = offer.protocols();
            Ok(config)
        })
    }

    fn with_client(
        &self,
        builder: rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>,
    ) -> Result<ClientConfig, Error> {
        match &self.client {
            None => Ok(builder.with_no_client_auth()),
            Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key()),
        }
    }
}

impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamTls").field("revision", &self.revision).finish_non_exhaustive()
    }
}

/// What is in force of each entry of the configuration; the entry without a name is the system's authorities.
#[derive(Debug, Default)]
pub struct UpstreamTlsByName(HashMap<Box<str>, ArcSwapOption<UpstreamTls>>);

impl UpstreamTlsByName {
    /// These names, with nothing in force yet.
    pub fn new<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        Self(names.chain([""]).map(|name| (name.into(), ArcSwapOption::empty())).collect())
    }

    /// Whether there is an entry of this name.
    pub fn knows(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// What is in force; `None`: no such entry, or its files could never be used.
    pub fn in_force(&self, name: &str) -> Option<Arc<UpstreamTls>> {
        self.0.get(name)?.load_full()
    }

    /// The revision in force; 0: none.
    pub fn revision(&self, name: &str) -> u64 {
        self.0.get(name).and_then(|entry| entry.load().as_ref().map(|tls| tls.revision)).unwrap_or(0)
    }

    /// Puts an entry in force.
    pub fn put(&self, name: &str, tls: UpstreamTls) {
        if let Some(entry) = self.0.get(name) {
            entry.store(Some(Arc::new(tls)));
        }
    }
}
