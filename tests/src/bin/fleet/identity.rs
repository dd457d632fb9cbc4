//! Identities that a sidecar joins for and renews, as it does: a new key and a new connection each time.

use std::fs;
use std::path::Path;

use rustls_pki_types::CertificateDer;
use tonic::transport::Channel;
use trama_proto::admin::v1::CreateJoinTokenResponse;
use trama_proto::identity::v1::identity_service_client::IdentityServiceClient;
use trama_proto::identity::v1::{IdentityResponse, JoinRequest, RenewRequest};
use trama_proto::spiffe::SpiffeId;
use trama_sidecar::discovery::ControlPlane;
use trama_sidecar::tls::{Credentials, Identity, InForce, OwnKey};
use trama_tests::control_plane::pem_of;

use super::Result;

/// Who may join.
pub(crate) struct Invited {
    id: SpiffeId,
    token: String,
    way: ControlPlane,
}

impl Invited {
    /// `pinned`: where the roots to trust are kept, the same for all.
    pub(crate) fn new(
        id: SpiffeId,
        made: CreateJoinTokenResponse,
        address: &str,
        pinned: &Path,
    ) -> Result<Self> {
        fs::write(pinned, pem_of(&made.bundle))?;
        let way = ControlPlane {
            address: address.to_owned(),
            pinned: pinned.to_owned(),
            gives_identity: true,
            expected: None,
            identity: InForce::default(),
        };
        Ok(Self { id, token: made.token, way })
    }

    pub(crate) async fn join(self) -> Result<Workload> {
        let Self { id, token, way } = self;
        let key = OwnKey::generate()?;
        let certificate_signing_request = key.request(&id)?;
        let channel = way.connect_to_join(&id).await?;
        let request = JoinRequest { token, certificate_signing_request };
        let given = IdentityServiceClient::new(channel).join(request).await?.into_inner();
        let workload = Workload { id, way };
        workload.put(&key, given)?;
        Ok(workload)
    }
}

/// Who has joined.
pub(crate) struct Workload {
    id: SpiffeId,
    way: ControlPlane,
}

impl Workload {
    pub(crate) fn id(&self) -> &SpiffeId {
        &self.id
    }

    pub(crate) async fn renew(&self) -> Result<()> {
        let key = OwnKey::generate()?;
        let request = RenewRequest { certificate_signing_request: key.request(&self.id)? };
        let channel = self.connect().await?;
        let given = IdentityServiceClient::new(channel).renew(request).await?.into_inner();
        self.put(&key, given)
    }

    /// A connection over mutual TLS.
    pub(crate) async fn connect(&self) -> Result<Channel> {
        Ok(self.way.connect().await?.0)
    }

    /// Puts what was given into force.
    fn put(&self, key: &OwnKey, given: IdentityResponse) -> Result<()> {
        let credentials = Credentials {
            chain: vec![CertificateDer::from(given.certificate)],
            key: key.into(),
            bundle: given.bundle.into_iter().map(CertificateDer::from).collect(),
        };
        self.way.identity.put(Identity::new(credentials, 1)?);
        Ok(())
    }
}
