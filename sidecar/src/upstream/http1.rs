//! HTTP/1.1 upstream: one request at a time on a connection, the last used first.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::{Rc, Weak},
    time::Duration,
};

use http::{HeaderValue, Request, Response, header};
use http_body::Body as _;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{sync::oneshot, time::Instant};

use super::{
    UpstreamLimits, Way,
    connect::{self, BoxStream},
    failure,
};
use crate::{
    config::snapshot::state::Counted,
    error::{Failure, Reason},
    http::body::{Body, End, Held},
};

/// The connections of one upstream.
#[derive(Default)]
pub(super) struct Http1Pool {
    idle: Vec<Rc<Connection>>,
    open: Rc<Cell<usize>>,
    waiting: VecDeque<oneshot::Sender<Rc<Connection>>>,
}

impl Http1Pool {
    /// Closes what idled; says whether anything is left.
    pub(super) fn sweep(&mut self, now: Instant, limits: &UpstreamLimits) -> bool {
        self.idle.retain(|c| {
            now.duration_since(c.last_used.get()) < limits.idle_timeout
                && now.duration_since(c.opened) < limits.max_age
                && !c.is_closed()
        });
        self.open.get() > 0 || !self.waiting.is_empty()
    }

    pub(super) fn open(&self) -> usize {
        self.open.get()
    }

