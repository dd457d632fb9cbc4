//! The control plane's own certificate, from its own authority: renewed at half of its life, and the roots with it.

use std::{sync::Arc, time::Duration};

use rcgen::{CertificateParams, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;
use trama_proto::spiffe::SpiffeId;

use crate::identity::{Authority, IdentityError, Issued};

/// What the TLS side is configured from.
pub(crate) struct Credentials {
    id: SpiffeId,
    key: KeyPair,
    issued: Issued,
    /// In seconds since 1970.
    since: u64,
    config: watch::Sender<Arc<ServerConfig>>,
}

impl Credentials {
    /// The first certificate.
    pub(crate) async fn first(authority: &Authority, id: SpiffeId, now: u64) -> Result<Self, IdentityError> {
        let key = KeyPair::generate().map_err(signing)?;
        let issued = authority.renew(&id, &request(&key)?, now).await?;
        let config = watch::Sender::new(config(&issued, &key)?);
        Ok(Self { id, key, issued, since: now, config })
    }

    /// What new handshakes are made with.
    pub(crate) fn config(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.config.subscribe()
    }

    /// When the certificate ends, in seconds since 1970.
    pub(crate) fn expires(&self) -> u64 {
        self.issued.expires
    }

    /// Renews the certificate if half of its life is over or the roots have changed.
    pub(crate) async fn keep(&mut self, authority: &Authority, now: u64) -> Result<(), IdentityError> {
        let half = self.since + self.issued.expires.saturating_sub(self.since) / 2;
        if now < half && authority.bundle(now).await? == self.issued.bundle {
            return Ok(());
        }
        let key = KeyPair::generate().map_err(signing)?;
        let issued = authority.renew(&self.id, &request(&key)?, now).await?;
        self.config.send_replace(config(&issued, &key)?);
        (self.key, self.issued, self.since) = (key, issued, now);
        Ok(())
    }

    /// How often to look, for certificates that hold this long.
    pub(crate) fn look_every(lifetime: Duration) -> Duration {
        (lifetime / 10).clamp(Duration::from_millis(100), Duration::from_secs(60))
    }
}

fn request(key: &KeyPair) -> Result<Vec<u8>, IdentityError> {
    let request = CertificateParams::default().serialize_request(key).map_err(signing)?;
    Ok(request.der().to_vec())
}

/// TLS 1.3, HTTP/2, a client certificate if the client has one: who joins has none yet. Sessions are not resumed, because
/// nobody would look at the certificate again.
fn config(issued: &Issued, key: &KeyPair) -> Result<Arc<ServerConfig>, IdentityError> {
    let mut roots = RootCertStore::empty();
    for root in &issued.bundle {
        roots.add(CertificateDer::from(root.clone())).map_err(signing)?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(signing)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(signing)?
        .with_client_cert_verifier(clients)
        .with_single_cert(
            vec![CertificateDer::from(issued.certificate.clone())],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .map_err(signing)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

fn signing(error: impl ToString) -> IdentityError {
    IdentityError::Signing(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::{SealingKey, Settings},
        store::Memory,
    };

    #[tokio::test]
    async fn it_is_renewed_at_half_of_its_life_and_when_the_roots_change() {
        const NOW: u64 = 1_795_000_000;
        const DAY: u64 = 86_400;
        let key = SealingKey::new(&[7; 32]).unwrap();
        let settings = Settings::new("mesh.test");
        let authority = Authority::open(Arc::new(Memory::new(1)), key, settings, NOW).await.unwrap();
        let id = SpiffeId::parse("spiffe://mesh.test/ns/trama-system/sa/trama-control-plane").unwrap();
        let mut credentials = Credentials::first(&authority, id, NOW).await.unwrap();
        let mut config = credentials.config();
        assert_eq!(credentials.expires(), NOW + DAY);

        credentials.keep(&authority, NOW + DAY / 2 - 1).await.unwrap();
        assert!(!config.has_changed().unwrap());
        credentials.keep(&authority, NOW + DAY / 2).await.unwrap();
        assert!(config.has_changed().unwrap());
        assert_eq!(credentials.expires(), NOW + DAY / 2 + DAY);

        config.mark_unchanged();
        authority.rotate(NOW + DAY / 2 + 1).await.unwrap();
        credentials.keep(&authority, NOW + DAY / 2 + 1).await.unwrap();
        assert!(config.has_changed().unwrap(), "a new root is trusted before it signs");
    }
}
