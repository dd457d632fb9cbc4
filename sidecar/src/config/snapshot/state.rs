//! What survives a push: per-sidecar state, keyed by stable ids, shared by all workers through atomics.
//!
//! A new snapshot takes the handles of what it still names from the [`Registry`]; what no snapshot names any more is
//! freed with the last request that holds it. The meaning of the numbers is `balance`'s and `upstream`'s.

use std::{
    collections::HashMap,
    hash::Hash,
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use super::cluster::BackendTls;

/// An endpoint's number, unique in the life of the process: worker-local maps are keyed by it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EndpointId(pub u64);

/// What makes an endpoint the same endpoint across pushes.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct EndpointKey {
    /// `namespace/name` of the service it belongs to.
    pub service: Arc<str>,
    /// Where the application listens.
    pub address: SocketAddr,
    /// Where its sidecar listens, if it has one.
    pub mesh: Option<SocketAddr>,
    /// The identity that its certificate must carry.
    pub identity: Option<Arc<str>>,
    /// How it is spoken to in TLS, if it has no sidecar: connections made in another way are not its.
    pub tls: Option<Arc<BackendTls>>,
}

/// Health of an endpoint as all workers of this sidecar see it. Times are microseconds on the sidecar's clock.
#[derive(Debug)]
pub struct EndpointHealth {
    /// The endpoint's number.
    pub id: EndpointId,
    /// Ejected until this time; 0: not ejected.
    pub ejected_until: AtomicU64,
    /// Failures since the last success.
    pub consecutive_failures: AtomicU32,
    /// Times ejected without a quiet period between; each makes the next ejection longer.
    pub ejections: AtomicU32,
}

/// Counts that bound what one service may cost this sidecar.
#[derive(Debug, Default)]
pub struct ClusterState {
    /// Connections open to all endpoints.
    pub connections: AtomicU32,
    /// Requests that wait for a connection.
    pub pending: AtomicU32,
    /// Requests in flight.
    pub requests: AtomicU32,
    /// Retries in flight.
    pub retries: AtomicU32,
    /// The retry budget, in thousandths of a retry; its meaning is `balance::budget`'s.
    pub retry_tokens: AtomicU64,
    /// When the retry budget was last refilled, microseconds.
    pub retry_refilled: AtomicU64,
}

/// The handles by key. Only the builder of snapshots uses it.
#[derive(Debug, Default)]
pub struct Registry {
    next: u64,
    endpoints: HashMap<EndpointKey, Weak<EndpointHealth>>,
    clusters: HashMap<(Arc<str>, u16), Weak<ClusterState>>,
}

impl Registry {
    /// The health of an endpoint: the one it had, or a fresh one.
    pub fn endpoint(&mut self, key: EndpointKey) -> Arc<EndpointHealth> {
        let Self { next, endpoints, .. } = self;
        held_or(endpoints, key, || {
            *next += 1;
            EndpointHealth {
                id: EndpointId(*next),
                ejected_until: AtomicU64::new(0),
                consecutive_failures: AtomicU32::new(0),
                ejections: AtomicU32::new(0),
            }
        })
    }

    /// The counts of a service's port: those it had, or fresh ones.
    pub fn cluster(&mut self, service: &Arc<str>, port: u16) -> Arc<ClusterState> {
        held_or(&mut self.clusters, (Arc::clone(service), port), ClusterState::default)
    }

    /// Forgets what nobody holds any more. Called after each push.
    pub fn sweep(&mut self) {
        self.endpoints.retain(|_, weak| weak.strong_count() > 0);
        self.clusters.retain(|_, weak| weak.strong_count() > 0);
    }
}

fn held_or<K: Eq + Hash, V>(map: &mut HashMap<K, Weak<V>>, key: K, make: impl FnOnce() -> V) -> Arc<V> {
    if let Some(held) = map.get(&key).and_then(Weak::upgrade) {
        return held;
    }
    let fresh = Arc::new(make());
    map.insert(key, Arc::downgrade(&fresh));
    fresh
}

/// Whether a count has reached its limit, so that [`Counted::within`] would count nothing more.
pub fn is_full(count: &AtomicU32, limit: u32) -> bool {
    count.load(Ordering::Relaxed) >= limit
}

/// One of a cluster's counts, one up while this lives.
#[derive(Debug)]
pub struct Counted {
    state: Arc<ClusterState>,
    which: fn(&ClusterState) -> &AtomicU32,
}

impl Counted {
    /// Counts one up, whatever is counted already.
    pub fn always(state: &Arc<ClusterState>, which: fn(&ClusterState) -> &AtomicU32) -> Self {
        which(state).fetch_add(1, Ordering::Relaxed);
        Self { state: Arc::clone(state), which }
    }

    /// Counts one up if fewer than `limit` are counted.
    pub fn within(
        state: &Arc<ClusterState>,
        which: fn(&ClusterState) -> &AtomicU32,
        limit: u32,
    ) -> Option<Self> {
        let before = which(state).fetch_add(1, Ordering::Relaxed);
        let counted = Self { state: Arc::clone(state), which };
        (before < limit).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.which)(&self.state).fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> EndpointKey {
        EndpointKey {
            service: "shop/orders".into(),
            address: SocketAddr::from(([10, 0, 0, 1], port)),
            mesh: None,
            identity: None,
            tls: None,
        }
    }

    #[test]
    fn state_survives_while_somebody_holds_it() {
        let mut registry = Registry::default();
        let first = registry.endpoint(key(80));
        first.ejected_until.store(7, Ordering::Relaxed);
        assert_eq!(registry.endpoint(key(80)).ejected_until.load(Ordering::Relaxed), 7);
        assert_ne!(registry.endpoint(key(81)).id, first.id);
        let id = first.id;
        drop(first);
        registry.sweep();
        assert_ne!(registry.endpoint(key(80)).id, id, "an id is never given twice");
    }

    #[test]
    fn a_limit_is_never_passed_and_given_back() {
        let state = Arc::new(ClusterState::default());
        let one = Counted::within(&state, |s| &s.connections, 1);
        assert!(one.is_some());
        assert!(Counted::within(&state, |s| &s.connections, 1).is_none());
        drop(one);
        assert!(Counted::within(&state, |s| &s.connections, 1).is_some());
    }
}
