//! Identities that a sidecar joins for and renews, as it does: a new key and a new connection each time.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use tonic::transport::{Channel, Endpoint};
use trama_proto::admin::v1::CreateJoinTokenResponse;
use trama_proto::identity::v1::identity_service_client::IdentityServiceClient;
use trama_proto::identity::v1::{IdentityResponse, JoinRequest, RenewRequest};
use trama_proto::spiffe::SpiffeId;
use trama_sidecar::discovery::{Once, dial, server_name};
use trama_sidecar::tls::{Credentials, Identity, OwnKey, to_control_plane};

use super::Result;

/// As a sidecar asks whether its control plane lives.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Who may join.
pub(crate) struct Invited {
    id: SpiffeId,
    token: String,
    roots: Arc<RootCertStore>,
}

impl Invited {
    pub(crate) fn new(id: SpiffeId, made: CreateJoinTokenResponse) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for root in made.bundle {
            roots.add(CertificateDer::from(root))?;
        }
        Ok(Self { id, token: made.token, roots: Arc::new(roots) })
    }

    pub(crate) async fn join(self, address: &str) -> Result<Workload> {
        let Self { id, token, roots } = self;
        let key = OwnKey::generate()?;
        let certificate_signing_request = key.request(&id)?;
        let channel = channel(address, to_control_plane(&roots, &id.control_plane(), None)?).await?;
        let request = JoinRequest { token, certificate_signing_request };
        let given = IdentityServiceClient::new(channel).join(request).await?.into_inner();
        Workload::new(&key, given)
    }
}

/// Who has joined.
pub(crate) struct Workload(Identity);

impl Workload {
    fn new(key: &OwnKey, given: IdentityResponse) -> Result<Self> {
        let credentials = Credentials {
            chain: vec![CertificateDer::from(given.certificate)],
            key: key.into(),
            bundle: given.bundle.into_iter().map(CertificateDer::from).collect(),
        };
        Ok(Self(Identity::new(credentials, 1)?))
    }

    pub(crate) fn id(&self) -> &SpiffeId {
        &self.0.id
    }

    pub(crate) async fn renew(&mut self, address: &str) -> Result<()> {
        let key = OwnKey::generate()?;
        let request = RenewRequest { certificate_signing_request: key.request(self.id())? };
        let channel = self.connect(address).await?;
        let given = IdentityServiceClient::new(channel).renew(request).await?.into_inner();
        *self = Self::new(&key, given)?;
        Ok(())
    }

    /// A connection over mutual TLS.
    pub(crate) async fn connect(&self, address: &str) -> Result<Channel> {
        let config = to_control_plane(self.0.authorities(), &self.0.id.control_plane(), Some(&self.0))?;
        channel(address, config).await
    }
}

async fn channel(address: &str, config: rustls::ClientConfig) -> Result<Channel> {
    let stream = dial(address, server_name(address)?, config).await?;
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_while_idle(true);
    Ok(endpoint.connect_with_connector(Once::new(stream)).await?)
}
