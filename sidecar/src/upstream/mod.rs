//! The way to an endpoint: dial, pool, send.
//!
//! Pools belong to one worker and are keyed by what makes two connections interchangeable: the endpoint, what is spoken,
//! and the revision of our certificates. A request that meets a connection that dies says whether the application can
//! have seen it; trying again is `outbound`'s decision, never taken here.

mod age;
mod connect;
mod failure;
mod http1;
mod http2;
mod interim;
mod limits;
mod negotiation;
mod ping;
mod places;
mod pool;
mod relay;
mod tunnel;
mod written;

#[cfg(test)]
mod tests;

use std::{
    cell::{Cell, OnceCell, RefCell},
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use http::{Request, Response, Version, uri::Scheme};

pub use self::{
    connect::BoxStream,
    limits::UpstreamLimits,
    relay::{RelayEnd, Relayed, Side, relay},
};
use self::{
    connect::{Dial, Secured},
    http2::Sent,
    negotiation::Negotiations,
    pool::{Key, Pools},
    tunnel::Tunnel,
};
use crate::{
    config::snapshot::{
        AppProtocol, BackendTls, CircuitLimits, MeshRecord,
        state::{ClusterState, Counted, EndpointId},
    },
    error::{Failure, Reason},
    http::{body::Body, interim::Interim},
    telemetry::{Direction, Telemetry},
    tls::{Carried, Identity, Offer, UpstreamTlsByName},
};

/// Whom to reach, and how.
#[derive(Clone, Debug)]
pub struct Target<'t> {
    /// Who it is: connections to the same are interchangeable.
    pub who: Who,
    /// The address to dial.
    pub address: SocketAddr,
    /// What is spoken there.
    pub leg: Leg<'t>,
}

/// What makes two upstreams the same.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Who {
    /// An endpoint of the policy.
    Endpoint(EndpointId),
    /// Our application.
    Application(SocketAddr),
    /// A destination outside the mesh.
    External(SocketAddr),
}

/// What is spoken to an upstream.
#[derive(Clone, Copy, Debug)]
pub enum Leg<'t> {
    /// HTTP/1.1 in the clear.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// TLS to an endpoint without a sidecar. Of an offer of both versions the endpoint's choice must be known before a
    /// request is sent: see [`Upstream::settled`].
    Tls(&'t Arc<BackendTls>, Offer),
    /// HTTP/2 over mutual TLS to the endpoint's sidecar.
    Mesh(&'t MeshRecord),
}

impl Leg<'_> {
    /// What is spoken in the clear: what policy says of the port, else what the client spoke.
    pub fn plain(protocol: AppProtocol, client: Version) -> Self {
        match protocol {
            AppProtocol::Http1 => Self::Http1,
            AppProtocol::Http2 | AppProtocol::Grpc => Self::Http2,
            AppProtocol::Auto | AppProtocol::Tcp if client == Version::HTTP_2 => Self::Http2,
            AppProtocol::Auto | AppProtocol::Tcp => Self::Http1,
        }
    }

    /// Whether HTTP/2 is spoken.
    pub const fn is_http2(&self) -> bool {
        matches!(self, Self::Http2 | Self::Mesh(_) | Self::Tls(_, Offer::Http2))
    }

    /// The scheme of what the application gets.
    pub const fn scheme(&self) -> Scheme {
        match self {
            Self::Tls(..) => Scheme::HTTPS,
            Self::Http1 | Self::Http2 | Self::Mesh(_) => Scheme::HTTP,
        }
    }
}

/// What a request waits for on its way to an endpoint.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WaitsFor {
    /// What others have now: a connection, or leave to make one.
    #[default]
    Others,
    /// A connection that is being made.
    Connection,
    /// The answer: a connection has the request, though not yet all of its body.
    Answer,
}

/// The counts and limits that a request is held to.
#[derive(Clone, Debug)]
pub struct Circuit {
    /// The limits.
    pub limits: CircuitLimits,
    /// The counts, shared by all workers.
    pub state: Arc<ClusterState>,
}

/// The upstream side of one worker.
pub struct Upstream {
    pools: RefCell<Pools>,
    negotiations: RefCell<Negotiations>,
    limits: UpstreamLimits,
    certificates: Certificates,
    telemetry: Rc<Telemetry>,
}

/// The certificates in force.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    /// Our identity in the mesh.
    pub identity: Arc<ArcSwapOption<Identity>>,
    /// What TLS to endpoints without a sidecar takes.
    pub upstream: Arc<UpstreamTlsByName>,
}

