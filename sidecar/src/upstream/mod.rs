//! The way to an endpoint: dial, pool, send.
//!
//! Pools belong to one worker and are keyed by what makes two connections interchangeable: the endpoint, what is spoken,
//! and the revision of our certificate. A request that meets a connection that dies says whether the application can
//! have seen it; trying again is `outbound`'s decision, never taken here.

mod age;
mod connect;
mod failure;
mod http1;
mod http2;
mod interim;
mod limits;
mod ping;
mod places;
mod pool;
mod relay;
mod tunnel;

#[cfg(test)]
mod tests;

use std::{
    cell::{OnceCell, RefCell},
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use http::{Request, Response};

pub use self::{
    connect::BoxStream,
    limits::UpstreamLimits,
    relay::{RelayEnd, Relayed, Side, relay},
};
use self::{
    connect::{Dial, Secured},
    http2::Sent,
    pool::{Key, Pools},
    tunnel::Tunnel,
};
use crate::{
    config::snapshot::{
        CircuitLimits, MeshRecord,
        state::{ClusterState, Counted, EndpointId},
    },
    error::{Failure, Reason},
    http::{body::Body, interim::Interim},
    telemetry::{Direction, Telemetry},
    tls::{Carried, Identity},
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
    /// HTTP/2 over mutual TLS to the endpoint's sidecar.
    Mesh(&'t MeshRecord),
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
    limits: UpstreamLimits,
    identity: Arc<ArcSwapOption<Identity>>,
    telemetry: Rc<Telemetry>,
}

impl Upstream {
    /// `identity` holds the certificate in force.
    pub fn new(
        limits: UpstreamLimits,
        identity: Arc<ArcSwapOption<Identity>>,
        telemetry: Rc<Telemetry>,
    ) -> Rc<Self> {
        Rc::new(Self { pools: RefCell::default(), limits, identity, telemetry })
    }

    /// Sends a request and waits for the answer's head, no longer than `within`. The answer's body holds its connection
    /// until it has ended.
    pub async fn send(
        &self,
        target: &Target<'_>,
        circuit: Option<&Circuit>,
        request: Request<Body>,
        interim: &Interim,
        within: Option<Duration>,
    ) -> Result<Response<Body>, Failure> {
        let way = Way { upstream: self, target, circuit, sent: OnceCell::new() };
        let mut sending = pin!(self.send_on(&way, request, interim));
        let Some(limit) = within else { return sending.await };
        match tokio::time::timeout(limit, sending.as_mut()).await {
            Ok(sent) => sent,
            Err(_) => {
                way.timed_out();
                Err(Failure::after(Reason::BackendRequestTimeout).detail(format_args!("{limit:?}")))
            }
        }
    }

    async fn send_on(
        &self,
        way: &Way<'_>,
        request: Request<Body>,
        interim: &Interim,
    ) -> Result<Response<Body>, Failure> {
        let target = way.target;
        // Connections are kept apart by our certificate's revision, so that a new one is used from then on.
        let revision = match target.leg {
            Leg::Mesh(_) => self.identity.load().as_ref().map_or(0, |identity| identity.revision),
            Leg::Http1 | Leg::Http2 => 0,
        };
        let key = Key {
            who: target.who,
            address: target.address,
            http2: !matches!(target.leg, Leg::Http1),
            revision,
        };
        match target.leg {
            Leg::Http1 => {
                let pool = self.pools.borrow_mut().http1(key);
                http1::send(&pool, way, request, interim).await
            }
            Leg::Http2 | Leg::Mesh(_) => {
                let pool = self.pools.borrow_mut().http2(key);
                http2::send(&pool, way, request, interim).await
            }
        }
    }

    /// Opens a stream for opaque bytes. It counts among the service's connections while it lives.
    pub async fn tunnel(&self, target: &Target<'_>, circuit: Option<&Circuit>) -> Result<BoxStream, Failure> {
        let way = Way { upstream: self, target, circuit, sent: OnceCell::new() };
        let counted = way.count_connection(false)?;
        let dial = self.dial(target, Carried::Tcp)?;
        let (stream, open) = Box::pin(connect::dial(dial, self.limits.connect_timeout)).await?;
        Ok(Box::new(Tunnel { stream, _counted: counted, _open: open }))
    }

    /// Closes what has been idle or lived too long. Called every second or so.
    pub fn sweep(&self, now: tokio::time::Instant) {
        self.pools.borrow_mut().sweep(now, &self.limits);
    }

    /// Pooled connections open now, idle ones included.
    pub fn open_connections(&self) -> usize {
        self.pools.borrow().open()
    }

    /// What it takes to dial. Called when a connection is made, never for a request that finds one.
    fn dial(&self, target: &Target<'_>, carried: Carried) -> Result<Dial, Failure> {
        let shared = match (target.leg, carried) {
            (Leg::Http1, _) | (_, Carried::Tcp) => false,
            (Leg::Http2 | Leg::Mesh(_), Carried::Http2) => true,
        };
        let direction = match target.who {
            Who::Application(_) => Direction::Inbound,
            Who::Endpoint(_) | Who::External(_) => Direction::Outbound,
        };
        let mut dial = Dial {
            address: target.address,
            secured: None,
            liveness: self.limits.liveness,
            shared,
            direction,
            telemetry: Rc::clone(&self.telemetry),
        };
        let Leg::Mesh(mesh) = target.leg else { return Ok(dial) };
        let identity = self.identity.load_full().ok_or_else(|| Failure::before(Reason::NoIdentity))?;
        let config = identity
            .client(&mesh.identity, carried)
            .map_err(|e| Failure::before(Reason::NoIdentity).detail(e))?;
        dial.secured = Some(Secured { config, server_name: mesh.server_name.clone() });
        Ok(dial)
    }
}

/// One request's way to its upstream.
struct Way<'w> {
    upstream: &'w Upstream,
    target: &'w Target<'w>,
    circuit: Option<&'w Circuit>,
    /// What it was sent on, once it was, where a connection is shared.
    sent: OnceCell<Sent>,
}

impl Way<'_> {
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

    /// The request got no answer in its time.
    fn timed_out(&self) {
        if let Some(sent) = self.sent.get() {
            sent.timed_out();
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
