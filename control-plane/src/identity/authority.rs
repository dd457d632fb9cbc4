//! The certificate authority. It holds nothing but the key to its keys: what it knows is in the store, so that any
//! number of control planes are one authority.

use std::{sync::Arc, time::Duration};

use prost::Message;
use trama_proto::spiffe::SpiffeId;

use super::{
    IdentityError, SealingKey,
    certificate::{self, Request, Validity},
    records,
    roots::{Root, Schedule},
    token::random_hex,
};
use crate::store::{Change, Expect, Store, StoreError};

/// How the authority behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The trust domain, such as `trama.local`.
    pub trust_domain: String,
    /// How long a workload's certificate holds. Default: 24 h.
    pub leaf_lifetime: Duration,
    /// How long a root's certificate holds; at half of it the next one is made. Default: 10 years.
    pub root_lifetime: Duration,
    /// How long a new root is trusted before it signs. Default: 24 h.
    pub overlap: Duration,
    /// How far clocks may be apart: a certificate begins this long before it is issued. Default: 5 min.
    pub skew: Duration,
}

impl Settings {
    /// The defaults.
    pub fn new(trust_domain: impl Into<String>) -> Self {
        const HOUR: u64 = 3600;
        Self {
            trust_domain: trust_domain.into(),
            leaf_lifetime: Duration::from_secs(24 * HOUR),
            root_lifetime: Duration::from_secs(10 * 365 * 24 * HOUR),
            overlap: Duration::from_secs(24 * HOUR),
            skew: Duration::from_secs(300),
        }
    }

    fn schedule(&self) -> Schedule {
        Schedule {
            root_lifetime: self.root_lifetime.as_secs(),
            leaf_lifetime: self.leaf_lifetime.as_secs(),
            overlap: self.overlap.as_secs(),
            skew: self.skew.as_secs(),
        }
    }
}

/// An identity, given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Whose.
    pub id: SpiffeId,
    /// The certificate, DER. It is signed by a root directly: there is no chain.
    pub certificate: Vec<u8>,
    /// When it ends, in seconds since 1970.
    pub expires: u64,
    /// The roots to trust, DER.
    pub bundle: Vec<Vec<u8>>,
}

/// Gives identities. Times that go in are seconds since 1970.
pub struct Authority {
    pub(super) store: Arc<dyn Store>,
    key: SealingKey,
    settings: Settings,
}

impl Authority {
    /// An authority over a store; makes the first root if there is none.
    pub async fn open(
        store: Arc<dyn Store>,
        key: SealingKey,
        settings: Settings,
        now: u64,
    ) -> Result<Self, IdentityError> {
        let authority = Self { store, key, settings };
        authority.check_roots(&authority.roots().await?)?;
        authority.maintain(now).await?;
        // To be found out now rather than at the first signing.
        authority.signer(&authority.roots().await?, now)?;
        Ok(authority)
    }

    /// Makes a new root when it is time for one, and forgets those that nobody needs. To be called now and then.
    pub async fn maintain(&self, now: u64) -> Result<(), IdentityError> {
        let schedule = self.settings.schedule();
        let roots = self.roots().await?;
        if schedule.due(&roots, now) {
            return self.rotate(now).await;
        }
        let forgotten = roots.iter().filter(|root| !schedule.trusted(root, &roots, now));
        let changes = forgotten.map(|root| Change::delete(&root.key)).collect();
        self.store.transact(changes).await?;
        Ok(())
    }

    /// Makes a new root, which everybody trusts first and which signs after the overlap.
    pub async fn rotate(&self, now: u64) -> Result<(), IdentityError> {
        let schedule = self.settings.schedule();
        let roots = self.roots().await?;
        let valid = Validity { from: now.saturating_sub(schedule.skew), until: now + schedule.root_lifetime };
        let made = certificate::new_root(&self.settings.trust_domain, valid)?;
        let name = if roots.is_empty() { "first".to_owned() } else { random_hex::<8>()? };
        let key = format!("{}{name}", records::ROOTS);
        let root = records::Root {
            certificate: made.certificate,
            sealed_key: self.key.seal(&key, &made.key)?,
            signs_from: schedule.signs_from(&roots, now),
            expires: valid.until,
        };
        let change = Change::put(&key, root.encode_to_vec()).expecting(Expect::Absent);
        match self.store.transact(vec![change]).await {
            // Two control planes began at once: the first root of the other one is as good.
            Err(StoreError::Conflict { .. }) => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    /// The roots to trust, DER.
    pub async fn bundle(&self, now: u64) -> Result<Vec<Vec<u8>>, IdentityError> {
        Ok(self.trusted(&self.roots().await?, now))
    }

    /// Renews the certificate of a workload that has proved by the one it has that it is `id`.
    pub async fn renew(&self, id: &SpiffeId, request: &[u8], now: u64) -> Result<Issued, IdentityError> {
        self.check_domain(id)?;
        self.issue(id, &Request::parse(request)?, now).await
    }

    pub(super) async fn issue(
        &self,
        id: &SpiffeId,
        request: &Request,
        now: u64,
    ) -> Result<Issued, IdentityError> {
        request.check_names(id)?;
        let schedule = self.settings.schedule();
        let roots = self.roots().await?;
        let (root, root_expires) = self.signer(&roots, now)?;
        let expires = (now + schedule.leaf_lifetime).min(root_expires);
        let valid = Validity { from: now.saturating_sub(schedule.skew), until: expires };
        let certificate = request.sign(id, valid, &root)?;
        Ok(Issued { id: id.clone(), certificate, expires, bundle: self.trusted(&roots, now) })
    }

    /// A root speaks for its own trust domain. Under another name it would sign what no sidecar takes, or should.
    fn check_roots(&self, roots: &[Root]) -> Result<(), IdentityError> {
        let configured = &self.settings.trust_domain;
        let domains = roots.iter().filter_map(|root| certificate::trust_domain_of(&root.certificate));
        match domains.into_iter().find(|domain| domain != configured) {
            Some(stored) => Err(IdentityError::OtherDomain { stored, configured: configured.clone() }),
            None => Ok(()),
        }
    }

    pub(super) fn check_domain(&self, id: &SpiffeId) -> Result<(), IdentityError> {
        let own = &self.settings.trust_domain;
        if id.trust_domain() == own {
            return Ok(());
        }
        let rule = format!("its trust domain is `{}`, this mesh's is `{own}`", id.trust_domain());
        Err(IdentityError::BadIdentity { id: id.as_str().to_owned(), rule })
    }

    fn signer(&self, roots: &[Root], now: u64) -> Result<(certificate::Root, u64), IdentityError> {
        let root = self.settings.schedule().signer(roots, now);
        let root = root
            .ok_or_else(|| IdentityError::Signing("no root may sign yet: is the clock right?".to_owned()))?;
        let secret = self.key.open(&root.key, &root.sealed_key)?;
        Ok((certificate::Root::open(&root.certificate, &secret)?, root.expires))
    }

    fn trusted(&self, roots: &[Root], now: u64) -> Vec<Vec<u8>> {
        let schedule = self.settings.schedule();
        let trusted = roots.iter().filter(|root| schedule.trusted(root, roots, now));
        trusted.map(|root| root.certificate.clone()).collect()
    }

    async fn roots(&self) -> Result<Vec<Root>, IdentityError> {
        let listing = self.store.list(records::ROOTS, None, usize::MAX).await?;
        listing.entries.into_iter().map(Root::read).collect()
    }
}
