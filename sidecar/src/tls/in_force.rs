//! The identity in force: workers load it for each connection, the control side waits for the next one.

use std::{sync::Arc, time::Duration};

use arc_swap::{ArcSwapOption, Guard};
use tokio::{sync::watch, time};

use super::Identity;

/// How often it is looked whether the identity holds, where nothing changes but the clock.
const LOOK: Duration = Duration::from_secs(10);

/// The place of the one identity, with none in it at first.
#[derive(Clone, Debug, Default)]
pub struct InForce(Arc<Place>);

#[derive(Debug, Default)]
struct Place {
    current: ArcSwapOption<Identity>,
    changes: watch::Sender<()>,
    /// DER.
    offered: watch::Sender<Vec<Vec<u8>>>,
}

impl InForce {
    /// The identity, to look at.
    pub fn load(&self) -> Guard<Option<Arc<Identity>>> {
        self.0.current.load()
    }

    /// The identity, to keep for a while.
    pub fn load_full(&self) -> Option<Arc<Identity>> {
        self.0.current.load_full()
    }

    /// Puts another one in force.
    pub fn put(&self, identity: Identity) {
        self.0.current.store(Some(Arc::new(identity)));
        self.0.changes.send_replace(());
    }

    /// Offers the roots that its giver trusts from now on, DER, to whoever keeps it current.
    pub fn offer_roots(&self, roots: Vec<Vec<u8>>) {
        self.0.offered.send_replace(roots);
    }

    /// The roots that are offered.
    pub fn offered_roots(&self) -> watch::Receiver<Vec<Vec<u8>>> {
        self.0.offered.subscribe()
    }

    /// Waits for one that has not ended; `now` is asked for the seconds since 1970.
    pub async fn holding(&self, now: impl Fn() -> i64) -> Arc<Identity> {
        let mut changes = self.0.changes.subscribe();
        loop {
            match self.load_full() {
                Some(identity) if now() < identity.not_after => return identity,
                _ => drop(time::timeout(LOOK, changes.changed()).await),
            }
        }
    }
}
