//! What one worker counts.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasher, Hash, Hasher},
    rc::Rc,
    sync::Arc,
};

use super::{
    Families,
    family::Shard,
    handshake::HandshakeFailure,
    labels::{
        AttemptLabels, AuthzLabels, ConnectionLabels, DirectionLabel, DurationLabels, EjectionLabels,
        HandshakeLabels, KindLabel, Peer, RequestLabels, WithheldLabels, method_name,
    },
    series::{ConnectionSeries, Counter, Histogram, RequestSeries},
};
use crate::telemetry::record::{Direction, Protocol, Record, Security};

type BuildHash = foldhash::fast::RandomState;

/// The counters of one worker; stays on its thread.
#[derive(Debug)]
pub(crate) struct WorkerMetrics {
    hash: BuildHash,
    // By the hash of the labels, so that a look-up borrows them from the record; see `find`.
    known: RefCell<HashMap<u64, Rc<Known>, BuildHash>>,
    requests: Shard<RequestLabels, RequestSeries>,
    server_durations: Shard<DurationLabels, Histogram>,
    client_durations: Shard<DurationLabels, Histogram>,
    attempts: Shard<AttemptLabels, Counter>,
    connections: Shard<ConnectionLabels, ConnectionSeries>,
    handshakes: Shard<HandshakeLabels, Counter>,
    guard_refusals: Shard<KindLabel, Counter>,
    loops: Shard<DirectionLabel, Counter>,
    external: Shard<KindLabel, Counter>,
    ejections: Shard<EjectionLabels, Counter>,
    retries_withheld: Shard<WithheldLabels, Counter>,
    authz: Shard<AuthzLabels, Counter>,
}

/// Everything that an ended request of these labels counts in.
#[derive(Debug)]
struct Known {
    labels: RequestLabels,
    requests: Arc<RequestSeries>,
    duration: Option<Arc<Histogram>>,
    attempts: Option<Arc<Counter>>,
}

impl WorkerMetrics {
    /// The counters of one more worker.
    pub(crate) fn new(families: &Families) -> Self {
        Self {
            hash: BuildHash::default(),
            known: RefCell::default(),
            requests: families.requests.shard(),
            server_durations: families.server_durations.shard(),
            client_durations: families.client_durations.shard(),
            attempts: families.attempts.shard(),
            connections: families.connections.shard(),
            handshakes: families.handshakes.shard(),
            guard_refusals: families.guard_refusals.shard(),
            loops: families.loops.shard(),
            external: families.external.shard(),
            ejections: families.ejections.shard(),
            retries_withheld: families.retries_withheld.shard(),
            authz: families.authz.shard(),
        }
    }

    /// Counts an ended request, its last attempt included.
    pub(crate) fn finished(&self, record: &Record) {
        let known = self.find(record);
        known.requests.requests.add(1);
        known.requests.received.add(record.bytes_received);
        known.requests.sent.add(record.bytes_sent);
        if let Some(duration) = &known.duration {
            duration.observe(record.duration);
        }
        if let Some(attempts) = known.attempts.as_ref().filter(|_| record.attempts > 0) {
            attempts.add(1);
        }
    }

    /// Counts an attempt that another one followed.
    pub(crate) fn retried(&self, record: &Record) {
        self.attempts.series(&AttemptLabels::of(record)).add(1);
    }

    /// Counts a connection as opened, and as closed when the value is dropped.
    pub(crate) fn connection(&self, direction: Direction, peer: Peer, tls: Security) -> OpenConnection {
        let series = self.connections.series(&ConnectionLabels { direction, peer, tls });
        series.opened.add(1);
        OpenConnection { series, _stays_on_its_thread: std::marker::PhantomData }
    }

    /// Counts a TLS handshake.
    pub(crate) fn handshake(&self, peer: Peer, outcome: Result<(), HandshakeFailure>) {
        let (result, reason) = match outcome {
            Ok(()) => ("ok", ""),
            Err(failure) => ("failed", failure.name()),
        };
        self.handshakes.series(&HandshakeLabels { peer, result, reason }).add(1);
    }

