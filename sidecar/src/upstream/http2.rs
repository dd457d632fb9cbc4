//! HTTP/2 upstream, by the `h2` crate itself: many requests share a connection; another is opened when the peer's
//! streams are nearly used up.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::Poll,
};

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::{Request, Response};
use http_body::Body as _;
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

use super::{
    UpstreamLimits, Way,
    connect::{self, Dial},
    failure,
};
use crate::{
    config::snapshot::state::Counted,
    error::{Failure, Reason},
    http::{
        body::{Body, BodyError, End, Held},
        h2::{PumpEnd, data_frame_budget, pump},
        interim::Interim,
    },
};

/// The connections of one upstream.
#[derive(Default)]
pub(super) struct Http2Pool {
    connections: Vec<Rc<Connection>>,
    connecting: bool,
    waiting: Vec<oneshot::Sender<Result<(), Failure>>>,
}

/// One connection, shared by its streams.
struct Connection {
    sender: SendRequest<Bytes>,
    opened: Instant,
    last_used: Cell<Instant>,
    closed: Rc<Cell<bool>>,
    /// Streams of ours in use.
    active: Rc<Cell<usize>>,
    _counted: Option<Counted>,
}

impl Connection {
    /// Whether it takes another request: alive, young, and with a fifth of the peer's streams to spare.
    fn has_room(&self, now: Instant, limits: &UpstreamLimits) -> bool {
        let most = self.sender.current_max_send_streams();
        !self.closed.get()
            && now.duration_since(self.opened) < limits.max_age
            && self.active.get().saturating_mul(5) < most.saturating_mul(4)
    }
}

impl Http2Pool {
    /// Closes what idled or aged; says whether anything is left.
    pub(super) fn sweep(&mut self, now: Instant, limits: &UpstreamLimits) -> bool {
        self.connections.retain(|c| {
            let busy = c.active.get() > 0;
            let old = now.duration_since(c.opened) >= limits.max_age;
            let idle = now.duration_since(c.last_used.get()) >= limits.idle_timeout;
            !c.closed.get() && (busy || !(old || idle))
        });
        !self.connections.is_empty() || self.connecting
    }

    pub(super) fn open(&self) -> usize {
        self.connections.len()
    }

    /// The first connection with room. When all are nearly full, any that still has a stream left.
    fn checkout(&self, now: Instant, limits: &UpstreamLimits, may_open: bool) -> Option<Rc<Connection>> {
        let roomy = self.connections.iter().find(|c| c.has_room(now, limits));
        let any = || self.connections.iter().filter(|c| !c.closed.get()).min_by_key(|c| c.active.get());
        let found = if may_open { roomy } else { roomy.or_else(any) };
        found.map(Rc::clone)
    }

    fn finish_connecting(&mut self, result: Result<Connection, Failure>) {
        self.connecting = false;
        let failure = match result {
            Ok(connection) => {
                self.connections.retain(|c| !c.closed.get());
                self.connections.push(Rc::new(connection));
                None
            }
            Err(failure) => Some(failure),
        };
        for waiter in self.waiting.drain(..) {
            let told = failure.as_ref().map_or(Ok(()), |f| Err(Failure { detail: f.detail.clone(), ..*f }));
            // One that gave up hears nothing.
            waiter.send(told).ok();
        }
    }
}

pub(super) async fn send(
    pool: &Rc<RefCell<Http2Pool>>,
    way: &Way<'_>,
    request: Request<Body>,
    interim: &Interim,
) -> Result<Response<Body>, Failure> {
    let connection = match connection(pool, way).await {
        Ok(connection) => connection,
        Err(failure) => return Err(failure),
    };
    let mut stream_held = StreamHeld::on(&connection);
    let mut sender = connection.sender.clone();
    // Waits while all of the peer's streams are in use; an error says that the connection is going.
    if let Err(error) = poll_fn(|cx| sender.poll_ready(cx)).await {
        let mut failure = failure::http2(&error);
        failure.reached = crate::error::Reached::No;
        return Err(failure);
    }
    let (head, body) = request.into_parts();
    let ends = body.is_end_stream();
    let (response, stream) = match sender.send_request(Request::from_parts(head, ()), ends) {
        Ok(sent) => sent,
        Err(error) => return Err(failure::http2(&error)),
    };
    if !ends {
        stream_held.upload = Some(tokio::task::spawn_local(pump(body, stream)));
    }
    match answer(response, interim).await {
        Ok(response) => Ok(response.map(|stream| Body::http2(stream).holding(Rc::new(stream_held)))),
        Err(error) => {
            let broken = stream_held.broken_body().await;
            let failure = broken.as_ref().map_or_else(|| failure::http2(&error), failure::body);
            Err(failure)
        }
    }
}

