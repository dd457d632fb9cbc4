//! Every limit of the pools, against a peer on loopback that answers when it is told to.

use std::{
    cell::Cell,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::{JoinHandle, LocalSet},
    time::Instant,
};

use super::{Certificates, places::Look, *};
use crate::{
    error::Reached,
    telemetry::{Format, LogOutput, TelemetryConfig, TelemetryHub},
};

const HOUR: Duration = Duration::from_secs(3600);

/// Answers `/` at once and `/hold` when told to, on HTTP/2 with ten streams a connection.
#[derive(Default)]
struct Peer {
    accepted: Cell<u32>,
    open: Cell<u32>,
    holding: Cell<u32>,
    answer: Notify,
    leave: Notify,
    kill: Notify,
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
        let mut server = builder.max_concurrent_streams(10).handshake::<_, Bytes>(stream).await.unwrap();
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
    for http2 in [false, true] {
        LocalSet::new().run_until(async { test(World::new(http2, limits).await).await }).await;
    }
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

#[tokio::test]
async fn what_idled_or_aged_is_closed() {
    let seconds = Duration::from_secs;
    let idle = UpstreamLimits { idle_timeout: seconds(100), ..patient() };
    let aged = UpstreamLimits { max_age: seconds(100), ..patient() };
    for limits in [idle, aged] {
        in_both(limits, async |world| {
            world.get("/", None).await.unwrap();
            world.upstream.sweep(Instant::now() + seconds(85));
            world.get("/", None).await.unwrap();
            assert_eq!((world.peer.accepted.get(), world.upstream.open_connections()), (1, 1));
            world.upstream.sweep(Instant::now() + seconds(101));
            until("it is closed", || world.peer.open.get() == 0).await;
            until("it is forgotten", || world.upstream.open_connections() == 0).await;
            world.get("/", None).await.unwrap();
            assert_eq!(world.peer.accepted.get(), 2);
        })
        .await;
    }
}

#[tokio::test]
async fn a_busy_connection_that_aged_takes_no_new_request() {
    let max_age = Duration::from_millis(300);
    in_both(UpstreamLimits { max_age, ..patient() }, async |world| {
        let held = world.hold(1).await;
        let began = Instant::now();
        until("it is old", || began.elapsed() > max_age).await;
        world.upstream.sweep(Instant::now());
        world.peer.answer.notify_waiters();
        for held in held {
            held.await.unwrap().unwrap();
        }
        world.get("/", None).await.unwrap();
        assert_eq!(world.peer.accepted.get(), 2);
    })
    .await;
}

#[tokio::test]
async fn another_connection_is_opened_at_four_fifths_of_the_peers_streams() {
    in_both(patient(), async |world| {
        if !world.http2 {
            return;
        }
        world.get("/", None).await.unwrap();
        let first = world.hold(8).await;
        assert_eq!(world.peer.accepted.get(), 1);
        let next = world.hold(1).await;
        until("there is another one", || world.peer.accepted.get() == 2).await;
        let labels = r#"{direction="outbound",peer="upstream",tls="none"} 2"#;
        let scrape = || world.hub.scrape(Format::Prometheus);
        until("both are counted", || {
            scrape().contains(&format!("trama_connections_opened_total{labels}"))
                && scrape().contains(&format!("trama_connections_active{labels}"))
        })
        .await;
        drop((first, next));
    })
    .await;
}

#[tokio::test]
async fn beyond_the_limits_a_request_waits_and_beyond_those_it_fails_with_the_limits_name() {
    in_both(patient(), async |world| {
        let world = world.limited(1, 1);
        world.get("/", None).await.unwrap();
        let held = world.hold(if world.http2 { 10 } else { 1 }).await;
        assert_eq!((world.peer.accepted.get(), world.counted(|s| &s.connections)), (1, 1));
        let waits = world.ask("/");
        until("one waits", || world.counted(|s| &s.pending) == 1).await;
        refused(world.get("/", None).await, Reason::CircuitOpen, "maxPending");
        waits.abort();
        until("who gave up waits no more", || world.counted(|s| &s.pending) == 0).await;
        let waits = world.ask("/");
        until("another one waits", || world.counted(|s| &s.pending) == 1).await;
        world.peer.answer.notify_waiters();
        waits.await.unwrap().unwrap();
        for held in held {
            held.await.unwrap().unwrap();
        }
        assert_eq!((world.peer.accepted.get(), world.counted(|s| &s.pending)), (1, 0));
    })
    .await;
}

#[tokio::test]
async fn who_waits_has_the_place_of_a_connection_that_died() {
    in_both(patient(), async |world| {
        let world = world.limited(1, 9);
        world.get("/", None).await.unwrap();
        let held = world.hold(if world.http2 { 10 } else { 1 }).await;
        let waits = [world.ask("/"), world.ask("/")];
        until("both wait", || world.counted(|s| &s.pending) == 2).await;
        world.peer.kill.notify_waiters();
        for waits in waits {
            waits.await.unwrap().unwrap();
        }
        for held in held {
            refused(held.await.unwrap(), Reason::UpstreamClosed, "");
        }
        assert_eq!((world.peer.accepted.get(), world.counted(|s| &s.connections)), (2, 1));
    })
    .await;
}

#[tokio::test]
async fn waiting_has_an_end_with_a_name() {
    let connect_timeout = Duration::from_millis(200);
    let limits = UpstreamLimits { connect_timeout, connections_per_endpoint: 1, ..patient() };
    in_both(limits, async |world| {
        for (world, reason) in
            [(world.clone(), Reason::Overloaded), (world.limited(9, 9), Reason::CircuitOpen)]
        {
            world.get("/", None).await.unwrap();
            let held = world.hold(if world.http2 { 10 } else { 1 }).await;
            refused(world.get("/", None).await, reason, "in time");
            world.peer.answer.notify_waiters();
            for held in held {
                held.await.unwrap().unwrap();
            }
        }
    })
    .await;
    in_both(UpstreamLimits { pending_per_endpoint: 0, ..limits }, async |world| {
        world.get("/", None).await.unwrap();
        let _held = world.hold(if world.http2 { 10 } else { 1 }).await;
        refused(world.get("/", None).await, Reason::Overloaded, "maxPendingPerEndpoint");
    })
    .await;
}

#[tokio::test]
async fn who_ran_out_of_time_knows_what_it_waited_for() {
    in_both(patient(), async |world| {
        let waits_for = Cell::default();
        let late = async |world: &World, path, within| {
            let failure = world.get_told(path, Some(within), &waits_for).await.unwrap_err();
            assert_eq!(failure.reason, Reason::BackendRequestTimeout);
            (waits_for.get(), failure.reached)
        };
        let soon = Duration::from_millis(50);
        let limited = world.clone().limited(1, 9);
        limited.get("/", None).await.unwrap();
        let _held = limited.hold(if world.http2 { 10 } else { 1 }).await;
        assert_eq!(late(&limited, "/", soon).await, (WaitsFor::Others, Reached::No));
        // Time enough to connect.
        assert_eq!(late(&world, "/hold", 20 * soon).await, (WaitsFor::Answer, Reached::Maybe));
        // A queue that is full and never accepted from.
        let hole = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&hole, 0).unwrap();
        let address = hole.local_addr().unwrap();
        let _filling = std::net::TcpStream::connect(address).unwrap();
        let nowhere = World { address, ..world };
        assert_eq!(late(&nowhere, "/", soon).await, (WaitsFor::Connection, Reached::No));
    })
    .await;
}

