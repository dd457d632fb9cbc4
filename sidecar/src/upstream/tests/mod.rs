//! Every limit of the pools, against a peer on loopback that answers when it is told to.

mod both;
mod http1;
mod http2;
mod line;

use std::{cell::Cell, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::{JoinHandle, LocalSet},
    time::Instant,
};

use super::{Certificates, Circuit, Leg, Target, Upstream, UpstreamLimits, WaitsFor, Who};
use crate::{
    config::snapshot::{CircuitLimits, state::ClusterState},
    error::{Failure, Reason},
    http::{body::Body, interim::Interim},
    telemetry::{LogOutput, TelemetryConfig, TelemetryHub},
};

const HOUR: Duration = Duration::from_secs(3600);

/// Answers `/` at once and `/hold` when told to, on HTTP/2 with ten streams a connection unless it is told another number.
struct Peer {
    streams: Cell<u32>,
    accepted: Cell<u32>,
    open: Cell<u32>,
    holding: Cell<u32>,
    answer: Notify,
    leave: Notify,
    kill: Notify,
}

impl Default for Peer {
    fn default() -> Self {
        let (accepted, open, holding, answer, leave, kill) = Default::default();
        Self { streams: Cell::new(10), accepted, open, holding, answer, leave, kill }
    }
}

impl Peer {
    async fn http1(&self, mut stream: TcpStream) {
        let mut read = Vec::new();
        while let Ok(1..) = stream.read_buf(&mut read).await {
            if !read.ends_with(b"\r\n\r\n") {
                continue;
            }
            if read.starts_with(b"GET /hold") && !self.held().await {
                return;
            }
            read.clear();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
    }

    /// Whether it is to be answered.
    async fn held(&self) -> bool {
        self.holding.set(self.holding.get() + 1);
        let answer = tokio::select! {
            () = self.answer.notified() => true,
            () = self.kill.notified() => false,
        };
        self.holding.set(self.holding.get() - 1);
        answer
    }

    async fn http2(&self, stream: TcpStream) {
        let mut builder = h2::server::Builder::new();
        let mut server =
            builder.max_concurrent_streams(self.streams.get()).handshake::<_, Bytes>(stream).await.unwrap();
        let mut held = Vec::new();
        loop {
            tokio::select! {
                accepted = server.accept() => match accepted {
                    Some(Ok((request, mut respond))) if request.uri().path() == "/" => {
                        respond.send_response(Response::new(()), true).unwrap();
                    }
                    Some(Ok((_, respond))) => {
                        self.holding.set(self.holding.get() + 1);
                        held.push(respond);
                    }
                    _ => return,
                },
                () = self.answer.notified() => for mut respond in held.drain(..) {
                    self.holding.set(self.holding.get() - 1);
                    respond.send_response(Response::new(()), true).unwrap();
                },
                // GOAWAY; the streams that it has are finished.
                () = self.leave.notified() => server.graceful_shutdown(),
                () = self.kill.notified() => return,
            }
        }
    }
}

/// One worker's upstream side and a peer.
#[derive(Clone)]
struct World {
    upstream: Rc<Upstream>,
    peer: Rc<Peer>,
    address: SocketAddr,
    http2: bool,
    circuit: Option<Circuit>,
    hub: Rc<TelemetryHub>,
}

impl World {
    async fn new(http2: bool, limits: UpstreamLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let peer = Rc::<Peer>::default();
        let serving = Rc::clone(&peer);
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let peer = Rc::clone(&serving);
                tokio::task::spawn_local(async move {
                    peer.accepted.set(peer.accepted.get() + 1);
                    peer.open.set(peer.open.get() + 1);
                    if http2 {
                        peer.http2(stream).await
                    } else {
                        peer.http1(stream).await
                    }
                    peer.open.set(peer.open.get() - 1);
                });
            }
        });
        let config = TelemetryConfig { access_log: LogOutput::None, ..Default::default() };
        let hub = Rc::new(TelemetryHub::start(config).unwrap());
        let upstream = Upstream::new(limits, Certificates::default(), Rc::new(hub.worker()));
        Self { upstream, peer, address, http2, circuit: None, hub }
    }

    fn limited(mut self, max_connections: u32, max_pending: u32) -> Self {
        let limits = CircuitLimits { max_connections, max_pending, ..CircuitLimits::default() };
        self.circuit = Some(Circuit { limits, state: Arc::default() });
        self
    }

    /// Another worker of the same sidecar.
    fn another(&self) -> Self {
        let telemetry = Rc::new(self.hub.worker());
        let upstream = Upstream::new(self.upstream.limits, Certificates::default(), telemetry);
        Self { upstream, ..self.clone() }
    }

    fn target(&self) -> Target<'static> {
        let leg = if self.http2 { Leg::Http2 } else { Leg::Http1 };
        Target { who: Who::External(self.address), address: self.address, leg }
    }

    async fn get(&self, path: &str, within: Option<Duration>) -> Result<(), Failure> {
        self.get_told(path, within, &Cell::default()).await
    }

    /// The same; `waits_for` is told.
    async fn get_told(
        &self,
        path: &str,
        within: Option<Duration>,
        waits_for: &Cell<WaitsFor>,
    ) -> Result<(), Failure> {
        let uri = if self.http2 { format!("http://x{path}") } else { path.to_owned() };
        let request = Request::get(uri).header("host", "x").body(Body::empty()).unwrap();
        let (target, circuit) = (self.target(), self.circuit.as_ref());
        let answer =
            self.upstream.send(&target, circuit, request, &Interim::Nowhere, within, waits_for).await?;
        answer.into_body().collect().await.unwrap();
        Ok(())
    }

    fn ask(&self, path: &'static str) -> JoinHandle<Result<(), Failure>> {
        let world = self.clone();
        tokio::task::spawn_local(async move { world.get(path, None).await })
    }

    /// Asks for what the peer keeps, and waits until it does.
    async fn hold(&self, many: u32) -> Vec<JoinHandle<Result<(), Failure>>> {
        let wanted = self.peer.holding.get() + many;
        let held = (0..many).map(|_| self.ask("/hold")).collect();
        until("the peer holds them", || self.peer.holding.get() == wanted).await;
        held
    }

    fn counted(&self, which: fn(&ClusterState) -> &std::sync::atomic::AtomicU32) -> u32 {
        which(&self.circuit.as_ref().unwrap().state).load(std::sync::atomic::Ordering::Relaxed)
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn in_both(limits: UpstreamLimits, test: impl AsyncFn(World)) {
    LocalSet::new().run_until(async { test(World::new(false, limits).await).await }).await;
    over_http2(limits, test).await;
}

async fn over_http2(limits: UpstreamLimits, test: impl AsyncFn(World)) {
    LocalSet::new().run_until(async { test(World::new(true, limits).await).await }).await;
}

/// Nobody waits for the clock unless the test says how long.
fn patient() -> UpstreamLimits {
    UpstreamLimits { connect_timeout: HOUR, idle_timeout: HOUR, max_age: HOUR, ..Default::default() }
}

#[track_caller]
fn refused(answer: Result<(), Failure>, reason: Reason, word: &str) {
    let failure = answer.unwrap_err();
    assert!(failure.reason == reason && failure.to_string().contains(word), "{failure}");
}
