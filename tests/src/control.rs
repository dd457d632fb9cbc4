//! A control plane as small as can be: it tells the policy that a test publishes, by the real decision of who is told what,
//! or what a test makes it say.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a harness makes its test fail by panicking")]

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::Stream as FuturesStream;
use futures_util::stream::poll_fn;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tonic::codegen::Service;
use tonic::{Request, Response, Status, Streaming};
use trama_control_plane::distribute::Session;
use trama_control_plane::model::{Service as Wanted, World};
use trama_control_plane::store::Stamp;
use trama_proto::discovery::v1::control_message::Message as Told;
use trama_proto::discovery::v1::policy_service_server::{PolicyService, PolicyServiceServer};
use trama_proto::discovery::v1::sidecar_message::Message as Said;
use trama_proto::discovery::v1::{ControlMessage, Hello, Push, SidecarMessage};
use trama_proto::document::Document;

use crate::authority::{Authority, Issued};
use crate::tls;

/// The identity that sidecars expect in the trust domain of every mesh.
const IDENTITY: &str = "spiffe://mesh.test/ns/trama-system/sa/trama-control-plane";
const PORT: u16 = 15010;
const PATIENCE: Duration = Duration::from_secs(20);

/// A control plane. Its end ends its streams.
#[derive(Debug)]
pub struct Control {
    address: SocketAddr,
    issued: Option<Arc<rustls::ServerConfig>>,
    worlds: Arc<Worlds>,
    /// Streams that a test speaks on itself.
    streams: Option<mpsc::UnboundedReceiver<Spoken>>,
    answering: Answering,
    serving: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Worlds(watch::Sender<Arc<World>>, Mutex<Vec<Hello>>);

/// Who answers streams.
#[derive(Clone, Debug)]
enum Answering {
    Itself,
    Test(mpsc::UnboundedSender<Spoken>),
}

/// A stream that a test speaks on.
#[derive(Debug)]
pub struct Spoken {
    said: Streaming<SidecarMessage>,
    tell: mpsc::Sender<Result<ControlMessage, Status>>,
}

impl Control {
    /// One that tells the policy.
    #[must_use]
    pub fn new() -> Self {
        let world = World::new(Stamp { epoch: 1, revision: 0 });
        Self {
            address: SocketAddr::new(crate::mesh::loopback(), PORT),
            issued: None,
            worlds: Arc::new(Worlds(watch::Sender::new(Arc::new(world)), Mutex::default())),
            streams: None,
            answering: Answering::Itself,
            serving: None,
        }
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes this text the policy: one change of the store.
    pub fn publish(&self, text: &str) {
        let documents = Document::parse("published", text).unwrap_or_else(|problems| panic!("{problems:?}"));
        self.worlds.0.send_modify(|world| {
            let mut next = World::clone(world);
            let revision = next.stamp().revision + 1;
            let new: Vec<_> = documents.iter().map(|document| &document.id).collect();
            let gone: Vec<_> =
                next.resources().map(|(id, _)| id.clone()).filter(|id| !new.contains(&id)).collect();
            gone.into_iter().for_each(|id| next.change(revision, id, None));
            for document in &documents {
                let same = next.get(&document.id).is_some_and(|held| *held.resource() == document.resource);
                if !same {
                    next.change(revision, document.id.clone(), Some(document.resource.clone()));
                }
            }
            *world = Arc::new(next);
        });
    }

    /// Takes streams from now on, on this runtime.
    pub async fn start(&mut self, authority: &Authority) {
        let issued: Issued = authority.issue(IDENTITY).unwrap();
        self.issued = Some(tls::server(&issued, &[b"h2"], Some(authority)));
        self.revive().await;
    }

    /// Ends it and all its streams. Its address refuses connections.
    pub async fn kill(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            serving.await.ok();
        }
    }

    /// Takes streams again after [`Self::kill`].
    pub async fn revive(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let tls = TlsAcceptor::from(Arc::clone(self.issued.as_ref().unwrap()));
        let answer = Answer { worlds: Arc::clone(&self.worlds), answering: self.answering.clone() };
        self.serving = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(connection(stream, tls.clone(), answer.clone()));
            }
        }));
    }

    /// From the next connection on, the test speaks itself.
    pub async fn speak(&mut self) {
        let (give, streams) = mpsc::unbounded_channel();
        self.streams = Some(streams);
        self.answering = Answering::Test(give);
        self.kill().await;
        self.revive().await;
    }

    /// From the next connection on, it tells the policy again.
    pub async fn tell(&mut self) {
        self.answering = Answering::Itself;
        self.kill().await;
        self.revive().await;
    }

    /// The next stream that the test is to speak on.
    pub async fn stream(&mut self) -> Spoken {
        let next = self.streams.as_mut().expect("the test speaks").recv();
        timeout(PATIENCE, next).await.expect("a sidecar opens a stream").unwrap()
    }

    /// What streams began with, those that a test spoke on left out.
    #[must_use]
    pub fn hellos(&self) -> Vec<Hello> {
        self.worlds.1.lock().unwrap().clone()
    }
}