    /// The connection used last that can take a request at once.
    fn checkout(&mut self) -> Option<Rc<Connection>> {
        while let Some(connection) = self.idle.pop() {
            if connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    fn put(&mut self, mut connection: Rc<Connection>) {
        while let Some(waiter) = self.waiting.pop_front() {
            match waiter.send(connection) {
                Ok(()) => return,
                // It gave up meanwhile.
                Err(back) => connection = back,
            }
        }
        if self.idle.len() < connection.idle_limit {
            connection.last_used.set(Instant::now());
            self.idle.push(connection);
        }
    }
}

/// One connection, between requests or in one.
pub(super) struct Connection {
    sender: RefCell<SendRequest<Body>>,
    pool: Weak<RefCell<Http1Pool>>,
    opened: Instant,
    last_used: Cell<Instant>,
    idle_limit: usize,
    open: Rc<Cell<usize>>,
    _counted: Option<Counted>,
}

impl Connection {
    fn is_ready(&self) -> bool {
        self.sender.borrow().is_ready()
    }

    fn is_closed(&self) -> bool {
        self.sender.borrow().is_closed()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
    }
}

impl Held for Connection {
    /// Back to the pool once the answer is wholly read. An answer given up in the middle costs its connection.
    fn release(self: Rc<Self>, end: End) {
        let Some(pool) = self.pool.upgrade() else { return };
        if end != End::Complete || self.is_closed() {
            return;
        }
        if self.is_ready() {
            pool.borrow_mut().put(self);
            return;
        }
        // The answer was whole before the request was: the rest of the request may still be on its way.
        tokio::task::spawn_local(async move {
            let ready = std::future::poll_fn(|cx| self.sender.borrow_mut().poll_ready(cx));
            if let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(1), ready).await {
                pool.borrow_mut().put(self);
            }
        });
    }
}

pub(super) async fn send(
    pool: &Rc<RefCell<Http1Pool>>,
    way: &Way<'_>,
    mut request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    frame(&mut request);
    let mut fresh = false;
    loop {
        let pooled = pool.borrow_mut().checkout();
        let connection = match pooled {
            Some(connection) => connection,
            None if fresh => {
                let failure =
                    Failure::before(Reason::UpstreamClosed).detail("a fresh connection closed at once");
                return Err(failure);
            }
            None => {
                fresh = true;
                // Boxed, here and where TLS is: most requests find a connection.
                match Box::pin(open(pool, way)).await {
                    Ok(connection) => connection,
                    Err(failure) => return Err(failure),
                }
            }
        };
        let sending = connection.sender.borrow_mut().try_send_request(request);
        match sending.await {
            Ok(response) if framed_twice(&response) => {
                let failure = Failure::after(Reason::UpstreamMalformed);
                let failure = failure.detail("the answer has Content-Length and Transfer-Encoding");
                return Err(failure);
            }
            Ok(response) => return Ok(response.map(|b| Body::http1(b).holding(connection))),
            Err(mut error) => match error.take_message() {
                // The peer had closed the connection before a byte was written: the next one, then a fresh one.
                Some(unsent) => request = unsent,
                None => return Err(failure::http1(error.error())),
            },
        }
    }
}

/// Says that a body of unknown length follows. hyper does so by itself for methods that usually have one, and would send
/// a GET without its body.
fn frame(request: &mut Request<Body>) {
    let unknown = !request.body().is_end_stream() && request.body().size_hint().exact().is_none();
    if unknown && !request.headers().contains_key(header::CONTENT_LENGTH) {
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// An answer that two readers could end at different places (RFC 9112 section 6.3).
fn framed_twice<B>(response: &Response<B>) -> bool {
    let headers = response.headers();
    headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH)
}

/// A fresh connection, or one that somebody returns meanwhile where no more may be opened.
async fn open(pool: &Rc<RefCell<Http1Pool>>, way: &Way<'_>) -> Result<Rc<Connection>, Failure> {
    let limits = way.limits();
    let open = Rc::clone(&pool.borrow().open);
    let Ok(counted) = way.connection_place() else { return wait(pool, way).await };
    if open.get() >= limits.connections_per_endpoint {
        return wait(pool, way).await;
    }
    open.set(open.get() + 1);
    // Counted down again by the connection's end, from here on.
    let slot = Slot(Some(Rc::clone(&open)));
    let stream = connect::dial(way.dial()?, limits.connect_timeout).await?;
    let sender = handshake(stream, limits).await?;
    let now = Instant::now();
    slot.keep();
    Ok(Rc::new(Connection {
        sender: RefCell::new(sender),
        pool: Rc::downgrade(pool),
        opened: now,
        last_used: Cell::new(now),
        idle_limit: limits.idle_per_endpoint,
        open,
        _counted: counted,
    }))
}

/// Gives an opened connection's place back if the connection does not come to be.
struct Slot(Option<Rc<Cell<usize>>>);

impl Slot {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(open) = &self.0 {
            open.set(open.get() - 1);
        }
    }
}

async fn wait(pool: &Rc<RefCell<Http1Pool>>, way: &Way<'_>) -> Result<Rc<Connection>, Failure> {
    if pool.borrow().waiting.len() >= way.most_pending() {
        return Err(Failure::before(Reason::CircuitOpen).detail("too many requests wait for a connection"));
    }
    let (give, take) = oneshot::channel();
    pool.borrow_mut().waiting.push_back(give);
    match tokio::time::timeout(way.limits().connect_timeout, take).await {
        Ok(Ok(connection)) => Ok(connection),
        _ => Err(Failure::before(Reason::CircuitOpen).detail("no connection became free in time")),
    }
}

async fn handshake(stream: BoxStream, limits: &UpstreamLimits) -> Result<SendRequest<Body>, Failure> {
    let mut builder = Builder::new();
    builder.max_headers(limits.header_count).max_buf_size(limits.head_bytes.max(8192));
    let (sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| Failure::before(Reason::ConnectFailed).detail(e))?;
    tokio::task::spawn_local(async move {
        // Its errors reach the request that meets them.
        connection.await.ok();
    });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;

    use super::*;

    fn streaming() -> Body {
        Body::boxed(StreamBody::new(futures_util::stream::pending()))
    }

    #[test]
    fn a_get_whose_body_has_no_length_says_that_one_follows() {
        let mut request = Request::new(streaming());
        frame(&mut request);
        assert_eq!(request.headers()[header::TRANSFER_ENCODING], "chunked");
        for body in [Body::empty(), Body::full("known")] {
            let mut request = Request::new(body);
            frame(&mut request);
            assert!(request.headers().is_empty());
        }
        let mut told = Request::new(streaming());
        told.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("5"));
        frame(&mut told);
        assert!(!told.headers().contains_key(header::TRANSFER_ENCODING));
    }

    #[test]
    fn an_answer_that_could_end_at_two_places_is_found() {
        let mut response = Response::new(());
        response.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        assert!(!framed_twice(&response));
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("5"));
        assert!(framed_twice(&response));
    }
}
