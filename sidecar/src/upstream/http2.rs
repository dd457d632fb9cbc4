//! HTTP/2 upstream, by the `h2` crate itself: many requests share a connection; another is opened when the peer's
//! streams are nearly used up.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::{Request, Response};
use http_body::Body as _;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use super::{
    WaitsFor, Way,
    age::Age,
    connect::{self, BoxStream, Dial},
    failure,
    limits::UpstreamLimits,
    ping,
    places::{Look, Place, Places},
    written::Written,
};
use crate::{
    error::{Failure, Reached, Reason},
    http::{
        body::{Body, BodyError, End, Held, TrailerLimit},
        h2::{PumpEnd, data_frame_budget, pump},
        interim::Interim,
        io::Liveness,
    },
};

/// The connections of one upstream.
#[derive(Default)]
pub(super) struct Http2Pool {
    connections: Vec<Rc<Connection>>,
    connecting: bool,
    places: Rc<Places>,
}

/// One connection, shared by its streams.
struct Connection {
    sender: SendRequest<Bytes>,
    made: Instant,
    age: Age,
    last_used: Cell<Instant>,
    /// It let a request's time pass in silence, or its peer takes no more streams.
    retired: Cell<bool>,
    life: Rc<Life>,
}

/// What a connection's streams, its driver and its pings tell each other.
#[derive(Default)]
pub(super) struct Life {
    /// Streams of ours in use.
    pub(super) active: Cell<usize>,
    /// How often the peer was heard: heads of answers and acknowledged pings.
    pub(super) heard: Cell<u64>,
    /// How often something was written.
    written: Cell<u64>,
    /// Whether the connection has ended.
    pub(super) closed: Cell<bool>,
    /// Its place in the pool, until then.
    place: Cell<Option<Place>>,
}

impl Life {
    pub(super) fn hear(&self) {
        self.heard.set(self.heard.get().wrapping_add(1));
    }

    pub(super) fn write(&self) {
        self.written.set(self.written.get().wrapping_add(1));
    }

    /// Takes the connection's place, unless it has ended already.
    fn hold(&self, place: &mut Option<Place>) {
        if !self.closed.get() {
            self.place.set(place.take());
        }
    }

    /// What the connection's failure means to a request that was queued when so much had been written. If nothing has
    /// been written since, the connection had ended before: no byte of the request was sent to anybody.
    fn judge(&self, mut failure: Failure, written: u64) -> Failure {
        if self.written.get() == written {
            failure.reached = Reached::No;
        }
        failure
    }
}

impl Connection {
    /// Whether it takes another request: alive, young, and with a fifth of the peer's streams to spare.
    fn has_room(&self, now: Instant) -> bool {
        let most = self.sender.current_max_send_streams();
        self.is_usable()
            && !self.age.is_over(now)
            && self.life.active.get().saturating_mul(5) < most.saturating_mul(4)
    }

    /// Whether the peer takes another stream at all.
    fn has_stream(&self) -> bool {
        self.is_usable() && self.life.active.get() < self.sender.current_max_send_streams()
    }

    fn is_usable(&self) -> bool {
        !self.life.closed.get() && !self.retired.get()
    }

    /// Why it takes no more streams, though those it has may go on: the peer has said GOAWAY, or it is breaking. Nothing
    /// tells when it comes to that.
    fn refusal(&self) -> Option<h2::Error> {
        // Ready always: only a handle that has a stream in the queue waits.
        match self.sender.clone().poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Err(error)) => Some(error),
            _ => None,
        }
    }
}

impl Http2Pool {
    /// Closes what idled or aged; says whether anything is left.
    pub(super) fn sweep(&mut self, now: Instant, limits: &UpstreamLimits) -> bool {
        // Who waits for a stream of such a connection would wait for those that it has.
        for connection in self.connections.iter().filter(|c| c.is_usable() && c.refusal().is_some()) {
            connection.retired.set(true);
            self.places.call_next();
        }
        self.connections.retain(|c| {
            if c.life.active.get() > 0 {
                c.last_used.set(now);
                return !c.life.closed.get();
            }
            let idle = now.duration_since(c.last_used.get()) >= limits.idle_timeout;
            c.is_usable() && !idle && !c.age.is_over(now)
        });
        self.places.open() > 0 || self.places.waiting() > 0
    }

