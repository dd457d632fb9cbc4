//! What a request needs to know and the sidecar does not know yet: of most services a control plane tells name and
//! addresses only, and the rest when somebody asks.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{
    config::snapshot::{ServicePort, Snapshot},
    error::{Failure, Reason},
};

/// How long a request waits for what concerns its service.
const WAIT: Duration = Duration::from_secs(1);
/// Questions that wait to be heard. One more is forgotten: its request waits in vain, and the next one asks again.
const QUESTIONS: usize = 1024;

/// The requests' end: they ask, and hear of each new policy.
#[derive(Clone, Debug)]
pub struct Needs {
    questions: mpsc::Sender<Arc<str>>,
    changes: watch::Receiver<()>,
}

/// The control side's end.
#[derive(Debug)]
pub struct Answers {
    /// The services that requests ask for, `namespace/name`, some of them many times.
    pub questions: mpsc::Receiver<Arc<str>>,
    /// Told after each change of the policy in force.
    pub changes: watch::Sender<()>,
}

impl Needs {
    /// Both ends.
    pub fn new() -> (Self, Answers) {
        let (ask, questions) = mpsc::channel(QUESTIONS);
        let (tell, changes) = watch::channel(());
        (Self { questions: ask, changes }, Answers { questions, changes: tell })
    }

    /// The policy in which all that concerns a service is known, or in which it is gone. `in_force` gives the policy of
    /// the moment.
    pub async fn whole(
        &self,
        service: &ServicePort,
        in_force: impl Fn() -> Arc<Snapshot>,
    ) -> Result<Arc<Snapshot>, Failure> {
        let told = timeout(WAIT, self.told(service, in_force)).await;
        told.map_err(|_| Failure::before(Reason::ServicePending).detail(&service.service.label))
    }

    /// The same, for as long as it takes.
    pub async fn told(&self, service: &ServicePort, in_force: impl Fn() -> Arc<Snapshot>) -> Arc<Snapshot> {
        let label = &service.service.label;
        let mut changes = self.changes.clone();
        self.questions.try_send(Arc::clone(label)).ok();
        loop {
            // Before the look: what changes after it is a change.
            changes.mark_unchanged();
            let snapshot = in_force();
            let now = snapshot.destinations.of_name(label, service.port);
            if now.is_none_or(|service| service.whole) {
                return snapshot;
            }
            if changes.changed().await.is_err() {
                // Whoever could tell is gone.
                std::future::pending::<()>().await;
            }
        }
    }
}
