//! The way to an endpoint: dial, pool, send.
//!
//! Pools belong to one worker and are keyed by what makes two connections interchangeable: the endpoint, what is spoken,
//! and the revision of our certificate. A request that meets a connection that dies says whether the application can
//! have seen it; trying again is `outbound`'s decision, never taken here.

mod connect;
mod failure;
mod http1;
mod http2;
mod pool;
mod relay;

use std::{cell::RefCell, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use http::{Request, Response};

pub use self::{
    connect::BoxStream,
    relay::{RelayEnd, Relayed, Side, relay},
};
use self::{
    connect::{Dial, Secured},
    pool::{Key, Pools},
};
use crate::{
    config::snapshot::{
        CircuitLimits, MeshRecord,
        state::{ClusterState, Counted, EndpointId},
    },
    error::{Failure, Reason},
    http::{body::Body, interim::Interim},
    tls::{Carried, Identity},
};

/// The limits of upstream connections.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamLimits {
    /// Until a connection is made, its TLS handshake included.
    pub connect_timeout: Duration,
    /// An idle connection is closed after this.
    pub idle_timeout: Duration,
    /// A connection takes no new request after this, jittered by a tenth.
    pub max_age: Duration,
    /// Idle HTTP/1 connections kept for each endpoint and worker.
    pub idle_per_endpoint: usize,
    /// Connections to one endpoint from one worker.
    pub connections_per_endpoint: usize,
    /// Bytes of an answer's head.
    pub head_bytes: usize,
    /// Header fields of an answer.
    pub header_count: usize,
    /// Receive window of an HTTP/2 stream, bytes.
    pub stream_window: u32,
    /// Receive window of an HTTP/2 connection, bytes.
    pub connection_window: u32,
    /// Bytes that wait to be sent on one HTTP/2 stream.
    pub send_buffer: usize,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(90),
            max_age: Duration::from_secs(3600),
            idle_per_endpoint: 256,
            connections_per_endpoint: 1024,
            head_bytes: 64 << 10,
            header_count: 100,
            stream_window: 1 << 20,
            connection_window: 4 << 20,
            send_buffer: 128 << 10,
        }
    }
}

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
    /// An address: our application, or a destination outside the mesh.
    Address(SocketAddr),
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
}

impl Upstream {
    /// `identity` holds the certificate in force.
    pub fn new(limits: UpstreamLimits, identity: Arc<ArcSwapOption<Identity>>) -> Rc<Self> {
        Rc::new(Self { pools: RefCell::default(), limits, identity })
    }

    /// Sends a request and waits for the answer's head. The answer's body holds its connection until it has ended.
    pub async fn send(
        &self,
        target: &Target<'_>,
        circuit: Option<&Circuit>,
        request: Request<Body>,
        interim: &Interim,
    ) -> Result<Response<Body>, Failure> {
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
        let way = Way { upstream: self, target, circuit };
        match target.leg {
            Leg::Http1 => {
                let pool = self.pools.borrow_mut().http1(key);
                http1::send(&pool, &way, request).await
            }
            Leg::Http2 | Leg::Mesh(_) => {
                let pool = self.pools.borrow_mut().http2(key);
                http2::send(&pool, &way, request, interim).await
            }
        }
    }

    /// Opens a stream for opaque bytes.
    pub async fn tunnel(&self, target: &Target<'_>) -> Result<BoxStream, Failure> {
        let dial = self.dial(target, Carried::Tcp)?;
        Box::pin(connect::dial(dial, self.limits.connect_timeout)).await
    }

    /// Closes what has been idle or lived too long. Called every second or so.
    pub fn sweep(&self) {
        self.pools.borrow_mut().sweep(&self.limits);
    }

    /// Connections open now, idle ones included.
    pub fn open_connections(&self) -> usize {
        self.pools.borrow().open()
    }

    /// What it takes to dial. Called when a connection is made, never for a request that finds one.
    fn dial(&self, target: &Target<'_>, carried: Carried) -> Result<Dial, Failure> {
        let Leg::Mesh(mesh) = target.leg else {
            return Ok(Dial { address: target.address, secured: None });
        };
        let identity = self.identity.load_full().ok_or_else(|| Failure::before(Reason::NoIdentity))?;
        let config = identity
            .client(&mesh.identity, carried)
            .map_err(|e| Failure::before(Reason::NoIdentity).detail(e))?;
        let secured = Some(Secured { config, server_name: mesh.server_name.clone() });
        Ok(Dial { address: target.address, secured })
    }
}

/// One request's way to its upstream.
struct Way<'w> {
    upstream: &'w Upstream,
    target: &'w Target<'w>,
    circuit: Option<&'w Circuit>,
}

impl Way<'_> {
    fn limits(&self) -> &UpstreamLimits {
        &self.upstream.limits
    }

    fn dial(&self) -> Result<Dial, Failure> {
        self.upstream.dial(self.target, Carried::Http2)
    }

    /// Requests that may wait for a connection.
    fn most_pending(&self) -> usize {
        self.circuit.map_or(usize::MAX, |c| c.limits.max_pending as usize)
    }

    /// A place among the service's connections; an error where it has no more.
    fn connection_place(&self) -> Result<Option<Counted>, Failure> {
        let Some(circuit) = self.circuit else { return Ok(None) };
        let place = Counted::within(&circuit.state, |s| &s.connections, circuit.limits.max_connections);
        let full = || Failure::before(Reason::CircuitOpen).detail("too many connections (maxConnections)");
        place.map(Some).ok_or_else(full)
    }
}