    pub(super) fn open(&self) -> usize {
        self.places.open()
    }

    /// The first connection with room, unless others wait for one already.
    fn checkout(&self, now: Instant) -> Option<Rc<Connection>> {
        if self.places.waiting() > 0 { None } else { self.roomy(now) }
    }

    fn roomy(&self, now: Instant) -> Option<Rc<Connection>> {
        self.connections.iter().find(|c| c.has_room(now)).map(Rc::clone)
    }

    /// The least busy connection that still has a stream; one that is too old only where no other has.
    fn spare(&self, now: Instant) -> Option<Rc<Connection>> {
        let spare = self.connections.iter().filter(|c| c.has_stream());
        spare.min_by_key(|c| (c.age.is_over(now), c.life.active.get())).map(Rc::clone)
    }

    fn is_usable(&self) -> bool {
        self.connections.iter().any(|c| c.is_usable())
    }

    fn finish_connecting(&mut self, result: Result<Connection, Failure>) {
        self.connecting = false;
        match result {
            Ok(connection) => {
                self.connections.retain(|c| !c.life.closed.get());
                self.connections.push(Rc::new(connection));
                self.places.call_all(None);
            }
            // Who waits for a stream of another connection still may get one.
            Err(_) if self.is_usable() => {}
            Err(failure) => self.places.call_all(Some(&failure)),
        }
    }
}

/// A request on its way: on which connection, and how often its peer had been heard before.
pub(super) struct Sent {
    connection: Rc<Connection>,
    heard: u64,
}

impl Sent {
    /// The request's time ran out. A peer that answered others meanwhile is slow; one that said nothing at all may be
    /// gone, and no further request shall find that out in the same way.
    pub(super) fn timed_out(&self) {
        if self.connection.life.heard.get() == self.heard {
            self.connection.retired.set(true);
        }
    }
}

pub(super) async fn send(
    pool: &Rc<RefCell<Http2Pool>>,
    way: &Way<'_>,
    request: Request<Body>,
    interim: &Interim,
) -> Result<Response<Body>, Failure> {
    let connection = ready(pool, way).await?;
    let mut stream_held = StreamHeld::on(&connection, &pool.borrow().places);
    let heard = connection.life.heard.get();
    let Sent { connection, .. } = way.sent.get_or_init(|| Sent { connection, heard });
    let mut sender = connection.sender.clone();
    let (head, body) = request.into_parts();
    let ends = body.is_end_stream();
    way.waits_for.set(WaitsFor::Answer);
    let written = connection.life.written.get();
    let (response, stream) = match sender.send_request(Request::from_parts(head, ()), ends) {
        Ok(sent) => sent,
        Err(error) => return Err(failure::http2(&error)),
    };
    if !ends {
        stream_held.upload = Some(tokio::task::spawn_local(pump(body, stream, || ())));
    }
    let most = of_leg(way).header_count;
    match answer(response, interim, most).await {
        Ok(response) => {
            connection.life.hear();
            if response.headers().len() > most {
                let what =
                    format_args!("the answer has {} fields (limits.headerCount)", response.headers().len());
                return Err(Failure::after(Reason::UpstreamMalformed).detail(what));
            }
            let trailers = TrailerLimit { fields: most, exceeded: Reason::UpstreamMalformed };
            Ok(response.map(|stream| Body::http2(stream, trailers).holding(Rc::new(stream_held))))
        }
        Err(error) => {
            let broken = stream_held.broken_body().await;
            Err(broken
                .as_ref()
                .map_or_else(|| connection.life.judge(failure::http2(&error), written), failure::body))
        }
    }
}

/// A connection that takes another stream. One that does not is left, as often as it takes: nothing was sent on it. Only
/// what was opened for this request, and says no at once, ends the search.
async fn ready(pool: &Rc<RefCell<Http2Pool>>, way: &Way<'_>) -> Result<Rc<Connection>, Failure> {
    let began = Instant::now();
    loop {
        let pooled = pool.borrow().checkout(Instant::now());
        let connection = match pooled {
            Some(connection) => connection,
            // Boxed: most requests find a connection.
            None => Box::pin(find(pool, way)).await?,
        };
        let Some(error) = connection.refusal() else { return Ok(connection) };
        connection.retired.set(true);
        let pool = pool.borrow();
        pool.places.call_next();
        let mut failure = failure::http2(&error);
        // A next one would refuse our certificate as well.
        if connection.made >= began || failure.reason == Reason::TlsFailed {
            failure.reached = Reached::No;
            return Err(failure);
        }
    }
}

