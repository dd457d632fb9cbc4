//! What an attempt says about its endpoint: to this worker's balance, and to all workers' ejection.

use std::{sync::Arc, time::Duration};

use http::Response;

use crate::{
    balance::{Event, outlier},
    config::snapshot::{Cluster, Endpoint},
    error::Failure,
    http::body::Body,
    worker::{Blame, Ejection, Worker},
};

/// How an endpoint did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Good,
    Bad(Blame),
    /// It says nothing about the endpoint: a refusal by policy, a limit of ours, a caller that broke off.
    None,
}

impl Verdict {
    /// Of an attempt that may have been answered; `on_endpoint`: whether the endpoint alone was waited for in the end.
    pub(super) fn of(answered: &Result<Response<Body>, Failure>, on_endpoint: bool) -> Self {
        match answered {
            Ok(response) if outlier::is_failure(response.status()) => {
                Self::Bad(Blame::Status(response.status()))
            }
            Ok(_) => Self::Good,
            Err(failure) => Self::of_failure(failure, on_endpoint),
        }
    }

    pub(super) fn of_failure(failure: &Failure, on_endpoint: bool) -> Self {
        if outlier::counts(failure, on_endpoint) {
            Self::Bad(Blame::Failed(failure.reason))
        } else {
            Self::None
        }
    }

    /// Takes note of it, now. `cluster`: whose choice the endpoint was, if it was anybody's; `began`: when it was asked.
    pub(super) fn note(
        self,
        worker: &Worker,
        cluster: Option<&Cluster>,
        endpoint: &Arc<Endpoint>,
        began: Duration,
    ) {
        let now = worker.now();
        let after = now.saturating_sub(began);
        let event = match self {
            Self::Good => Event::Answered { after },
            Self::Bad(_) => Event::Failed { after },
            Self::None => return,
        };
        worker.loads.borrow_mut().observe(endpoint, event, now);
        let Self::Bad(why) = self else { return outlier::succeeded(&endpoint.health) };
        if let Some(cluster) = cluster
            && let Some(length) = outlier::failed(cluster, endpoint, now)
        {
            worker.telemetry.ejected(&cluster.service.label, &endpoint.region);
            worker.shared.ejections.tell(Ejection::new(cluster, endpoint, why, length));
        }
    }
}
