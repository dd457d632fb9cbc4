//! HTTP/1.1 upstream: one request at a time on a connection, the last used first.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    time::Duration,
};

use http::{HeaderValue, Request, Response, header};
use http_body::Body as _;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::{
    age::Age,
    connect::{self, BoxStream},
    failure,
    interim::Interims,
    limits::UpstreamLimits,
    places::{Look, Place, Places},
    way::{WaitsFor, Way},
};
use crate::{
    error::{Failure, Reason},
    http::{
        body::{Body, End, Held},
        interim::Interim,
    },
    telemetry::OpenConnection,
};

/// The longest status line, no less than the smallest buffer that hyper takes.
const STATUS_LINE: usize = 8192;

/// The connections of one upstream.
#[derive(Default)]
pub(super) struct Http1Pool {
    idle: Vec<Rc<Connection>>,
    places: Rc<Places>,
}

impl Http1Pool {
    /// Closes what idled or aged; says whether anything is left.
    pub(super) fn sweep(&mut self, now: Instant, limits: &UpstreamLimits) -> bool {
        self.idle.retain(|c| {
            now.duration_since(c.last_used.get()) < limits.idle_timeout
                && !c.age.is_over(now)
                && !c.is_closed()
        });
        self.places.open() > 0 || self.places.waiting() > 0
    }

    pub(super) fn open(&self) -> usize {
        self.places.open()
    }

    /// The connection used last that can take a request at once.
    fn ready(&mut self) -> Option<Rc<Connection>> {
        while let Some(connection) = self.idle.pop() {
            if connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// A connection, unless others wait for one already.
    fn checkout(&mut self) -> Option<Rc<Connection>> {
        if self.places.waiting() > 0 { None } else { self.ready() }
    }

    /// Keeps a connection for the next request. One that is not kept closes, and its place is free then.
    fn put(&mut self, connection: Rc<Connection>) {
        let now = Instant::now();
        let wanted = self.idle.len() < connection.idle_limit || self.places.waiting() > 0;
        if wanted && !connection.age.is_over(now) {
            connection.last_used.set(now);
            connection.used.set(true);
            self.idle.push(connection);
            self.places.call_next();
        }
    }
}

/// One connection, between requests or in one.
pub(super) struct Connection {
    sender: RefCell<SendRequest<Body>>,
    pool: Weak<RefCell<Http1Pool>>,
    age: Age,
    last_used: Cell<Instant>,
    /// Whether it has carried a request.
    used: Cell<bool>,
    idle_limit: usize,
}

impl Connection {
    fn is_ready(&self) -> bool {
        self.sender.borrow().is_ready()
    }

    fn is_closed(&self) -> bool {
        self.sender.borrow().is_closed()
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
    interim: &Interim,
) -> Result<Response<Body>, Failure> {
    frame(&mut request);
    let interims = Interims::of(&mut request);
    loop {
        let pooled = pool.borrow_mut().checkout();
        let connection = match pooled {
            Some(connection) => connection,
            // Boxed, here and where TLS is: most requests find a connection.
            None => match Box::pin(find(pool, way)).await {
                Ok(connection) => connection,
                Err(failure) => return Err(failure),
            },
        };
        way.waits_for.set(WaitsFor::Answer);
        let sending = connection.sender.borrow_mut().try_send_request(request);
        match interims.until(sending, interim).await {
            Ok(response) => {
                judge(&response, way.limits().head_bytes)?;
                return Ok(response.map(|b| Body::http1(b).holding(connection)));
            }
            Err(mut error) => match error.take_message() {
                // A next one would be refused as well.
                Some(_) if failure::http1(error.error()).reason == Reason::TlsFailed => {
                    return Err(failure::http1(error.error()));
                }
                // The peer had closed the connection before a byte was written: the next one, then a fresh one.
                Some(unsent) if connection.used.get() => {
                    way.waits_for.set(WaitsFor::Others);
                    request = unsent;
                }
                Some(_) => {
                    let failure = Failure::before(Reason::UpstreamClosed);
                    return Err(failure.detail("a fresh connection closed at once"));
                }
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

/// What is wrong with an answer, if anything is.
fn judge<B>(response: &Response<B>, most_bytes: usize) -> Result<(), Failure> {
    let malformed = || Failure::after(Reason::UpstreamMalformed);
    if framed_twice(response) {
        return Err(malformed().detail("the answer has Content-Length and Transfer-Encoding"));
    }
    let bytes = header_bytes(response);
    if bytes > most_bytes {
        let what = format_args!("the answer's header has {bytes} bytes (limits.headerBytes)");
        return Err(malformed().detail(what));
    }
    Ok(())
}

/// Its field lines, each with a colon, a space and a line end. hyper's own limit is looked at before it reads on, not after:
/// more than it says may have come by then.
fn header_bytes<B>(response: &Response<B>) -> usize {
    response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + b": \r\n".len()).sum()
}

/// An answer that two readers could end at different places (RFC 9112 section 6.3).
fn framed_twice<B>(response: &Response<B>) -> bool {
    let headers = response.headers();
    headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH)
}

/// A connection that somebody returns, or a fresh one.
async fn find(pool: &Rc<RefCell<Http1Pool>>, way: &Way<'_>) -> Result<Rc<Connection>, Failure> {
    let places = Rc::clone(&pool.borrow().places);
    let look = || {
        if let Some(connection) = pool.borrow_mut().ready() {
            return Look::Found(Ok(connection));
        }
        places.place(way, 0).map_or(Look::Full, |place| Look::Found(Err(place)))
    };
    match places.find(way, way.limits().connect_timeout, look).await? {
        Ok(connection) => Ok(connection),
        Err(place) => open(pool, way, place).await,
    }
}

async fn open(pool: &Rc<RefCell<Http1Pool>>, way: &Way<'_>, place: Place) -> Result<Rc<Connection>, Failure> {
    let limits = way.limits();
    way.waits_for.set(WaitsFor::Connection);
    let (stream, open) = connect::dial(way.dial()?, limits.connect_timeout).await?;
    let sender = handshake(stream, limits, (place, open)).await?;
    let now = Instant::now();
    Ok(Rc::new(Connection {
        sender: RefCell::new(sender),
        pool: Rc::downgrade(pool),
        age: Age::from(now, limits.max_age, fastrand::f64()),
        last_used: Cell::new(now),
        used: Cell::new(false),
        idle_limit: limits.idle_per_endpoint,
    }))
}

/// `counted` says that the connection is open, as long as its socket is.
async fn handshake(
    stream: BoxStream,
    limits: &UpstreamLimits,
    counted: (Place, OpenConnection),
) -> Result<SendRequest<Body>, Failure> {
    let mut builder = Builder::new();
    // Room for what `judge` allows, and the status line.
    builder.max_headers(limits.header_count).max_buf_size(limits.head_bytes + STATUS_LINE);
    let (sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| Failure::before(Reason::ConnectFailed).detail(e))?;
    tokio::task::spawn_local(async move {
        // Its errors reach the request that meets them.
        connection.await.ok();
        drop(counted);
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

    #[test]
    fn an_answers_header_has_the_bytes_of_its_lines() {
        let mut response = Response::new(());
        for value in ["one", "three"] {
            response.headers_mut().append("x-many", HeaderValue::from_static(value));
        }
        let bytes = "x-many: one\r\nx-many: three\r\n".len();
        assert!(judge(&response, bytes).is_ok());
        let failure = judge(&response, bytes - 1).unwrap_err();
        assert_eq!(failure.reason, Reason::UpstreamMalformed);
        assert!(failure.to_string().contains("28 bytes (limits.headerBytes)"), "{failure}");
    }
}