/// The answer's head; interim answers are passed on as they come, those of too many fields are not.
async fn answer(
    mut response: ResponseFuture,
    interim: &Interim,
    most_fields: usize,
) -> Result<Response<h2::RecvStream>, h2::Error> {
    loop {
        let head = poll_fn(|cx| match response.poll_informational(cx) {
            Poll::Ready(Some(Ok(head))) => Poll::Ready(Ok(Head::Interim(head))),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(error)),
            Poll::Ready(None) | Poll::Pending => Pin::new(&mut response).poll(cx).map_ok(Head::Final),
        });
        match head.await? {
            Head::Final(response) => return Ok(response),
            Head::Interim(head) if head.headers().len() > most_fields => {}
            Head::Interim(head) => {
                let (head, ()) = head.into_parts();
                interim.send(head.status, head.headers).await;
            }
        }
    }
}

enum Head {
    Interim(Response<()>),
    Final(Response<h2::RecvStream>),
}

/// One of our streams: counted while it lives; its upload is stopped when nobody waits for the answer any more.
struct StreamHeld {
    life: Rc<Life>,
    places: Rc<Places>,
    upload: Option<JoinHandle<PumpEnd>>,
}

impl StreamHeld {
    fn on(connection: &Connection, places: &Rc<Places>) -> Self {
        let life = Rc::clone(&connection.life);
        life.active.set(life.active.get() + 1);
        connection.last_used.set(Instant::now());
        Self { life, places: Rc::clone(places), upload: None }
    }

    /// Why the request's body broke off, if it did: then the stream was reset by us, not by the peer.
    async fn broken_body(&mut self) -> Option<BodyError> {
        let upload = self.upload.take_if(|upload| upload.is_finished())?;
        match upload.await {
            Ok(PumpEnd::Source(error)) => Some(error),
            _ => None,
        }
    }
}

impl Held for StreamHeld {
    fn release(self: Rc<Self>, _: End) {}
}

impl Drop for StreamHeld {
    fn drop(&mut self) {
        self.life.active.set(self.life.active.get() - 1);
        if let Some(upload) = &self.upload {
            upload.abort();
        }
        self.places.call_next();
    }
}

/// A connection to send on, opened if need be; requests that come meanwhile wait for the same one.
async fn find(pool: &Rc<RefCell<Http2Pool>>, way: &Way<'_>) -> Result<Rc<Connection>, Failure> {
    let places = Rc::clone(&pool.borrow().places);
    // Longer than it takes to connect, which tells by itself why it failed.
    let patience = way.limits().connect_timeout.saturating_mul(2);
    places.find(way, patience, || look(pool, way)).await
}

/// What there is for a request now. When all connections are nearly full, another one is made beside them, if it may be,
/// and the streams that are left are used up meanwhile.
fn look(pool: &Rc<RefCell<Http2Pool>>, way: &Way<'_>) -> Look<Rc<Connection>> {
    let mut found = pool.borrow_mut();
    let now = Instant::now();
    if let Some(connection) = found.roomy(now) {
        return Look::Found(connection);
    }
    found.connections.retain(|c| !c.retired.get() || c.life.active.get() > 0);
    let leaving = found.connections.iter().filter(|c| c.retired.get() && !c.life.closed.get()).count();
    let place = if found.connecting { None } else { found.places.place(way, leaving) };
    let opening = place.is_some();
    if let Some(place) = place {
        found.connecting = true;
        start_connecting(pool, way, place);
    }
    way.waits_for.set(if found.connecting { WaitsFor::Connection } else { WaitsFor::Others });
    match found.spare(now) {
        Some(connection) => Look::Found(connection),
        None if opening => Look::Opening,
        None => Look::Full,
    }
}

