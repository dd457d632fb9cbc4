//! A control plane whose clock is off: the real authority behind a service that gives identities, and nothing else.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tonic::codegen::Service as _;
use tonic::{Request, Response, Status};
use trama_control_plane::identity::{Authority, Issued, JoinToken, SealingKey, Settings};
use trama_control_plane::store::Memory;
use trama_proto::identity::v1::identity_service_server::{IdentityService, IdentityServiceServer};
use trama_proto::identity::v1::{IdentityResponse, JoinRequest, RenewRequest};
use trama_proto::spiffe::SpiffeId;

use super::{TRUST_DOMAIN, identity, put, workload};
use crate::tls;

/// How far ahead of the machine's its clocks are, in seconds.
#[derive(Debug, Default)]
struct Clocks {
    /// Its own certificate's.
    own: AtomicI64,
    /// The authority's, when it signs for others.
    signs: AtomicI64,
}

/// A control plane whose clock is off.
pub struct Skewed {
    address: SocketAddr,
    authority: Arc<Authority>,
    clocks: Arc<Clocks>,
    serving: JoinHandle<()>,
}

impl Skewed {
    /// One with the right time.
    pub async fn start() -> Self {
        let key = SealingKey::new(&[7; 32]).unwrap();
        let store = Arc::new(Memory::new(1));
        // The root is of yesterday.
        let authority = Authority::open(store, key, Settings::new(TRUST_DOMAIN), now(-86_400)).await;
        let (authority, clocks) = (Arc::new(authority.unwrap()), Arc::<Clocks>::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = Service { authority: Arc::clone(&authority), clocks: Arc::clone(&clocks) };
        Self { address, authority, clocks, serving: tokio::spawn(service.serve(listener)) }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the clock that its own certificate is made by, and the one that it signs for others by.
    pub fn set(&self, own: i64, signs: i64) {
        self.clocks.own.store(own, Ordering::Relaxed);
        self.clocks.signs.store(signs, Ordering::Relaxed);
    }

    /// As [`super::ControlPlane::invite`].
    pub async fn invite(&self, identity: &str, folder: &Path) {
        let id = SpiffeId::parse(identity).unwrap();
        let made = self.authority.invite(&id, std::time::Duration::from_secs(86_400), now(0)).await.unwrap();
        let bundle = self.authority.bundle(now(0)).await.unwrap();
        put(&folder.join("control-plane.pem"), &workload::pem_of(&bundle));
        put(&folder.join("token"), &made.token.to_string());
    }
}

impl Drop for Skewed {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[derive(Clone)]
struct Service {
    authority: Arc<Authority>,
    clocks: Arc<Clocks>,
}

impl Service {
    async fn serve(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = self.acceptor().await;
            let service = IdentityServiceServer::new(self.clone());
            let service = service_fn(move |request| service.clone().call(request));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                http.serve_connection(TokioIo::new(stream), service).await.ok();
            });
        }
    }

    /// With a certificate of its clock.
    async fn acceptor(&self) -> TlsAcceptor {
        let key = rcgen::KeyPair::generate().unwrap();
        let id = SpiffeId::parse(&identity("trama-system", "trama-control-plane")).unwrap();
        let now = now(self.clocks.own.load(Ordering::Relaxed));
        let issued = self.authority.renew(&id, &super::request(&key, &[]), now).await.unwrap();
        let issued = crate::authority::Issued {
            certificate: workload::pem_of(&[issued.certificate]),
            key: key.serialize_pem(),
        };
        TlsAcceptor::from(tls::server(&issued, &[b"h2"], None))
    }
}

#[tonic::async_trait]
impl IdentityService for Service {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<IdentityResponse>, Status> {
        let JoinRequest { token, certificate_signing_request } = request.into_inner();
        let token = JoinToken::parse(&token).unwrap();
        let now = now(self.clocks.signs.load(Ordering::Relaxed));
        let issued = self.authority.join(&token, &certificate_signing_request, now).await;
        let Issued { id, certificate, expires, bundle } =
            issued.map_err(|error| Status::unauthenticated(error.to_string()))?;
        Ok(Response::new(IdentityResponse { identity: id.to_string(), certificate, expires, bundle }))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<IdentityResponse>, Status> {
        Err(Status::unimplemented("nothing is renewed here"))
    }
}

/// The time, so many seconds from now.
fn now(ahead: i64) -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs().saturating_add_signed(ahead)
}