    /// Counts what the HTTP/1 guard or the HTTP/2 codec refused.
    pub(crate) fn guard_refused(&self, kind: &'static str) {
        self.guard_refusals.series(&KindLabel(kind)).add(1);
    }

    /// Counts a connection that would have come back to us.
    pub(crate) fn loop_refused(&self, direction: Direction) {
        self.loops.series(&DirectionLabel(direction)).add(1);
    }

    /// Counts a connection to a destination that no policy names.
    pub(crate) fn external(&self, kind: &'static str) {
        self.external.series(&KindLabel(kind)).add(1);
    }

    /// Counts an endpoint's ejection.
    pub(crate) fn ejected(&self, service: &Arc<str>, region: &Arc<str>) {
        let labels = EjectionLabels { service: Arc::clone(service), peer_region: Arc::clone(region) };
        self.ejections.series(&labels).add(1);
    }

    /// Counts a retry that was not made.
    pub(crate) fn retry_withheld(&self, service: &Arc<str>, kind: &'static str) {
        self.retries_withheld.series(&WithheldLabels { service: Arc::clone(service), kind }).add(1);
    }

    /// Counts a call that authorisation refused, or would have.
    pub(crate) fn authz(&self, policy: &Arc<str>, kind: &'static str, result: &'static str) {
        self.authz.series(&AuthzLabels { policy: Arc::clone(policy), kind, result }).add(1);
    }

    /// The series of a request's labels. Two label sets may share a hash: the next number is then tried.
    fn find(&self, record: &Record) -> Rc<Known> {
        let method = method_name(record.method.as_ref());
        let mut at = self.hash_of(record, method);
        let found = loop {
            match self.known.borrow().get(&at) {
                Some(known) if known.labels.are_of(record, method) => break Some(Rc::clone(known)),
                Some(_) => at = at.wrapping_add(1),
                None => break None,
            }
        };
        found.unwrap_or_else(|| self.learn(record, at))
    }

    fn hash_of(&self, record: &Record, method: &'static str) -> u64 {
        let mut hasher = self.hash.build_hasher();
        hasher.write(record.service.as_bytes());
        hasher.write(record.peer_service.as_bytes());
        hasher.write(record.route.as_bytes());
        hasher.write(record.peer_region.as_bytes());
        // A method's name stands at one address, which is cheaper to hash than the name.
        hasher.write_usize(method.as_ptr().addr());
        hasher.write_u64(
            u64::from(record.status)
                | (record.direction as u64) << 16
                | (record.protocol as u64) << 24
                | (record.security as u64) << 32,
        );
        record.reason.hash(&mut hasher);
        hasher.finish()
    }

    fn learn(&self, record: &Record, at: u64) -> Rc<Known> {
        let labels = RequestLabels::of(record);
        let admitted = self.requests.admitted(&labels);
        let durations = match record.direction {
            Direction::Inbound => &self.server_durations,
            Direction::Outbound => &self.client_durations,
        };
        let is_http = record.protocol != Protocol::Tcp;
        let is_outbound = record.direction == Direction::Outbound;
        let keep = admitted.is_some();
        let known = Rc::new(Known {
            labels,
            requests: admitted.unwrap_or_else(|| Arc::clone(self.requests.overflow())),
            duration: is_http.then(|| durations.series(&DurationLabels::of(record))),
            attempts: is_outbound.then(|| self.attempts.series(&AttemptLabels::of(record))),
        });
        if keep {
            self.known.borrow_mut().insert(at, Rc::clone(&known));
        }
        known
    }
}

/// A connection that is open until this is dropped.
#[derive(Debug)]
pub struct OpenConnection {
    series: Arc<ConnectionSeries>,
    // The series has one writer.
    _stays_on_its_thread: std::marker::PhantomData<Rc<()>>,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.series.closed.add(1);
    }
}
