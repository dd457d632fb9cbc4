//! A watch reads the store's own list of its last transactions. It holds no queue, so a slow watcher costs nothing and
//! loses nothing until it is further behind than that list reaches; then it is told so.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::watch;

use super::{Batch, StoreError, state::Shared};

/// As many batches as a watch reads at once.
const AT_ONCE: usize = 64;

/// Tells every transaction under a prefix, once and in order.
pub struct Watch {
    shared: Arc<Shared>,
    /// The store's last revision.
    last: watch::Receiver<u64>,
    prefix: String,
    seen: u64,
    ready: VecDeque<Batch>,
}

impl Watch {
    pub(super) fn new(shared: Arc<Shared>, last: watch::Receiver<u64>, prefix: &str, seen: u64) -> Self {
        Self { shared, last, prefix: prefix.to_owned(), seen, ready: VecDeque::new() }
    }

    /// The next transaction; waits for it. Cancelling loses nothing.
    pub async fn next(&mut self) -> Result<Batch, StoreError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(batch);
            }
            let seen = self.seen;
            if self.last.wait_for(|last| *last > seen).await.is_err() {
                return Err(StoreError::Unavailable("it was closed".to_owned()));
            }
            let batches = self.shared.state().after(seen, AT_ONCE)?;
            self.seen = batches.last().map_or(seen, |batch| batch.revision);
            self.ready = batches.into_iter().filter_map(|batch| batch.under(&self.prefix)).collect();
        }
    }
}
