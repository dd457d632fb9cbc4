//! The way to the control plane: one TCP connection, TLS 1.3 with both certificates (who joins has none yet), HTTP/2 for
//! gRPC.

use std::{io, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use trama_proto::spiffe::SpiffeId;

use super::{
    clock,
    dial::{self, Once},
};
use crate::{
    telemetry::ReceiverTls,
    tls::{self, Identity, IdentityError, InForce},
};

/// How long a connection may take to be made, and what is said first to be taken.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// A control plane that is silent for so long is asked whether it lives, and gone if it does not say so in time.
const KEEPALIVE: Duration = Duration::from_secs(15);
const GONE: Duration = Duration::from_secs(20);
/// A large push must not wait for the way back every 64 KiB.
const WINDOW: u32 = 4 * 1024 * 1024;

/// Where the control plane is, who it must be, and who we are.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    /// Host and port.
    pub address: String,
    /// The file of the authorities that its certificate must come from.
    pub pinned: PathBuf,
    /// Whether it gives us our identity. The authorities that came with that take the place of the pinned ones then.
    pub gives_identity: bool,
    /// Its identity; `None`: the usual one of our own trust domain.
    pub expected: Option<SpiffeId>,
    /// Our own identity in force.
    pub identity: InForce,
}

/// Why the control plane is not reached.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// Its authorities cannot be read.
    #[error("controlPlane.bundle: {0}")]
    Authorities(#[from] IdentityError),
    /// There is no client that could speak with it.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// Its address names no host.
    #[error("controlPlane.address: {address:?}: {problem}")]
    Address {
        /// Where.
        address: String,
        /// Why not.
        problem: String,
    },
    /// There is no connection, or TLS refuses it.
    #[error("{address}: {error}")]
    Connect {
        /// Where.
        address: String,
        /// Why not.
        error: io::Error,
    },
    /// It takes too long.
    #[error("{address}: not within {PATIENCE:?}")]
    Late {
        /// Where.
        address: String,
    },
    /// It does not speak HTTP/2.
    #[error("{address}: {error}")]
    Http {
        /// Where.
        address: String,
        /// Why not.
        error: tonic::transport::Error,
    },
}

impl Unreachable {
    /// What TLS has against it, where it was TLS.
    pub(super) fn tls(&self) -> Option<&rustls::Error> {
        match self {
            Self::Tls(error) => Some(error),
            Self::Connect { error, .. } => error.get_ref()?.downcast_ref(),
            _ => None,
        }
    }
}

impl ControlPlane {
    /// Connects anew, once there is an identity that holds. Gives our own address on that way too: the pod's, if it has but one.
    pub async fn connect(&self) -> Result<(Channel, Option<IpAddr>), Unreachable> {
        let own = self.identity.holding(clock::seconds).await;
        self.reach(self.client(&own)?).await
    }

    /// What a Hello says of the roots that it gave us; nothing, if ours are not its to give.
    pub(super) fn given_roots(&self) -> Vec<Vec<u8>> {
        let own = self.identity.load();
        let given = own.as_ref().filter(|_| self.gives_identity);
        given.map(|own| own.root_digests()).unwrap_or_default()
    }

    /// Connects without an identity, to have this one.
    pub async fn connect_to_join(&self, wanted: &SpiffeId) -> Result<Channel, Unreachable> {
        let authorities = tls::pinned(&self.pinned)?;
        let config = tls::to_control_plane(&authorities, &self.expected_by(wanted), None)?;
        Ok(self.reach(config).await?.0)
    }

