//! One sidecar's policy stream.

use std::convert::Infallible;
use std::time::Instant;

use futures_util::stream::poll_fn;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use trama_proto::discovery::v1::policy_service_client::PolicyServiceClient;
use trama_proto::discovery::v1::{Node, control_message::Message};
use trama_sidecar::config::snapshot::Snapshot;
use trama_sidecar::discovery::Subscriber;

use super::policy;

/// As the sidecar has it.
const LARGEST: usize = 64 << 20;

/// What a sidecar did.
pub(crate) struct Told {
    pub(crate) sidecar: usize,
    /// The revision of the push that it acknowledged, and when; or why its stream ended.
    pub(crate) acknowledged: Result<(u64, Instant), String>,
}

/// Follows the stream to its end, which is always an error.
pub(crate) async fn follow(
    channel: Channel,
    sidecar: usize,
    identity: String,
    tell: mpsc::UnboundedSender<Told>,
) {
    let Err(ended) = stream(channel, sidecar, identity, &tell).await;
    tell.send(Told { sidecar, acknowledged: Err(ended) }).ok();
}

async fn stream(
    channel: Channel,
    sidecar: usize,
    identity: String,
    tell: &mpsc::UnboundedSender<Told>,
) -> Result<Infallible, String> {
    let mut subscriber = Subscriber::new(policy::calls(sidecar));
    let (name, namespace) = (format!("sidecar-{sidecar}"), "bench".to_owned());
    let (out, mut messages) = mpsc::unbounded_channel();
    for message in subscriber.begin(Node { identity, name, namespace, ..Node::default() }) {
        out.send(message).ok();
    }
    let mut client = PolicyServiceClient::new(channel).max_decoding_message_size(LARGEST);
    let opened = client.stream(poll_fn(move |context| messages.poll_recv(context))).await;
    let mut pushes = opened.map_err(|status| status.to_string())?.into_inner();
    loop {
        let said = pushes.message().await.map_err(|status| status.to_string())?;
        let Some(Message::Push(push)) = said.ok_or("closed")?.message else { continue };
        let revision = push.revision;
        // What would be compiled is for the sidecar's machine; what is told about it is not.
        let answer = subscriber.push(push, |_, _, _| Ok(Snapshot::default()));
        let answer = answer.map_err(|fault| fault.to_string())?;
        if let Some(problems) = answer.refused {
            return Err(format!("refused:\n{problems}"));
        }
        for message in answer.messages {
            out.send(message).ok();
        }
        tell.send(Told { sidecar, acknowledged: Ok((revision, Instant::now())) }).ok();
    }
}