#[tokio::test]
async fn no_worker_starves_while_another_has_all_connections() {
    in_both(patient(), async |world| {
        let one = world.limited(1, 1);
        let other = one.another();
        let (_first, _second) = (one.hold(1).await, other.hold(1).await);
        assert_eq!((one.peer.accepted.get(), one.counted(|s| &s.connections)), (2, 2));
        if !one.http2 {
            let _waits = other.ask("/");
            until("no more than one each", || one.counted(|s| &s.pending) == 1).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_request_leaves_nothing() {
    in_both(patient(), async |world| {
        let world = world.limited(1, 1);
        let held = world.hold(1).await;
        held.iter().for_each(JoinHandle::abort);
        until("its place is free", || {
            // A connection without a request is kept for the next one, unless it idles.
            world.upstream.sweep(Instant::now() + HOUR);
            world.counted(|s| &s.connections) == 0
        })
        .await;
        assert_eq!(world.upstream.open_connections(), 0);
        // While it is dialled, too.
        let dialling = world.ask("/");
        until("it begins", || world.counted(|s| &s.connections) == 1).await;
        dialling.abort();
        world.get("/", None).await.unwrap();
        assert_eq!(world.counted(|s| &s.connections), 1);
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_lets_a_requests_time_pass_in_silence_takes_no_other() {
    in_both(patient(), async |world| {
        world.get("/", None).await.unwrap();
        let late = world.get("/hold", Some(Duration::from_millis(50))).await;
        refused(late, Reason::BackendRequestTimeout, "50ms");
        world.get("/", None).await.unwrap();
        assert_eq!(world.peer.accepted.get(), 2);
    })
    .await;
}

#[tokio::test]
async fn only_a_request_that_a_connection_had_may_have_been_seen_when_its_time_runs_out() {
    in_both(patient(), async |world| {
        let world = world.limited(1, 9);
        let late = async |world: &World, reached| {
            let failure = world.get("/hold", Some(Duration::from_millis(50))).await.unwrap_err();
            assert_eq!((failure.reason, failure.reached), (Reason::BackendRequestTimeout, reached));
        };
        // In line for a connection or a stream.
        let _held = world.hold(if world.http2 { 10 } else { 1 }).await;
        late(&world, Reached::No).await;
        let free = World::new(world.http2, patient()).await;
        late(&free, Reached::Maybe).await;
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_stalls_request_after_request_has_no_more_connections_than_it_may() {
    in_both(patient(), async |world| {
        let world = world.limited(1, 9);
        for wanted in 1..=4 {
            let late = world.get("/hold", Some(Duration::from_millis(200))).await;
            refused(late, Reason::BackendRequestTimeout, "200ms");
            assert_eq!(world.counted(|s| &s.connections), 1, "after {wanted}");
            assert_eq!(world.peer.accepted.get(), wanted);
        }
    })
    .await;
}

#[tokio::test]
async fn a_slow_peer_that_answers_others_meanwhile_keeps_its_connection() {
    in_both(patient(), async |world| {
        if !world.http2 {
            return;
        }
        let slow = world.clone();
        let late = async move { slow.get("/hold", Some(Duration::from_millis(500))).await };
        let late = tokio::task::spawn_local(late);
        until("it is there", || world.peer.holding.get() == 1).await;
        world.get("/", None).await.unwrap();
        refused(late.await.unwrap(), Reason::BackendRequestTimeout, "500ms");
        world.get("/", None).await.unwrap();
        assert_eq!(world.peer.accepted.get(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_says_goaway_finishes_what_it_has_and_gets_the_rest_on_another_connection() {
    for limits in [patient(), UpstreamLimits { connections_per_endpoint: 1, ..patient() }] {
        in_both(limits, async |world| {
            if !world.http2 {
                return;
            }
            for world in [world.clone(), World::new(true, limits).await.limited(1, 9)] {
                let held = world.hold(1).await;
                world.peer.leave.notify_waiters();
                let deadline = Instant::now() + Duration::from_secs(20);
                while world.peer.accepted.get() == 1 {
                    assert!(Instant::now() < deadline, "no other connection is opened");
                    world.get("/", None).await.unwrap();
                }
                world.get("/", None).await.unwrap();
                assert_eq!((world.peer.accepted.get(), world.upstream.open_connections()), (2, 2));
                world.peer.answer.notify_waiters();
                for held in held {
                    held.await.unwrap().unwrap();
                }
                until("the first one closes", || world.upstream.open_connections() == 1).await;
                world.get("/", None).await.unwrap();
                assert_eq!(world.peer.accepted.get(), 2);
            }
        })
        .await;
    }
}

#[tokio::test]
async fn who_waits_for_a_stream_of_a_peer_that_says_goaway_gets_one_of_another_connection() {
    in_both(patient(), async |world| {
        if !world.http2 {
            return;
        }
        let world = world.limited(1, 9);
        world.get("/", None).await.unwrap();
        let _held = world.hold(10).await;
        let waits = [world.ask("/"), world.ask("/")];
        until("both wait", || world.counted(|s| &s.pending) == 2).await;
        world.peer.leave.notify_waiters();
        until("the sweep has seen it", || {
            world.upstream.sweep(Instant::now());
            waits.iter().all(JoinHandle::is_finished)
        })
        .await;
        for waits in waits {
            waits.await.unwrap().unwrap();
        }
        assert_eq!((world.peer.accepted.get(), world.peer.holding.get()), (2, 10));
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_sends_every_connection_away_is_not_asked_without_end() {
    in_both(UpstreamLimits { connections_per_endpoint: 2, ..patient() }, async |world| {
        if !world.http2 {
            return;
        }
        let mut held = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(20);
        for connections in 1..=4 {
            held.extend(world.hold(1).await);
            assert_eq!(world.peer.accepted.get(), connections);
            world.peer.leave.notify_waiters();
            while connections < 4 && world.peer.accepted.get() == connections {
                assert!(Instant::now() < deadline, "no other connection is opened");
                world.get("/", None).await.unwrap();
            }
        }
        let late = loop {
            let late = world.get("/", Some(Duration::from_millis(100))).await;
            if late.is_err() || Instant::now() > deadline {
                break late;
            }
        };
        refused(late, Reason::BackendRequestTimeout, "100ms");
        assert_eq!(world.peer.accepted.get(), 4, "twice the limit, and no more");
    })
    .await;
}

#[tokio::test]
async fn all_who_wait_for_a_connection_hear_why_there_is_none() {
    in_both(patient(), async |world| {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let world = World { address: closed, ..world.limited(1, 9) };
        let asked: Vec<_> = (0..5).map(|_| world.ask("/")).collect();
        for asked in asked {
            refused(asked.await.unwrap(), Reason::ConnectFailed, "");
        }
        assert_eq!((world.counted(|s| &s.connections), world.counted(|s| &s.pending)), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn opaque_connections_count_among_the_services() {
    in_both(patient(), async |world| {
        let world = world.limited(1, 1);
        let (target, circuit) = (world.target(), world.circuit.as_ref());
        let tunnel = world.upstream.tunnel(&target, circuit).await.unwrap();
        let failure = world.upstream.tunnel(&target, circuit).await.err().unwrap();
        assert!(failure.reason == Reason::CircuitOpen && failure.to_string().contains("maxConnections"));
        drop(tunnel);
        assert!(world.upstream.tunnel(&target, circuit).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn a_call_that_nobody_hears_goes_to_the_next() {
    in_both(patient(), async |world| {
        let target = world.target();
        let waits_for = Cell::default();
        let way = Way::new(&world.upstream, &target, None, &waits_for);
        let (places, free) = (places::Places::default(), Cell::new(0_u32));
        let look = || match free.get() {
            0 => Look::Full,
            n => {
                free.set(n - 1);
                Look::Found(())
            }
        };
        let mut gives_up = Box::pin(places.find(&way, HOUR, look));
        let mut stays = Box::pin(places.find(&way, HOUR, look));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(gives_up.as_mut().poll(&mut cx).is_pending());
        assert!(stays.as_mut().poll(&mut cx).is_pending());
        free.set(1);
        places.call_next();
        drop(gives_up);
        assert!(matches!(stays.as_mut().poll(&mut cx), Poll::Ready(Ok(()))));
        assert_eq!(places.waiting(), 0);
    })
    .await;
}

#[tokio::test]
async fn those_called_in_vain_keep_their_order() {
    in_both(patient(), async |world| {
        let target = world.target();
        let waits_for = Cell::default();
        let way = Way::new(&world.upstream, &target, None, &waits_for);
        let (places, free) = (places::Places::default(), Cell::new(false));
        let look = || if free.take() { Look::Found(()) } else { Look::Full };
        let mut cx = Context::from_waker(Waker::noop());
        let mut line: Vec<_> = (0..4).map(|_| Box::pin(places.find(&way, HOUR, look))).collect();
        for call in [true, true, false] {
            for waits in &mut line {
                assert!(waits.as_mut().poll(&mut cx).is_pending());
            }
            if call {
                places.call_all(None);
            }
        }
        for first in 0..line.len() {
            free.set(true);
            places.call_next();
            for later in (first..line.len()).rev() {
                assert_eq!(line[later].as_mut().poll(&mut cx).is_ready(), later == first, "{later}");
            }
        }
    })
    .await;
}