    async fn reach(&self, config: rustls::ClientConfig) -> Result<(Channel, Option<IpAddr>), Unreachable> {
        let address = || self.address.clone();
        let dialled = timeout(PATIENCE, self.dial(config)).await;
        let stream = dialled.map_err(|_| Unreachable::Late { address: address() })??;
        let own = stream.get_ref().0.local_addr().ok().map(|own| own.ip().to_canonical());
        let endpoint =
            Endpoint::from_shared(format!("http://{}", self.address)).map_err(|error| self.http(error))?;
        let endpoint = endpoint
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(GONE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        let connected = timeout(PATIENCE, endpoint.connect_with_connector(Once::new(stream))).await;
        let connected = connected.map_err(|_| Unreachable::Late { address: address() })?;
        connected.map(|channel| (channel, own)).map_err(|error| self.http(error))
    }

    /// The way there for spans: who is at both ends is looked at when a connection is made, as it is for policy. `None`: its
    /// address names no host.
    pub fn receiver_tls(&self) -> Option<ReceiverTls> {
        let server_name = dial::server_name(&self.address).ok()?;
        let way = self.clone();
        let in_force = move || {
            let own = way.identity.load_full().ok_or_else(|| "there is no identity yet".to_owned())?;
            way.client(&own).map(Arc::new).map_err(|error| error.to_string())
        };
        let identity = self.identity.clone();
        let revision = Arc::new(move || identity.load().as_ref().map_or(0, |own| own.revision));
        Some(ReceiverTls { server_name, config: Arc::new(in_force), revision })
    }

    /// A client for one connection, as who we are.
    fn client(&self, own: &Identity) -> Result<rustls::ClientConfig, Unreachable> {
        let authorities = match self.gives_identity {
            true => Arc::clone(own.authorities()),
            false => tls::pinned(&self.pinned)?,
        };
        Ok(tls::to_control_plane(&authorities, &self.expected_by(&own.id), Some(own))?)
    }

    /// Who it must be, for a workload.
    fn expected_by(&self, workload: &SpiffeId) -> SpiffeId {
        self.expected.clone().unwrap_or_else(|| workload.control_plane())
    }

    async fn dial(&self, config: rustls::ClientConfig) -> Result<TlsStream<TcpStream>, Unreachable> {
        let name = dial::server_name(&self.address).map_err(|error| Unreachable::Address {
            address: self.address.clone(),
            problem: error.to_string(),
        })?;
        let dialled = dial::dial(&self.address, name, config).await;
        dialled.map_err(|error| Unreachable::Connect { address: self.address.clone(), error })
    }

    fn http(&self, error: tonic::transport::Error) -> Unreachable {
        Unreachable::Http { address: self.address.clone(), error }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// The way to a listener, as a workload with an identity of its own.
    async fn way(listener: &TcpListener, folder: &std::path::Path) -> ControlPlane {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::default();
        let uri = "spiffe://mesh.test/ns/shop/sa/orders".try_into().unwrap();
        parameters.subject_alt_names = vec![rcgen::SanType::URI(uri)];
        let certificate = parameters.self_signed(&key).unwrap().pem();
        let file = |name: &str, text: &str| {
            std::fs::write(folder.join(name), text).unwrap();
            folder.join(name)
        };
        let files = tls::IdentityFiles {
            certificate: file("certificate", &certificate),
            key: file("key", &key.serialize_pem()),
            bundle: file("bundle", &certificate),
        };
        let in_force = InForce::default();
        in_force.put(Identity::load(&files, 1).unwrap());
        ControlPlane {
            address: listener.local_addr().unwrap().to_string(),
            pinned: files.bundle,
            gives_identity: false,
            expected: None,
            identity: in_force,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_connections_and_says_nothing_is_given_up() {
        let folder = tempfile::TempDir::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let way = way(&listener, folder.path()).await;
        let began = tokio::time::Instant::now();
        let refused = way.connect().await.unwrap_err();
        assert!(matches!(refused, Unreachable::Late { .. }), "{refused}");
        assert_eq!(began.elapsed(), PATIENCE);
    }

    #[tokio::test]
    async fn what_is_wrong_is_named() {
        let folder = tempfile::TempDir::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut way = way(&listener, folder.path()).await;
        drop(listener);
        let refused = way.connect().await.unwrap_err().to_string();
        assert!(refused.contains(&way.address) && refused.contains("refused"), "{refused}");
        way.pinned = folder.path().join("nothing");
        let refused = way.connect().await.unwrap_err().to_string();
        assert!(refused.starts_with("controlPlane.bundle: ") && refused.contains("nothing"), "{refused}");
        // Once the identity brings the authorities, the file has no say any more.
        way.gives_identity = true;
        let refused = way.connect().await.unwrap_err().to_string();
        assert!(refused.contains(&way.address), "{refused}");
        let wanted = SpiffeId::parse("spiffe://mesh.test/ns/shop/sa/orders").unwrap();
        let refused = way.connect_to_join(&wanted).await.unwrap_err().to_string();
        assert!(refused.contains("nothing"), "{refused}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_identity_that_holds_nobody_is_asked() {
        let folder = tempfile::TempDir::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut way = way(&listener, folder.path()).await;
        way.identity = InForce::default();
        let asked = timeout(100 * PATIENCE, way.connect()).await;
        assert!(asked.is_err(), "{asked:?}");
    }
}
