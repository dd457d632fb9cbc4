//! The policy stream: [`crate::distribute::Session`] over the wire.
//!
//! A stream has one task. It holds at most one push, so that a slow sidecar costs no memory, and ends with a named reason
//! whoever does not keep to the limits. The world wakes it when something has changed.

mod asks;
mod seats;
mod server;
mod task;

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, stream};
use tokio::sync::{mpsc, watch};
use tonic::{Request, Status};
use trama_proto::{discovery::v1::ControlMessage, spiffe::SpiffeId};

pub(crate) use self::{
    asks::{Asks, PATIENCE, Unanswered, kind},
    seats::{Seat, Seats},
    server::PolicyServer,
};
use self::{
    seats::Full,
    server::Said,
    task::{Ended, Task},
};
use crate::{
    clock,
    config::{Limits, Timeouts},
    identity::Trusted,
    mirror::Mirror,
    peer::Peer,
    quota,
    reason::Reason,
    telemetry::{Metrics, StreamEnd},
};

/// What every stream needs.
pub(crate) struct Shared {
    pub(crate) mirror: Arc<Mirror>,
    pub(crate) seats: Arc<Seats>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    /// The roots that are trusted now.
    pub(crate) roots: watch::Receiver<Arc<Trusted>>,
    /// Turns true when the control plane is about to end.
    pub(crate) ending: watch::Receiver<bool>,
}

/// The service.
#[derive(Clone)]
pub(crate) struct Policy(pub(crate) Arc<Shared>);

type Pushes = Pin<Box<dyn Stream<Item = Result<ControlMessage, Status>> + Send>>;

impl Policy {
    /// Begins a stream.
    async fn stream(&self, request: Request<Said>) -> Result<Pushes, Status> {
        let shared = Arc::clone(&self.0);
        let refused = |ended: Ended| {
            shared.metrics.stream_ended(ended.why);
            tracing::warn!(reason = ?ended.why, "a policy stream was refused: {}", ended.status.message());
            ended.status
        };
        let peer = Peer::of_request(&request)?.clone();
        let identity = peer.identity(clock::seconds()).cloned();
        let identity =
            identity.map_err(|status| refused(Ended { why: StreamEnd::Unauthenticated, status }))?;
        if !shared.mirror.is_synced() {
            let status = Reason::NotReady.status("the control plane does not know the policy yet; come back");
            return Err(refused(Ended { why: StreamEnd::NotReady, status }));
        }
        let place = shared.seats.place(&identity);
        let place = place.map_err(|full| refused(full_up(&full, &identity, &shared.limits)))?;

        let (sender, receiver) = mpsc::channel(1);
        let cut = peer.cut().clone();
        let task = Task::new(Arc::clone(&shared), identity, request.into_inner(), sender, cut);
        tokio::spawn(async move {
            task.run().await;
            drop(place);
        });
        Ok(told(receiver))
    }
}

fn full_up(full: &Full, identity: &SpiffeId, limits: &Limits) -> Ended {
    let subject = identity.as_str();
    let (why, status) = match full {
        Full::All => {
            let problem = format!("there are {} policy streams already (`limits.streams`)", limits.streams);
            (StreamEnd::Limit, quota::exceeded(Reason::TooManyStreams, "limits.streams", subject, problem))
        }
        Full::Identity => {
            let (most, limit) = (limits.streams_per_identity, "limits.streamsPerIdentity");
            let problem = format!("{identity} has {most} policy streams already (`{limit}`)");
            let status = quota::exceeded(Reason::TooManyStreamsOfIdentity, limit, subject, problem);
            (StreamEnd::IdentityLimit, status)
        }
    };
    Ended { why, status }
}

fn told(mut receiver: mpsc::Receiver<Result<ControlMessage, Status>>) -> Pushes {
    Box::pin(stream::poll_fn(move |context| receiver.poll_recv(context)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Memory, Store};

    fn request() -> Request<Said> {
        let mut request = Request::new(Said::new(tonic::body::Body::empty(), 1024));
        request.extensions_mut().insert(Peer::proved("spiffe://mesh.test/ns/shop/sa/orders", u64::MAX));
        request
    }

    /// Who were served an empty world would drop all that it has.
    #[tokio::test]
    async fn streams_are_refused_until_the_policy_is_known() {
        let mirror = Arc::new(Mirror::default());
        let (_ending, ending) = watch::channel(false);
        let policy = Policy(Arc::new(Shared {
            mirror: Arc::clone(&mirror),
            seats: Arc::new(Seats::new(1, 1)),
            metrics: Arc::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            roots: watch::channel(Arc::default()).1,
            ending,
        }));
        let refused = policy.stream(request()).await.err().unwrap();
        assert_eq!(refused.code(), tonic::Code::Unavailable);

        let store: Arc<dyn Store> = Arc::new(Memory::new(1));
        let following = tokio::spawn(Arc::clone(&mirror).follow(store));
        mirror.reach(0).await;
        assert!(policy.stream(request()).await.is_ok());
        following.abort();
    }
}
