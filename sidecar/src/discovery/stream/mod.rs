//! Policy from the control plane: one stream as long as both live, and again with growing pauses when it ends. What holds
//! stays in force meanwhile.

mod aside;
mod asked;
mod held;
mod parts;
mod resolve;
mod standing;
mod subscriber;

use std::{collections::BTreeSet, sync::Arc};

use futures_util::stream::poll_fn;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tonic::Streaming;
use tracing::{error, info, warn};
use trama_proto::{
    Problems,
    discovery::v1::{
        ControlMessage, Node, Push, SidecarMessage, control_message::Message,
        policy_service_client::PolicyServiceClient, sidecar_message::Message as Said,
    },
    document::Document,
};

use self::{aside::Aside, asked::Asked};
pub use self::{
    held::Stamp,
    parts::Parts,
    subscriber::{Answer, Compile, Fault, Subscriber},
};
use super::{
    Accepted,
    backoff::Backoff,
    control_plane::{ControlPlane, PATIENCE, Unreachable},
    last_good::Kept,
    log_refusal,
};
use crate::{
    admin,
    config::{
        convert::{self, Extent, Local},
        snapshot::{Origin, Snapshot, state::Registry},
    },
    telemetry::{PushResult, TelemetryHub},
};

/// The largest message. A control plane that knows of no parts says a push in one: of a mesh of 10,000 services that has
/// about 40 MB.
const LARGEST: usize = 64 * 1024 * 1024;
/// Answers that wait to be sent: there is one push on its way at a time.
const ANSWERS: usize = 16;

/// What a stream begins with.
pub struct Beginning {
    /// The control plane.
    pub control_plane: ControlPlane,
    /// Who we are.
    pub node: Node,
    /// What we are to policy.
    pub local: Local,
    /// What was kept of an earlier stream.
    pub last_good: Option<Kept>,
    /// Services that are wanted before any request asks for them, `namespace/name`.
    pub always: BTreeSet<Arc<str>>,
    /// The services that requests ask for.
    pub questions: mpsc::Receiver<Arc<str>>,
    /// Who answers what the control plane asks.
    pub asked: Arc<dyn admin::State>,
}

/// The policy stream of a sidecar.
pub struct PolicyStream {
    control_plane: ControlPlane,
    node: Node,
    follower: Aside<Follower>,
    /// Whether there is something of an earlier stream, to begin with.
    is_kept: bool,
    /// Whether any policy has been put in force since the start.
    holds: bool,
    questions: mpsc::Receiver<Arc<str>>,
    state: Arc<dyn admin::State>,
    telemetry: TelemetryHub,
}

/// What is held, and what makes a policy of it.
#[derive(Debug)]
struct Follower {
    subscriber: Subscriber,
    compiler: Compiler,
}

