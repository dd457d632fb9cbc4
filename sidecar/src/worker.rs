//! One worker: one thread, one world.
//!
//! What a request needs on its way lives here, on the thread that serves it. Shared with other workers are only the
//! snapshot (replaced whole), the identity (replaced whole), and the atomics that the snapshot holds handles to.

mod changes;
mod ejections;
mod needs;

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Cache};
use tokio::sync::watch;

pub use self::{
    changes::Changes,
    ejections::{Blame, Ejection, Ejections},
    needs::{Answers, Needs},
};
use crate::{
    accept::served::OwnAddresses,
    authz::Gate,
    balance::Loads,
    config::snapshot::{AppProtocol, Revision, ServicePort, Snapshot, SpiffeId},
    drain::{DrainWatch, Stage},
    error::Failure,
    filter::{Chains, StreamId},
    http::{Handler, HttpLimits, h1, h2, io::Stream},
    telemetry::Telemetry,
    upstream::{Certificates, Upstream, UpstreamLimits},
};

/// Destinations that are remembered to speak first.
const MOST_SERVER_FIRST: usize = 4096;

/// What the bootstrap file says about a request's way.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Limits of downstream connections.
    pub http: HttpLimits,
    /// Limits of upstream connections.
    pub upstream: UpstreamLimits,
    /// A TLS handshake on the mesh port.
    pub handshake_timeout: Duration,
    /// An opaque connection on which nothing moves.
    pub tcp_idle_timeout: Duration,
    /// How long a silent client is waited for before the server is asked whether it speaks first.
    pub server_first_after: Duration,
    /// Bytes of a request's body that are kept for another attempt.
    pub replay_bytes: usize,
    /// Connections that one worker has open.
    pub connections: usize,
    /// What may come in at all.
    pub gate: Arc<Gate>,
    /// Our service, `namespace/name`.
    pub service: Arc<str>,
}

/// What all workers share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The policy in force.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The certificates in force.
    pub certificates: Certificates,
    /// How requests ask for policy that is not there yet.
    pub needs: Needs,
    /// How the log hears of endpoints that are ejected.
    pub ejections: Ejections,
    /// How the end is told.
    pub drain: DrainWatch,
    /// When the sidecar started: the zero of its clock.
    pub started: Instant,
}

/// Names for services that have none.
#[derive(Debug)]
pub struct Words {
    /// Not told yet.
    pub unknown: Arc<str>,
    /// In no policy.
    pub external: Arc<str>,
}

/// A downstream connection of a worker.
pub trait Served: Handler {
    /// The worker that it is on.
    fn worker(&self) -> &Rc<Worker>;

    /// Whether the peer is a sidecar.
    fn is_meshed(&self) -> bool {
        false
    }

    /// Counts and logs what never became a request, and was answered all the same, by a body of so many bytes.
    fn unserved(&self, failure: &Failure, told: usize);
}

/// The world of one thread.
pub struct Worker {
    /// What the bootstrap file says.
    pub settings: Settings,
    /// What all workers share.
    pub shared: Shared,
    /// Connections to others.
    pub upstream: Rc<Upstream>,
    /// How endpoints do, as this worker sees it.
    pub loads: RefCell<Loads>,
    /// The filters of the rules that requests took.
    pub chains: RefCell<Chains>,
    /// Counters, log and spans.
    pub telemetry: Rc<Telemetry>,
    /// Words that records share.
    pub words: Words,
    /// The addresses that captured connections are served at.
    pub own_addresses: OwnAddresses,
    // Destinations whose server has spoken first: no client there is waited for again.
    server_first: RefCell<HashSet<SocketAddr>>,
    snapshot: RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    // The policy that was in force at the last tick.
    revision: watch::Sender<Revision>,
    random: Cell<u64>,
    streams: Cell<u64>,
}

impl Worker {
    /// A worker on this thread. `seed` makes its choices differ from the other workers'.
    pub fn new(settings: Settings, shared: Shared, telemetry: Telemetry, seed: u64) -> Rc<Self> {
        let (certificates, telemetry) = (shared.certificates.clone(), Rc::new(telemetry));
        Rc::new(Self {
            upstream: Upstream::new(settings.upstream, certificates, Rc::clone(&telemetry)),
            loads: RefCell::default(),
            chains: RefCell::default(),
            telemetry,
            words: Words { unknown: "unknown".into(), external: "external".into() },
            own_addresses: OwnAddresses::open(),
            server_first: RefCell::default(),
            snapshot: RefCell::new(Cache::new(Arc::clone(&shared.snapshot))),
            revision: watch::Sender::new(shared.snapshot.load().revision),
            random: Cell::new(seed | 1),
            streams: Cell::new(0),
            settings,
            shared,
        })
    }