/// The limits that hold on the leg.
fn of_leg(way: &Way<'_>) -> UpstreamLimits {
    if way.meshed() { way.limits().meshed() } else { *way.limits() }
}

/// Opens a connection in a task of its own: the request that asked first may be cancelled, the others still want it.
fn start_connecting(pool: &Rc<RefCell<Http2Pool>>, way: &Way<'_>, place: Place) {
    let limits = of_leg(way);
    let pinged = way.meshed().then_some(limits.liveness);
    let dial = way.dial();
    let pool = Rc::clone(pool);
    tokio::task::spawn_local(async move {
        let mut place = Some(place);
        let result = match dial {
            Ok(dial) => open(dial, &limits, pinged, &mut place).await,
            Err(failure) => Err(failure),
        };
        pool.borrow_mut().finish_connecting(result);
        // Nobody is called to a place where a connection has just failed: the next one would fail as fast, and again.
        place.into_iter().for_each(Place::give_up);
    });
}

/// Takes the place if it comes to a connection.
async fn open(
    dial: Dial,
    limits: &UpstreamLimits,
    pinged: Option<Liveness>,
    place: &mut Option<Place>,
) -> Result<Connection, Failure> {
    let deadline = Instant::now() + limits.connect_timeout;
    let (stream, open) = connect::dial(dial, limits.connect_timeout).await?;
    let (sender, life, beginning) = handshake(stream, limits, pinged, open).await?;
    if pinged.is_some() {
        let begun = timeout_at(deadline, beginning.spoken()).await;
        let late = || Failure::before(Reason::ConnectTimeout).detail("the endpoint's sidecar says nothing");
        begun.map_err(|_| late())??;
    }
    life.hold(place);
    let now = Instant::now();
    Ok(Connection {
        sender,
        made: now,
        age: Age::from(now, limits.max_age, fastrand::f64()),
        last_used: Cell::new(now),
        retired: Cell::new(false),
        life,
    })
}

/// What a peer has to say before anything is asked of it.
struct Beginning {
    first: oneshot::Receiver<()>,
    end: Rc<Cell<Option<h2::Error>>>,
}

impl Beginning {
    /// Waits until the peer has spoken. In TLS 1.3 our handshake is over before the peer has looked at our certificate (RFC
    /// 8446 section 2): its SETTINGS, which a server sends unasked (RFC 9113 section 3.4), are its first word that it takes
    /// it. What ends before that has failed, whatever it is that says so, and has been sent no request.
    async fn spoken(self) -> Result<(), Failure> {
        if self.first.await.is_ok() {
            return Ok(());
        }
        let ended = || Failure::before(Reason::TlsFailed);
        Err(match self.end.take().map(|error| (failure::http2(&error), error)) {
            Some((refused, _)) if refused.reason == Reason::TlsFailed => refused,
            Some((_, error)) => ended().detail(format_args!("the endpoint's sidecar broke off: {error}")),
            None => ended().detail("the endpoint's sidecar closed before it spoke"),
        })
    }
}

/// `counted` says that the connection is open, as long as its socket is.
async fn handshake(
    stream: BoxStream,
    limits: &UpstreamLimits,
    pinged: Option<Liveness>,
    counted: impl Sized + 'static,
) -> Result<(SendRequest<Bytes>, Rc<Life>, Beginning), Failure> {
    let life = Rc::<Life>::default();
    let (stream, first) = Written::new(stream, &life);
    let handshake = Builder::new()
        .initial_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .data_frame_budget(data_frame_budget(limits.connection_window))
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(limits.send_buffer)
        .enable_push(false)
        .handshake(stream)
        .await;
    // A sidecar that has refused us may have closed already: see `Beginning`.
    let failed = if pinged.is_some() { Reason::TlsFailed } else { Reason::ConnectFailed };
    let (sender, mut connection) = handshake.map_err(|e| Failure::before(failed).detail(e))?;
    let pings = connection.ping_pong();
    let driven = Driven { life: Rc::clone(&life), _counted: counted };
    let beginning = Beginning { first, end: Rc::default() };
    let end = Rc::clone(&beginning.end);
    let driver = tokio::task::spawn_local(async move {
        // Its errors reach the requests that meet them, or who waits for its beginning.
        end.set(connection.await.err());
        drop(driven);
    });
    if let (Some(pings), Some(liveness)) = (pings, pinged) {
        let asking = ping::until_gone(pings, Rc::clone(&life), liveness);
        tokio::task::spawn_local(async move {
            asking.await;
            // Its requests fail as when the peer closes.
            driver.abort();
        });
    }
    Ok((sender, life, beginning))
}

