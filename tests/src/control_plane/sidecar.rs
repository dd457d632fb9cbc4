//! A policy stream, spoken by hand.

use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use trama_proto::discovery::v1::policy_service_client::PolicyServiceClient;
use trama_proto::discovery::v1::sidecar_message::Message;
use trama_proto::discovery::v1::{
    Ack, Ask, ControlMessage, HeldResource, Hello, Nack, Node, Push, Refusal, ResourceName, ServiceName,
    SidecarMessage, Subscribe, Told, control_message, told::Answer,
};
use trama_proto::document::ResourceId;

use crate::mesh::PATIENCE;

/// What a stream's begin comes to.
pub type Opened = Result<Stream, Status>;

/// An open stream.
pub struct Stream {
    outgoing: mpsc::UnboundedSender<SidecarMessage>,
    incoming: Streaming<ControlMessage>,
}

impl Stream {
    /// Opens one with a Hello that holds nothing.
    pub async fn open(channel: Channel, node: Node) -> Opened {
        Self::open_with(channel, Hello { node: Some(node), ..Hello::default() }).await
    }

    /// Opens one.
    pub async fn open_with(channel: Channel, hello: Hello) -> Opened {
        let stream = Self::silent(channel).await?;
        stream.say(Message::Hello(hello));
        Ok(stream)
    }

    /// Opens one and says nothing.
    pub async fn silent(channel: Channel) -> Opened {
        let (outgoing, mut messages) = mpsc::unbounded_channel();
        let messages = futures_util::stream::poll_fn(move |context| messages.poll_recv(context));
        // The sidecars' limit of a message is beyond tonic's own.
        let mut client = PolicyServiceClient::new(channel).max_decoding_message_size(64 << 20);
        let incoming = client.stream(messages).await?.into_inner();
        Ok(Self { outgoing, incoming })
    }

    /// Says something; who has ended the stream does not hear it.
    pub fn say(&self, message: Message) {
        self.outgoing.send(SidecarMessage { message: Some(message) }).ok();
    }

    /// Says what this version does not know.
    pub fn say_nothing(&self) {
        self.outgoing.send(SidecarMessage { message: None }).ok();
    }

    /// Asks for services.
    pub fn subscribe(&self, services: &[(&str, &str)]) {
        let services = services
            .iter()
            .map(|(namespace, name)| ServiceName { namespace: (*namespace).into(), name: (*name).into() });
        self.say(Message::Subscribe(Subscribe { services: services.collect() }));
    }

    /// The next push, or how the stream ended.
    pub async fn next(&mut self) -> Result<Push, Status> {
        timeout(PATIENCE, self.following()).await.unwrap_or_else(|_| panic!("nothing was pushed"))
    }

    /// The same, however long it takes.
    pub async fn following(&mut self) -> Result<Push, Status> {
        match self.hear().await? {
            control_message::Message::Push(push) => Ok(push),
            other => Err(Status::cancelled(format!("no push: {other:?}"))),
        }
    }

    /// The next question.
    pub async fn asked(&mut self) -> Ask {
        let heard = timeout(PATIENCE, self.hear()).await;
        match heard.unwrap_or_else(|_| panic!("nothing was asked")).unwrap() {
            control_message::Message::Ask(ask) => *ask,
            other => panic!("no question: {other:?}"),
        }
    }

    /// Answers a question, or none.
    pub fn tell(&self, id: u64, answer: Answer) {
        self.say(Message::Told(Box::new(Told { id, answer: Some(answer) })));
    }

    /// Whatever is said next, however long it takes.
    pub async fn hear(&mut self) -> Result<control_message::Message, Status> {
        let said = self.incoming.message().await?.and_then(|message| message.message);
        said.ok_or_else(|| Status::cancelled("the stream ended without a word"))
    }

    /// The next push, taken.
    pub async fn take(&mut self) -> Push {
        let push = self.next().await.unwrap_or_else(|status| panic!("{status}"));
        self.ack(&push);
        push
    }

    /// Takes a push.
    pub fn ack(&self, push: &Push) {
        self.say(Message::Ack(Ack { nonce: push.nonce, ..Ack::default() }));
    }

    /// Refuses one resource of a push.
    pub fn nack(&self, push: &Push, refusal: Refusal) {
        self.say(Message::Nack(Nack { nonce: push.nonce, refusals: vec![refusal], ..Nack::default() }));
    }

    /// How the stream ends, when nothing more is pushed.
    pub async fn end(&mut self) -> Status {
        match self.next().await {
            Ok(push) => panic!("pushed: {push:?}"),
            Err(status) => status,
        }
    }
}

/// What a sidecar that took a push holds of it.
#[must_use]
pub fn held(push: &Push) -> Vec<HeldResource> {
    let held = push.resources.iter().filter_map(|pushed| {
        let resource = pushed.resource.as_ref()?.kind.as_ref()?;
        let id = ResourceId::of(resource);
        let name = ResourceName { kind: id.kind.to_owned(), namespace: id.namespace, name: id.name };
        let hash = trama_control_plane::model::told_hash(resource, &pushed.endpoints).to_vec();
        Some(HeldResource { name: Some(name), version: pushed.version, hash })
    });
    held.collect()
}

/// The names of a push's resources, such as `Route shop/orders`.
#[must_use]
pub fn names(push: &Push) -> Vec<String> {
    let resources = push.resources.iter().filter_map(|pushed| pushed.resource.as_ref()?.kind.as_ref());
    resources.map(|resource| ResourceId::of(resource).to_string()).collect()
}