impl Upstream {
    /// The upstream side of a worker.
    pub fn new(limits: UpstreamLimits, certificates: Certificates, telemetry: Rc<Telemetry>) -> Rc<Self> {
        let (pools, negotiations) = Default::default();
        Rc::new(Self { pools, negotiations, limits, certificates, telemetry })
    }

    /// Sends a request and waits for the answer's head, no longer than `within`; `waits_for` tells at any time for what. The
    /// answer's body holds its connection until it has ended.
    pub async fn send(
        &self,
        target: &Target<'_>,
        circuit: Option<&Circuit>,
        request: Request<Body>,
        interim: &Interim,
        within: Option<Duration>,
        waits_for: &Cell<WaitsFor>,
    ) -> Result<Response<Body>, Failure> {
        waits_for.set(WaitsFor::Others);
        let way = Way::new(self, target, circuit, waits_for);
        let mut sending = pin!(self.send_on(&way, request, interim));
        let Some(limit) = within else { return sending.await };
        match tokio::time::timeout(limit, sending.as_mut()).await {
            Ok(sent) => sent,
            Err(_) => Err(way.timed_out().detail(format_args!("{limit:?}"))),
        }
    }

    async fn send_on(
        &self,
        way: &Way<'_>,
        request: Request<Body>,
        interim: &Interim,
    ) -> Result<Response<Body>, Failure> {
        let key = self.key(way.target);
        let sent = if key.http2 {
            let pool = self.pools.borrow_mut().http2(key);
            http2::send(&pool, way, request, interim).await
        } else {
            let pool = self.pools.borrow_mut().http1(key);
            http1::send(&pool, way, request, interim).await
        };
        if matches!((&sent, way.target.leg), (Err(Failure { reason: Reason::TlsFailed, .. }), Leg::Tls(..))) {
            // It may speak another version than it did.
            self.negotiations.borrow_mut().forget(&Key { http2: false, ..key });
        }
        sent
    }

    /// What makes connections to a target interchangeable. They are kept apart by the revision of our certificates, so
    /// that new ones are used from then on.
    fn key(&self, target: &Target<'_>) -> Key {
        let revision = match target.leg {
            Leg::Mesh(_) => {
                self.certificates.identity.load().as_ref().map_or(0, |identity| identity.revision)
            }
            Leg::Tls(tls, _) => self.certificates.upstream.revision(&tls.files),
            Leg::Http1 | Leg::Http2 => 0,
        };
        Key { who: target.who, address: target.address, http2: target.leg.is_http2(), revision }
    }

    /// Opens a stream for opaque bytes. It counts among the service's connections while it lives.
    pub async fn tunnel(&self, target: &Target<'_>, circuit: Option<&Circuit>) -> Result<BoxStream, Failure> {
        let waits_for = Cell::default();
        let way = Way::new(self, target, circuit, &waits_for);
        let counted = way.count_connection(false)?;
        let dial = self.dial(target, Carried::Tcp)?;
        let (stream, open) = Box::pin(connect::dial(dial, self.limits.connect_timeout)).await?;
        Ok(Box::new(Tunnel { stream, _counted: counted, _open: open }))
    }

    /// Closes what has been idle or lived too long. Called every second or so.
    pub fn sweep(&self, now: tokio::time::Instant) {
        self.pools.borrow_mut().sweep(now, &self.limits);
        self.negotiations.borrow_mut().sweep(now, &self.limits);
    }

    /// Pooled connections open now, idle ones included.
    pub fn open_connections(&self) -> usize {
        self.pools.borrow().open()
    }

    /// What it takes to dial. Called when a connection is made, never for a request that finds one.
    fn dial(&self, target: &Target<'_>, carried: Carried) -> Result<Dial, Failure> {
        let direction = match target.who {
            Who::Application(_) => Direction::Inbound,
            Who::Endpoint(_) | Who::External(_) => Direction::Outbound,
        };
        let mut dial = Dial {
            address: target.address,
            made: None,
            secured: None,
            liveness: self.limits.liveness,
            shared: carried == Carried::Http2 && target.leg.is_http2(),
            direction,
            telemetry: Rc::clone(&self.telemetry),
        };
        match (target.leg, carried) {
            (Leg::Http1 | Leg::Http2, _) => {}
            (Leg::Mesh(mesh), _) => dial.secured = Some(self.mutual(mesh, carried)?),
            (Leg::Tls(tls, _), Carried::Tcp) => dial.secured = Some(self.as_told(tls, Offer::Tcp)?),
            (Leg::Tls(tls, offer), Carried::Http2) => {
                let key = Key { http2: false, ..self.key(target) };
                dial.made = self.negotiations.borrow_mut().take(&key);
                if dial.made.is_none() {
                    dial.secured = Some(self.as_told(tls, offer)?);
                }
            }
        }
        Ok(dial)
    }

