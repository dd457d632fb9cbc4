//! An identity: what both sides of mutual TLS are configured from. Replaced whole by the next one.

use std::{fmt, sync::Arc};

use ::aws_lc_rs::digest::{SHA256, digest};
use rustls::{
    CertificateError, ClientConfig, Error, RootCertStore, ServerConfig,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::{CryptoProvider, aws_lc_rs},
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::{
    client,
    clients::Clients,
    files::{IdentityError, IdentityFiles, unusable},
    server, spiffe,
};
use crate::config::snapshot::SpiffeId;

/// What an identity is made of.
pub struct Credentials {
    /// The certificate chain, our own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// The authorities that peers' certificates must come from.
    pub bundle: Vec<CertificateDer<'static>>,
}

/// Why credentials make no identity.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct Unfit {
    /// What of them.
    pub part: Part,
    /// What is wrong with it.
    pub problem: String,
}

/// A part of credentials.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// The certificate chain.
    Certificate,
    /// The key, or what it has to do with the certificate.
    Key,
    /// The authorities.
    Bundle,
}

/// A certificate with its key and the authorities that we trust, at one revision.
pub struct Identity {
    /// Rises with each change; connections are kept apart by it.
    pub revision: u64,
    /// Who we are.
    pub id: SpiffeId,
    /// When our certificate ends, seconds since 1970.
    pub not_after: i64,
    /// The server side of the mesh port.
    pub server: Arc<ServerConfig>,
    source: Credentials,
    roots: Arc<RootCertStore>,
    clients: Clients<(SpiffeId, client::Carried)>,
}

impl Identity {
    /// Loads and checks an identity.
    pub fn load(files: &IdentityFiles, revision: u64) -> Result<Self, IdentityError> {
        Self::new(files.load()?, revision).map_err(|unfit| files.blame(unfit))
    }

    /// Checks credentials and makes an identity of them.
    pub fn new(source: Credentials, revision: u64) -> Result<Self, Unfit> {
        let unfit = |part, problem: String| Unfit { part, problem };
        let none = || unfit(Part::Certificate, "there is no certificate".to_owned());
        let certificate = source.chain.first().ok_or_else(none)?;
        let id = spiffe::spiffe_id_of(certificate).map_err(|rule| {
            let remedy = "issue it with one URI there, the workload's SPIFFE id, such as `spiffe://mesh.local/ns/shop/sa/orders`";
            unfit(Part::Certificate, format!("{rule}; {remedy}"))
        })?;
        let not_after = spiffe::not_after(certificate).unwrap_or_default();
        let mut roots = RootCertStore::empty();
        for authority in &source.bundle {
            roots.add(authority.clone()).map_err(|e| unfit(Part::Bundle, e.to_string()))?;
        }
        let roots = Arc::new(roots);
        let server = server::config(&source, &roots).map_err(|e| unfit(Part::Key, unusable(&e)))?;
        Ok(Self { revision, id, not_after, server, source, roots, clients: Clients::default() })
    }

    /// Our certificate's chain and its key.
    pub(super) fn certificate(&self) -> (&[CertificateDer<'static>], &PrivateKeyDer<'static>) {
        (&self.source.chain, &self.source.key)
    }

    /// The authorities that came with it.
    pub fn authorities(&self) -> &Arc<RootCertStore> {
        &self.roots
    }

    /// SHA-256 of each of them, in DER.
    pub fn root_digests(&self) -> Vec<Vec<u8>> {
        self.source.bundle.iter().map(|root| digest(&SHA256, root).as_ref().to_vec()).collect()
    }

    /// Whether a peer with the same authorities would take our certificate at `now`.
    pub fn verify(&self, now: UnixTime) -> Result<(), Error> {
        let (certificate, others) =
            self.source.chain.split_first().expect("an identity is made of a certificate");
        let algorithms = provider().signature_verification_algorithms.all;
        let certificate = ParsedCertificate::try_from(certificate)?;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, others, now, algorithms)
    }

    /// The same, and why not in words.
    pub fn judge(&self, now: UnixTime) -> Result<(), Unfit> {
        self.verify(now).map_err(|error| {
            let problem = match error {
                // The second: of an authority that has the same name and is another.
                Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                    "no authority of the bundle has issued it; add its authority there, or name its own bundle".to_owned()
                }
                error => format!("no peer will take it: {error}; issue another one"),
            };
            Unfit { part: Part::Certificate, problem }
        })
    }

    /// The client side towards a peer that must be `expected`. Called when a connection is made, never for a request.
    pub fn client(&self, expected: &SpiffeId, carried: client::Carried) -> Result<Arc<ClientConfig>, Error> {
        self.clients.of((expected.clone(), carried), |(expected, carried)| {
            client::config(&self.source, &self.roots, expected, *carried)
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

/// Has the library make its first random number, for which it gathers entropy.
pub fn gather_entropy() {
    // A failure is told to who needs one.
    provider().secure_random.fill(&mut [0]).ok();
}

/// The one cryptography provider.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
