//! How what no request judges hears of new policy: an opaque connection may have begun under a policy that is no more.

use std::future::pending;

use tokio::sync::watch;

use crate::{config::snapshot::Revision, error::Failure};

/// The policies in force from now on, on one worker.
#[derive(Clone, Debug)]
pub struct Changes(pub(super) watch::Receiver<Revision>);

impl Changes {
    /// Judges anew after each change; ends with the first refusal.
    pub async fn refused(mut self, mut judge: impl AsyncFnMut() -> Result<(), Failure>) -> Failure {
        loop {
            if self.0.changed().await.is_err() {
                // The worker is gone, and what it carries goes with it.
                return pending().await;
            }
            if let Err(refused) = judge().await {
                return refused;
            }
        }
    }
}
