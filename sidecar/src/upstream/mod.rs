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
mod refused;
mod relay;
mod target;
mod tunnel;
mod way;
mod written;

#[cfg(test)]
mod tests;

use std::{
    cell::{Cell, RefCell},
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use http::{Request, Response};

pub use self::{
    connect::BoxStream,
    limits::UpstreamLimits,
    relay::{RelayEnd, Relayed, Side, relay},
    target::{Leg, Target, Who},
    way::{Circuit, WaitsFor},
};
use self::{
    connect::{Dial, Secured},
    negotiation::Negotiations,
    pool::{Key, Pools},
    way::Way,
};
use crate::{
    config::snapshot::{BackendTls, MeshRecord},
    error::{Failure, Reason},
    http::{body::Body, interim::Interim},
    telemetry::{Direction, Telemetry},
    tls::{Carried, InForce, Offer, UpstreamTlsByName},
};

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
    pub identity: InForce,
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
