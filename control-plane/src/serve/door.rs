//! Who is let in at the sidecars' port, so that one peer cannot take the places of all: connections of an address that has
//! proved nothing, and of an identity.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use trama_proto::spiffe::SpiffeId;

use crate::{
    config::Limits,
    flood::Lines,
    peer::{Peer, source},
    quota::{Quota, Share},
    telemetry::{ConnectionEnd, Metrics},
};

/// The door.
pub(super) struct Door {
    addresses: Arc<Quota<IpAddr>>,
    identities: Arc<Quota<SpiffeId>>,
    lines: Mutex<Lines>,
    began: Instant,
    metrics: Arc<Metrics>,
}

/// A connection's place among all, and among those of its peer. Free again when it is dropped.
pub(crate) struct Place {
    _all: OwnedSemaphorePermit,
    _own: Option<Own>,
}

/// What nobody reads: it is held.
enum Own {
    Address { _share: Share<IpAddr> },
    Identity { _share: Share<SpiffeId> },
}

/// A place of an address that has proved nothing so far.
pub(super) struct Stranger {
    all: OwnedSemaphorePermit,
    share: Share<IpAddr>,
}

impl Place {
    /// One that only the number of all bounds.
    pub(super) fn of_all(all: OwnedSemaphorePermit) -> Self {
        Self { _all: all, _own: None }
    }
}

impl Door {
    pub(super) fn new(limits: &Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            addresses: Arc::new(Quota::new(limits.connections_per_address as usize)),
            identities: Arc::new(Quota::new(limits.connections_per_identity as usize)),
            lines: Mutex::default(),
            began: Instant::now(),
            metrics,
        }
    }

    /// Before the handshake. `None`: the address has too many that have proved nothing.
    pub(super) fn stranger(&self, address: IpAddr, all: OwnedSemaphorePermit) -> Option<Stranger> {
        let Some(share) = self.addresses.take(&source(address)) else {
            self.refuse(ConnectionEnd::Address, &address, "limits.connectionsPerAddress");
            return None;
        };
        Some(Stranger { all, share })
    }

    /// After it. Who has proved who he is no longer counts for his address.
    pub(super) fn known(&self, Stranger { all, share }: Stranger, peer: &Peer) -> Option<Place> {
        let Some(identity) = peer.proved_by_handshake() else {
            return Some(Place { _all: all, _own: Some(Own::Address { _share: share }) });
        };
        let Some(share) = self.identities.take(identity) else {
            self.refuse(ConnectionEnd::Identity, peer, "limits.connectionsPerIdentity");
            return None;
        };
        Some(Place { _all: all, _own: Some(Own::Identity { _share: share }) })
    }

    fn refuse(&self, why: ConnectionEnd, peer: &dyn std::fmt::Display, limit: &'static str) {
        self.metrics.connection_ended(why);
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(refused) = lines.count(self.began.elapsed()) {
            tracing::warn!(%peer, limit, refused, "a connection is refused: its peer has as many as it may");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn who_has_proved_something_counts_for_his_identity_and_no_more_for_his_address() {
        let metrics = Arc::new(Metrics::default());
        let limits = Limits { connections_per_address: 1, connections_per_identity: 2, ..Limits::default() };
        let door = Door::new(&limits, Arc::clone(&metrics));
        let all = Arc::new(Semaphore::new(10));
        let knock = || door.stranger(ip("10.0.0.7"), Arc::clone(&all).try_acquire_owned().unwrap());
        let orders = Peer::proved("spiffe://mesh.test/ns/shop/sa/orders", u64::MAX);
        let nobody = Peer::unproved(([10, 0, 0, 7], 1).into());

        let first = knock().unwrap();
        assert!(knock().is_none(), "one handshake at a time");
        let _first = door.known(first, &orders).unwrap();
        let _second = door.known(knock().unwrap(), &orders).unwrap();
        assert!(door.known(knock().unwrap(), &orders).is_none());
        let unproved = door.known(knock().unwrap(), &nobody).unwrap();
        assert!(knock().is_none());
        drop(unproved);
        assert!(knock().is_some());
        let text = metrics.scrape();
        for sample in ["{reason=\"address_limit\"} 2", "{reason=\"identity_limit\"} 1"] {
            assert!(text.contains(&format!("connections_ended_total{sample}")), "{sample} in\n{text}");
        }
        assert_eq!(all.available_permits(), 8, "who is refused takes no place");
    }
}