    /// TLS with a sidecar.
    fn mutual(&self, mesh: &MeshRecord, carried: Carried) -> Result<Secured, Failure> {
        let failed = || Failure::before(Reason::NoIdentity);
        let identity = self.certificates.identity.load_full().ok_or_else(failed)?;
        let config = identity.client(&mesh.identity, carried).map_err(|e| failed().detail(e))?;
        Ok(Secured { config, server_name: mesh.server_name.clone(), offer: None })
    }

    /// TLS with who has none, as policy and our configuration tell.
    fn as_told(&self, tls: &Arc<BackendTls>, offer: Offer) -> Result<Secured, Failure> {
        let failed = || Failure::before(Reason::TlsNotConfigured);
        let files = self.certificates.upstream.in_force(&tls.files);
        let files = files.ok_or_else(|| {
            failed().detail(format_args!("no usable entry {:?} in upstreamTls", &*tls.files))
        })?;
        let config = files.client(tls, offer).map_err(|e| failed().detail(e))?;
        Ok(Secured { config, server_name: tls.server_name.clone(), offer: Some(offer) })
    }
}

/// One request's way to its upstream.
struct Way<'w> {
    upstream: &'w Upstream,
    target: &'w Target<'w>,
    circuit: Option<&'w Circuit>,
    /// What it was sent on, once it was, where a connection is shared.
    sent: OnceCell<Sent>,
    /// Once it is the answer, bytes of the request may be under way.
    waits_for: &'w Cell<WaitsFor>,
}

impl<'w> Way<'w> {
    fn new(
        upstream: &'w Upstream,
        target: &'w Target<'w>,
        circuit: Option<&'w Circuit>,
        waits_for: &'w Cell<WaitsFor>,
    ) -> Self {
        Self { upstream, target, circuit, sent: OnceCell::new(), waits_for }
    }

    fn limits(&self) -> &UpstreamLimits {
        &self.upstream.limits
    }

    fn dial(&self) -> Result<Dial, Failure> {
        self.upstream.dial(self.target, Carried::Http2)
    }

    /// Whether a sidecar is at the other end.
    fn meshed(&self) -> bool {
        matches!(self.target.leg, Leg::Mesh(_))
    }

    /// The request got no answer in its time. While it still waited for a connection, nobody has seen it.
    fn timed_out(&self) -> Failure {
        if let Some(sent) = self.sent.get() {
            sent.timed_out();
        }
        match self.waits_for.get() {
            WaitsFor::Answer => Failure::after(Reason::BackendRequestTimeout),
            WaitsFor::Others | WaitsFor::Connection => Failure::before(Reason::BackendRequestTimeout),
        }
    }

    /// A limit is reached: the service's, or where it has none this sidecar's own.
    fn exhausted(&self, what: &str) -> Failure {
        let reason = if self.circuit.is_some() { Reason::CircuitOpen } else { Reason::Overloaded };
        Failure::before(reason).detail(what)
    }

    /// Counts a request that waits; an error where too many do.
    fn count_pending(&self, waiting: usize) -> Result<Option<Counted>, Failure> {
        if waiting >= self.limits().pending_per_endpoint {
            let what = "too many requests wait for a connection (pool.maxPendingPerEndpoint)";
            return Err(Failure::before(Reason::Overloaded).detail(what));
        }
        let Some(circuit) = self.circuit else { return Ok(None) };
        let place = Counted::within(&circuit.state, |s| &s.pending, circuit.limits.max_pending);
        let full = || self.exhausted("too many requests wait for a connection (maxPending)");
        place.map(Some).ok_or_else(full)
    }

    /// Counts a connection of the service; an error where it may have no more. The first of a pool is counted and always
    /// granted: the limit holds for all workers together, and what others have open must not starve one.
    fn count_connection(&self, first: bool) -> Result<Option<Counted>, Failure> {
        let Some(circuit) = self.circuit else { return Ok(None) };
        if first {
            return Ok(Some(Counted::always(&circuit.state, |s| &s.connections)));
        }
        let place = Counted::within(&circuit.state, |s| &s.connections, circuit.limits.max_connections);
        place.map(Some).ok_or_else(|| self.exhausted("too many connections (maxConnections)"))
    }
}