/// Says that the connection has ended, however it does.
struct Driven<C> {
    life: Rc<Life>,
    _counted: C,
}

impl<C> Drop for Driven<C> {
    fn drop(&mut self) {
        self.life.closed.set(true);
        drop(self.life.place.take());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;
    use tokio::task::LocalSet;

    use super::*;

    /// A connection whose peer answers `/` and nothing else, and stops altogether at `/stop`.
    async fn connection(pinged: bool) -> (SendRequest<Bytes>, Rc<Life>) {
        let (near, far) = tokio::io::duplex(1 << 16);
        tokio::task::spawn_local(async move {
            let mut server = h2::server::handshake(far).await.unwrap();
            let mut kept = Vec::new();
            while let Some(Ok((request, mut respond))) = server.accept().await {
                match request.uri().path() {
                    "/" => drop(respond.send_response(Response::new(()), true).unwrap()),
                    "/stop" => std::future::pending().await,
                    _ => kept.push(respond),
                }
            }
        });
        let limits = UpstreamLimits::default();
        let pinged = pinged.then_some(limits.liveness);
        let (sender, life, _) = handshake(Box::new(near), &limits, pinged, ()).await.unwrap();
        (sender, life)
    }

    #[tokio::test(start_paused = true)]
    async fn of_connections_without_room_the_least_busy_is_used_and_an_old_one_last() {
        LocalSet::new()
            .run_until(async {
                let now = Instant::now();
                let hour = Duration::from_secs(3600);
                let mut pool = Http2Pool::default();
                // What each has in use of the hundred streams that are assumed, and when it is too old.
                for (active, end) in [(80, hour), (95, 3 * hour), (90, 3 * hour), (100, 3 * hour)] {
                    let (sender, life) = connection(false).await;
                    life.active.set(active);
                    let (age, last_used) = (Age::from(now, end, 0.0), Cell::new(now));
                    let retired = Cell::new(false);
                    let connection = Connection { sender, made: now, age, last_used, retired, life };
                    pool.connections.push(Rc::new(connection));
                }
                let spare = |after| pool.spare(now + after).map(|c| c.life.active.get());
                assert_eq!(spare(Duration::ZERO), Some(80));
                assert_eq!(spare(2 * hour), Some(90));
                pool.connections[1..].iter().for_each(|c| c.retired.set(true));
                let spare = pool.spare(now + 2 * hour).map(|c| c.life.active.get());
                assert_eq!(spare, Some(80), "better than none");
            })
            .await;
    }

    async fn get(sender: &SendRequest<Bytes>, path: &str) -> Result<StatusCode, h2::Error> {
        let mut sender = sender.clone().ready().await?;
        let request = Request::get(format!("http://x{path}")).body(()).unwrap();
        let (answer, _) = sender.send_request(request, true)?;
        answer.await.map(|answer| answer.status())
    }

    #[tokio::test(start_paused = true)]
    async fn a_sidecar_that_stopped_is_found_out_and_a_slow_one_is_waited_for() {
        LocalSet::new()
            .run_until(async {
                let hour = Duration::from_secs(3600);
                for (path, pinged, ends) in
                    [("/slow", true, false), ("/stop", false, false), ("/stop", true, true)]
                {
                    let (sender, life) = connection(pinged).await;
                    assert_eq!(get(&sender, "/").await.unwrap(), StatusCode::OK);
                    life.active.set(1);
                    let began = Instant::now();
                    let ended = tokio::time::timeout(hour, get(&sender, path)).await;
                    assert_eq!(ended.is_ok(), ends, "{path}, pinged: {pinged}");
                    assert_eq!(life.closed.get(), ends, "{path}, pinged: {pinged}");
                    if ends {
                        assert_eq!(began.elapsed().as_secs(), 35, "asked after 15 s, gone after 20 s");
                    }
                }
            })
            .await;
    }
}