/// The answer's head; interim answers are passed on as they come.
async fn answer(
    mut response: ResponseFuture,
    interim: &Interim,
) -> Result<Response<h2::RecvStream>, h2::Error> {
    loop {
        let head = poll_fn(|cx| match response.poll_informational(cx) {
            Poll::Ready(Some(Ok(head))) => Poll::Ready(Ok(Head::Interim(head))),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(error)),
            Poll::Ready(None) | Poll::Pending => Pin::new(&mut response).poll(cx).map_ok(Head::Final),
        });
        match head.await? {
            Head::Final(response) => return Ok(response),
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
    active: Rc<Cell<usize>>,
    upload: Option<JoinHandle<PumpEnd>>,
}

impl StreamHeld {
    fn on(connection: &Connection) -> Self {
        let active = Rc::clone(&connection.active);
        active.set(active.get() + 1);
        connection.last_used.set(Instant::now());
        Self { active, upload: None }
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
        self.active.set(self.active.get() - 1);
        if let Some(upload) = &self.upload {
            upload.abort();
        }
    }
}

/// A connection to send on, opened if need be; requests that come meanwhile wait for the same one.
async fn connection(pool: &Rc<RefCell<Http2Pool>>, way: &Way<'_>) -> Result<Rc<Connection>, Failure> {
    let now = Instant::now();
    let limits = way.limits();
    let may_open = pool.borrow().connections.len() < limits.connections_per_endpoint;
    if let Some(connection) = pool.borrow().checkout(now, limits, may_open) {
        return Ok(connection);
    }
    let (tell, told) = oneshot::channel();
    let start = {
        let mut pool = pool.borrow_mut();
        if pool.waiting.len() >= way.most_pending() {
            return Err(
                Failure::before(Reason::CircuitOpen).detail("too many requests wait for a connection")
            );
        }
        pool.waiting.push(tell);
        !std::mem::replace(&mut pool.connecting, true)
    };
    if start {
        start_connecting(pool, way);
    }
    told.await.unwrap_or_else(|_| Err(Failure::before(Reason::ConnectFailed)))?;
    let connection = pool.borrow().checkout(now, limits, false);
    connection.ok_or_else(|| Failure::before(Reason::UpstreamClosed))
}

/// Opens a connection in a task of its own: the request that asked first may be cancelled, the others still want it.
fn start_connecting(pool: &Rc<RefCell<Http2Pool>>, way: &Way<'_>) {
    let limits = *way.limits();
    let prepared = way.connection_place().and_then(|counted| Ok((counted, way.dial()?)));
    let pool = Rc::clone(pool);
    tokio::task::spawn_local(async move {
        let result = match prepared {
            Ok((counted, dial)) => open(dial, &limits, counted).await,
            Err(failure) => Err(failure),
        };
        pool.borrow_mut().finish_connecting(result);
    });
}

async fn open(dial: Dial, limits: &UpstreamLimits, counted: Option<Counted>) -> Result<Connection, Failure> {
    let stream = connect::dial(dial, limits.connect_timeout).await?;
    let handshake = Builder::new()
        .initial_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .data_frame_budget(data_frame_budget(limits.connection_window))
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(limits.send_buffer)
        .enable_push(false)
        .handshake(stream)
        .await;
    let (sender, connection) = handshake.map_err(|e| Failure::before(Reason::ConnectFailed).detail(e))?;
    let closed = Rc::new(Cell::new(false));
    let mark = Rc::clone(&closed);
    tokio::task::spawn_local(async move {
        // Its errors reach the requests that meet them.
        connection.await.ok();
        mark.set(true);
    });
    let now = Instant::now();
    Ok(Connection {
        sender,
        opened: now,
        last_used: Cell::new(now),
        closed,
        active: Rc::default(),
        _counted: counted,
    })
}