#[derive(Debug)]
struct Compiler {
    local: Local,
    registry: Registry,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    #[error("refused or broken off: {0}")]
    Status(#[from] tonic::Status),
    #[error("closed by the control plane")]
    Closed,
    #[error("the control plane takes nothing any more")]
    Stalled,
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl PolicyStream {
    /// A stream, not yet begun.
    pub fn new(beginning: Beginning, telemetry: TelemetryHub) -> Self {
        let Beginning { control_plane, node, local, last_good, always, questions, asked } = beginning;
        let kept = last_good.map(|kept| Subscriber::of_kept(&kept.content, always.clone()));
        let (subscriber, is_kept) = match kept {
            Some(Ok(subscriber)) => (subscriber, true),
            Some(Err(problem)) => {
                error!("the last good policy, from disk, cannot be used: {problem}");
                (Subscriber::new(always), false)
            }
            None => (Subscriber::new(always), false),
        };
        let compiler = Compiler { local, registry: Registry::default() };
        let follower = Aside::new(Follower { subscriber, compiler });
        Self { control_plane, node, follower, is_kept, holds: false, questions, state: asked, telemetry }
    }

    /// Follows the control plane for ever. `sink` gets each new policy, and the problems of each push that is refused. What
    /// was kept comes first, at once.
    pub async fn follow(mut self, mut sink: impl FnMut(Result<Accepted, Problems>)) {
        if self.is_kept {
            self.restore(&mut sink).await;
        }
        let mut backoff = Backoff::default();
        loop {
            let Err(ended) = self.stream(&mut backoff, &mut sink).await;
            let wait = backoff.failed(fastrand::u64(..));
            self.telemetry.process().control_plane_lost();
            let stays = if self.holds { "; what holds stays" } else { ", and no policy so far" };
            warn!(%ended, again_in = ?wait, "no policy stream{stays}");
            self.pause(wait).await;
        }
    }

    async fn restore(&mut self, sink: &mut impl FnMut(Result<Accepted, Problems>)) {
        let restored = self.follower.work(|Follower { subscriber, compiler }| {
            let restored =
                subscriber.restore(|documents, extent, number| compiler.compile(documents, extent, number));
            restored.map(|snapshot| (snapshot, subscriber.to_keep()))
        });
        match restored.await {
            Ok((snapshot, content)) => {
                let snapshot = Snapshot { origin: Origin::LastGood, ..snapshot };
                warn!(revision = %snapshot.revision, "the last good policy, from disk, is in use");
                self.holds = true;
                sink(Ok(Accepted { snapshot, content }));
            }
            Err(problems) => {
                log_refusal("the last good policy, from disk", &problems, false);
                sink(Err(problems));
            }
        }
    }

    /// One stream from its begin to its end, which is always an error.
    async fn stream(
        &mut self,
        backoff: &mut Backoff,
        sink: &mut impl FnMut(Result<Accepted, Problems>),
    ) -> Result<std::convert::Infallible, Ended> {
        let (channel, own) = self.control_plane.connect().await?;
        let (out, mut messages) = mpsc::channel(ANSWERS);
        while let Ok(label) = self.questions.try_recv() {
            self.follower.now().subscriber.want([label]);
        }
        let identity = self.control_plane.identity.load().as_ref().map(|own| own.id.to_string());
        self.node.identity = identity.unwrap_or_default();
        self.node.addresses = own.iter().map(held::octets).collect();
        for mut message in self.follower.now().subscriber.begin(self.node.clone()) {
            if let Some(Said::Hello(hello)) = &mut message.message {
                hello.roots = self.control_plane.given_roots();
            }
            send(&out, message).await?;
        }
        let mut client = PolicyServiceClient::new(channel).max_decoding_message_size(LARGEST);
        let opened =
            timeout(PATIENCE, client.stream(poll_fn(move |context| messages.poll_recv(context)))).await;
        let mut pushes: Streaming<ControlMessage> = opened.map_err(|_| Ended::Stalled)??.into_inner();
        info!(address = %self.control_plane.address, "policy stream open");
        self.telemetry.process().control_plane_found();
        let mut asked = Asked::new(Arc::clone(&self.state));
        let mut parts = Parts::default();
        loop {
            tokio::select! {
                said = pushes.message() => match said?.ok_or(Ended::Closed)?.message {
                    Some(Message::Push(part)) => {
                        let process = self.telemetry.process();
                        let push = parts.add(part).inspect_err(|_| process.policy_push(PushResult::Fault))?;
                        let Some(push) = push else { continue };
                        for message in self.take(push, sink).await? {
                            send(&out, message).await?;
                        }
                        backoff.succeeded();
                    }
                    Some(Message::Roots(roots)) => self.control_plane.identity.offer_roots(roots.certificates),
                    Some(Message::Ask(ask)) => {
                        asked.take(*ask, || self.follower.now().subscriber.hello(Node::default()));
                    }
                    None => {
                        warn!("the control plane says what this version does not know; it is ignored");
                        self.telemetry.process().policy_push(PushResult::Unknown);
                    }
                },
                told = asked.told() => send(&out, told).await?,
                Some(label) = self.questions.recv() => {
                    let more = std::iter::from_fn(|| self.questions.try_recv().ok());
                    let asked = self.follower.now().subscriber.want(std::iter::once(label).chain(more));
                    if let Some(message) = asked {
                        send(&out, message).await?;
                    }
                }
            }
        }
    }

    /// Takes a push, and gives what to answer.
    async fn take(
        &mut self,
        push: Push,
        sink: &mut impl FnMut(Result<Accepted, Problems>),
    ) -> Result<Vec<SidecarMessage>, Fault> {
        let (epoch, revision, nonce) = (push.epoch, push.revision, push.nonce);
        let taken = self.follower.work(move |Follower { subscriber, compiler }| {
            let taken = subscriber
                .push(push, |documents, extent, number| compiler.compile(documents, extent, number));
            compiler.registry.sweep();
            taken.map(|answer| (answer, subscriber.to_keep()))
        });
        let process = self.telemetry.process();
        let (Answer { messages, snapshot, refused, not_understood }, content) =
            taken.await.inspect_err(|_| process.policy_push(PushResult::Fault))?;
        let result = if refused.is_some() { PushResult::Refused } else { PushResult::Acknowledged };
        process.policy_push(result);
        if not_understood > 0 {
            warn!(
                epoch,
                nonce,
                not_understood,
                "of some resources this version does not know the kind, or a field, and ignores it; upgrade the sidecar"
            );
            process.policy_push(PushResult::Unknown);
        }
        if let Some(problems) = refused {
            warn!(epoch, nonce, revision, "not all of the policy can be used:\n{problems}");
            sink(Err(problems));
        }
        if let Some(snapshot) = snapshot {
            info!(epoch, nonce, revision = %snapshot.revision, "policy in use");
            self.holds = true;
            sink(Ok(Accepted { snapshot, content }));
        }
        Ok(messages)
    }

    /// Waits, and remembers what requests ask for meanwhile.
    async fn pause(&mut self, wait: std::time::Duration) {
        let end = Instant::now() + wait;
        loop {
            tokio::select! {
                () = sleep_until(end) => return,
                Some(label) = self.questions.recv() => {
                    self.follower.now().subscriber.want([label]);
                }
            }
        }
    }
}

impl Compiler {
    fn compile(
        &mut self,
        documents: &[&Document],
        extent: Extent<'_>,
        number: u64,
    ) -> Result<Snapshot, Problems> {
        convert::convert_part(documents, extent, &self.local, &mut self.registry, number)
    }
}

async fn send(out: &mpsc::Sender<SidecarMessage>, message: SidecarMessage) -> Result<(), Ended> {
    // Its other end is gone when the stream is: the reason is in what is read next.
    timeout(PATIENCE, out.send(message)).await.map_err(|_| Ended::Stalled)?.map_err(|_| Ended::Closed)
}