    /// The policy in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(self.snapshot.borrow_mut().load())
    }

    /// Tells of each policy that comes after this call, a tick later at most. To be called before the policy is looked at
    /// that it is to tell the changes of.
    pub fn changes(&self) -> Changes {
        self.note_revision();
        Changes(self.revision.subscribe())
    }

    fn note_revision(&self) {
        let now = self.snapshot().revision;
        self.revision.send_if_modified(|noted| std::mem::replace(noted, now) != now);
    }

    /// The policy in which all that concerns a service is known, once it is. Boxed: few requests ever wait for it.
    pub async fn whole(&self, service: &ServicePort) -> Result<Arc<Snapshot>, Failure> {
        Box::pin(self.shared.needs.whole(service, || self.snapshot())).await
    }

    /// The same, for as long as it takes.
    pub async fn told(&self, service: &ServicePort) -> Arc<Snapshot> {
        self.shared.needs.told(service, || self.snapshot()).await
    }

    /// Time on the sidecar's clock.
    pub fn now(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// A random number (xorshift64*, Vigna 2016): for choices, not for secrets.
    pub fn draw(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.set(x);
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number for a request that filters keep state for.
    pub fn stream(&self) -> StreamId {
        let number = self.streams.get();
        self.streams.set(number + 1);
        StreamId(number)
    }

    /// What falls due from time to time: idle connections are closed, filters told the time, state of endpoints and
    /// rules that are gone is forgotten, connections told of new policy.
    pub fn tick(&self) {
        self.telemetry.beat();
        self.note_revision();
        self.upstream.sweep(tokio::time::Instant::now());
        self.loads.borrow_mut().sweep();
        self.chains.borrow_mut().tick(self.now());
    }

    /// Whether a workload belongs to the trust domain that callers must come from.
    pub fn trusts(&self, id: &SpiffeId) -> bool {
        let own = self.shared.certificates.identity.load();
        self.settings.gate.trusts(id, own.as_ref().map(|own| &own.id))
    }

    /// Serves HTTP/1 until the connection ends, or is drained at `stage`. Boxed: what comes before it is over by then.
    pub async fn serve_http1<C: Served>(connection: Rc<C>, stream: impl Stream, stage: Stage) {
        let worker = Rc::clone(connection.worker());
        let drain = worker.shared.drain.clone().reach(stage);
        match Box::pin(h1::serve(stream, &worker.settings.http, Rc::clone(&connection), drain)).await {
            h1::ServeEnd::Unserved { reason, rule, told } => {
                worker.telemetry.guard_refused(rule);
                connection.unserved(&Failure::before(reason).detail(rule), told);
            }
            h1::ServeEnd::BodyRefused(violation) => worker.telemetry.guard_refused(violation.name()),
            h1::ServeEnd::Failed(error) => tracing::debug!(%error, "an HTTP/1 connection broke off"),
            h1::ServeEnd::Closed => {}
        }
    }

    /// Serves HTTP/2 until the connection ends, or is drained at `stage`.
    pub async fn serve_http2<C: Served>(
        connection: Rc<C>,
        stream: impl Stream,
        writes: h2::Writes,
        stage: Stage,
    ) {
        let worker = Rc::clone(connection.worker());
        let drain = worker.shared.drain.clone().reach(stage);
        let (http, meshed) = (worker.settings.http, connection.is_meshed());
        let limits = if meshed { http.meshed() } else { http };
        // A gRPC client would take it for abuse.
        let liveness = meshed.then_some(worker.settings.upstream.liveness);
        let serving = h2::serve(stream, &limits, writes, liveness, connection, drain);
        match Box::pin(serving).await {
            h2::ServeEnd::Refused(rule) => worker.telemetry.guard_refused(rule),
            h2::ServeEnd::Failed(error) => tracing::debug!(%error, "an HTTP/2 connection broke off"),
            h2::ServeEnd::Closed => {}
        }
    }

    /// The end of the patience with a connection on which neither side says anything: the idle time-out, or the drain.
    pub async fn silence_ends(&self) {
        let drained = self.shared.drain.clone().reach(Stage::All);
        // A time-out and a drain mean the same here.
        tokio::time::timeout(self.settings.http.idle_timeout, drained).await.ok();
    }

    /// What is spoken at this address: opaque where the server was seen to speak first and policy leaves it open.
    pub fn as_known(&self, address: SocketAddr, protocol: AppProtocol) -> AppProtocol {
        let opaque = protocol == AppProtocol::Auto && self.server_first.borrow().contains(&address);
        if opaque { AppProtocol::Tcp } else { protocol }
    }

    /// Remembers that the server at this address speaks first. Bounded: beyond it each new one is found out anew.
    pub fn speaks_first(&self, address: SocketAddr, first: &[u8]) {
        // An HTTP server that is too eager or has lost patience: SETTINGS of HTTP/2 (RFC 9113 section 6.5), or a 408.
        if first.starts_with(b"HTTP/") || first.get(3..5) == Some(&[4, 0]) {
            return;
        }
        let mut known = self.server_first.borrow_mut();
        if known.len() < MOST_SERVER_FIRST {
            known.insert(address);
        }
    }

    /// Whether this is a port of the sidecar's own at its own address.
    pub fn is_own(&self, address: SocketAddr, local: SocketAddr) -> bool {
        self.settings.gate.own_ports.contains(&address.port())
            && (address.ip().to_canonical() == local.ip().to_canonical() || address.ip().is_loopback())
    }
}