impl Default for Control {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

impl Spoken {
    /// The next message of the sidecar.
    pub async fn heard(&mut self) -> Said {
        let said = timeout(PATIENCE, self.said.message()).await.expect("the sidecar says something");
        said.unwrap().expect("the stream goes on").message.unwrap()
    }

    /// Waits for the end of the stream.
    pub async fn ended(&mut self) {
        let end = async { while let Ok(Some(_)) = self.said.message().await {} };
        timeout(PATIENCE, end).await.expect("the sidecar ends the stream");
    }

    /// The control plane's half of it.
    #[must_use]
    pub fn teller(&self) -> Teller {
        Teller(self.tell.clone())
    }
}

/// The control plane's half of a stream.
#[derive(Debug)]
pub struct Teller(mpsc::Sender<Result<ControlMessage, Status>>);

impl Teller {
    /// Says something.
    pub async fn say(&self, message: Option<Told>) {
        timeout(PATIENCE, self.0.send(Ok(ControlMessage { message }))).await.expect("it is taken").ok();
    }

    /// Pushes.
    pub async fn push(&self, push: Push) {
        self.say(Some(Told::Push(push))).await;
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, answer: Answer) {
    let Ok(stream) = tls.accept(stream).await else { return };
    let service = PolicyServiceServer::new(answer).max_decoding_message_size(usize::MAX);
    let service = service.max_encoding_message_size(usize::MAX);
    let service = service_fn(move |request| service.clone().call(request));
    let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    http.serve_connection(TokioIo::new(stream), service).await.ok();
}

#[derive(Clone, Debug)]
struct Answer {
    worlds: Arc<Worlds>,
    answering: Answering,
}

#[tonic::async_trait]
impl PolicyService for Answer {
    type StreamStream = Pin<Box<dyn FuturesStream<Item = Result<ControlMessage, Status>> + Send>>;

    async fn stream(
        &self,
        request: Request<Streaming<SidecarMessage>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let (tell, mut told) = mpsc::channel(4);
        let said = request.into_inner();
        match &self.answering {
            Answering::Test(give) => drop(give.send(Spoken { said, tell })),
            Answering::Itself => drop(tokio::spawn(answer(Arc::clone(&self.worlds), said, tell))),
        }
        Ok(Response::new(Box::pin(poll_fn(move |context| told.poll_recv(context)))))
    }
}

/// One stream, by the real session.
async fn answer(
    worlds: Arc<Worlds>,
    mut said: Streaming<SidecarMessage>,
    tell: mpsc::Sender<Result<ControlMessage, Status>>,
) -> Option<()> {
    let mut world = worlds.0.subscribe();
    let Said::Hello(hello) = said.message().await.ok()??.message? else { panic!("no Hello") };
    let now = Arc::clone(&world.borrow());
    let mut session = Session::new(&hello, hello.node.as_ref().unwrap(), &now).unwrap();
    worlds.1.lock().unwrap().push(hello);
    loop {
        let now = Arc::clone(&world.borrow_and_update());
        while let Some(push) = session.next(&now) {
            tell.send(Ok(ControlMessage { message: Some(Told::Push(push)) })).await.ok()?;
        }
        tokio::select! {
            changed = world.changed() => changed.ok()?,
            message = said.message() => match message.ok()??.message? {
                Said::Hello(_) => panic!("a second Hello"),
                Said::Subscribe(it) => {
                    let services = it.services.into_iter().map(|s| Wanted::new(s.namespace, s.name));
                    session.subscribe(services).unwrap();
                }
                Said::Unsubscribe(it) => {
                    let services: Vec<_> = it.services.into_iter().map(|s| Wanted::new(s.namespace, s.name)).collect();
                    session.unsubscribe(&services);
                }
                Said::Told(_) => panic!("nothing was asked"),
                Said::Ack(it) => session.ack(it).unwrap(),
                Said::Nack(it) => session.nack(it, &now).unwrap(),
            },
        }
    }
}
