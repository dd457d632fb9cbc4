//! How often certificates may be asked for. A wrong token costs whoever tries it as much as a good one.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;
use trama_proto::spiffe::SpiffeId;

use crate::flood::{Floods, Lines};

/// How often each peer may ask. Its lock is held for a look.
pub(super) struct Rates {
    each_second: u32,
    began: Instant,
    rates: Mutex<OfPeers>,
}

struct OfPeers {
    joins: Floods<IpAddr>,
    renewals: Floods<SpiffeId>,
    lines: Lines,
}

impl Rates {
    pub(super) fn new(each_second: u32) -> Self {
        let (joins, renewals) = (Floods::new(each_second), Floods::new(each_second));
        let rates = Mutex::new(OfPeers { joins, renewals, lines: Lines::default() });
        Self { each_second, began: Instant::now(), rates }
    }

    /// Whether somebody at this address may try to join now.
    pub(super) fn join(&self, source: IpAddr) -> bool {
        self.rates().joins.grant(&source, 1, self.began.elapsed()) == 1
    }

    /// Whether this identity may be renewed now.
    pub(super) fn renewal(&self, identity: &SpiffeId) -> bool {
        self.rates().renewals.grant(identity, 1, self.began.elapsed()) == 1
    }

    /// How many were refused since that was last told; `None`: it was told a moment ago.
    pub(super) fn line(&self) -> Option<u64> {
        self.rates().lines.count(self.began.elapsed())
    }

    pub(super) fn each_second(&self) -> u32 {
        self.each_second
    }

    fn rates(&self) -> MutexGuard<'_, OfPeers> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
