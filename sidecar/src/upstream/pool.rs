//! The pools of one worker.

use std::{cell::RefCell, collections::HashMap, net::SocketAddr, rc::Rc};

use tokio::time::Instant;

use super::{Who, http1::Http1Pool, http2::Http2Pool, limits::UpstreamLimits};

/// What makes two connections interchangeable.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Key {
    pub(super) who: Who,
    pub(super) address: SocketAddr,
    pub(super) http2: bool,
    pub(super) revision: u64,
}

type Map<V> = HashMap<Key, V, foldhash::fast::RandomState>;

/// All pools of one worker.
#[derive(Default)]
pub(super) struct Pools {
    http1: Map<Rc<RefCell<Http1Pool>>>,
    http2: Map<Rc<RefCell<Http2Pool>>>,
}

impl Pools {
    pub(super) fn http1(&mut self, key: Key) -> Rc<RefCell<Http1Pool>> {
        Rc::clone(self.http1.entry(key).or_default())
    }

    pub(super) fn http2(&mut self, key: Key) -> Rc<RefCell<Http2Pool>> {
        Rc::clone(self.http2.entry(key).or_default())
    }

    /// Closes what idled or aged; forgets pools that hold nothing and that nobody waits in.
    pub(super) fn sweep(&mut self, now: Instant, limits: &UpstreamLimits) {
        self.http1.retain(|_, pool| {
            let keep = pool.borrow_mut().sweep(now, limits);
            keep || Rc::strong_count(pool) > 1
        });
        self.http2.retain(|_, pool| {
            let keep = pool.borrow_mut().sweep(now, limits);
            keep || Rc::strong_count(pool) > 1
        });
    }

    pub(super) fn open(&self) -> usize {
        let http1: usize = self.http1.values().map(|p| p.borrow().open()).sum();
        let http2: usize = self.http2.values().map(|p| p.borrow().open()).sum();
        http1 + http2
    }
}
