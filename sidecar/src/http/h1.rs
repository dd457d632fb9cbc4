//! The server side of an HTTP/1 connection: the byte guard, hyper above it, the handler above both.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1::Builder};
use hyper_util::rt::TokioIo;

use super::{
    Handler, HttpLimits,
    body::{Body, End, Held},
    guard::{self, Guard, Handle, InFlight, Violation, response},
    interim::Interim,
    io::{Moved, Quiet, Stream},
};
use crate::error::Reason;

/// How a connection ended.
#[derive(Debug)]
pub enum ServeEnd {
    /// The peer closed it, or it was drained, or nothing moved for too long.
    Closed,
    /// What came never became a request: it broke this rule, and the peer was told so from here, in a body of so many bytes.
    Unserved { reason: Reason, rule: &'static str, told: usize },
    /// The guard refused a request's body. That is an end of the request's own.
    BodyRefused(Violation),
    /// A message broke off, or the socket failed.
    Failed(hyper::Error),
}

/// What a peer is told whose head took too long.
const LATE: &str = "head_timeout: the head of a request must come in time";

/// How long a refused peer may take to read its answer.
const LINGER: Duration = Duration::from_secs(2);

/// Serves a connection until it ends. When `drain` is ready the answer in flight says `connection: close` and is the
/// last one.
pub async fn serve<H: Handler>(
    io: impl Stream,
    limits: &HttpLimits,
    handler: Rc<H>,
    drain: impl Future<Output = ()>,
) -> ServeEnd {
    let (io, moved) = Moved::on(io);
    let (guard, handle) = Guard::new(io, guard_limits(limits));
    let service = hyper::service::service_fn({
        let (handler, handle) = (Rc::clone(&handler), handle.clone());
        // Boxed, so that an idle connection does not hold the room of a request's whole way.
        move |request| Box::pin(answer(Rc::clone(&handler), handle.clone(), request))
    });
    let mut connection = Builder::new()
        .max_headers(limits.header_count)
        .max_buf_size(limits.head_bytes + 8192)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(guard), service);
    let mut drain = pin!(drain);
    let mut draining = false;
    let mut ended_once = false;
    let mut quiet = Quiet::new(moved, limits.idle_timeout);
    let mut head = HeadTimer::new(handle.clone(), limits.head_timeout);
    let ended = poll_fn(|cx| {
        if !draining && drain.as_mut().poll(cx).is_ready() {
            draining = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(Err(error)) => return Poll::Ready(ServeEnd::Failed(error)),
            // hyper may end with bytes in its buffer; asked again, it writes them. See `Handle::run`.
            Poll::Ready(Ok(())) if handle.is_drained() || ended_once => return Poll::Ready(ServeEnd::Closed),
            Poll::Ready(Ok(())) => {
                ended_once = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Pending => {}
        }
        if head.poll(cx).is_ready() {
            let (reason, rule) = (Reason::RequestHeaderTimeout, "head_timeout");
            return Poll::Ready(ServeEnd::Unserved { reason, rule, told: 0 });
        }
        ready!(quiet.poll(cx, || ()));
        handler.cut(Reason::StreamIdle.into());
        Poll::Ready(ServeEnd::Closed)
    })
    .await;
    let due = handle.answer_due();
    let mut ended = match (due, handle.violation()) {
        (Some(violation), _) => {
            ServeEnd::Unserved { reason: violation.reason(), rule: violation.name(), told: 0 }
        }
        // A body may break a rule when its request has long been served: that is no failure of the connection.
        (None, Some(violation)) => ServeEnd::BodyRefused(violation),
        (None, None) => ended,
    };
    if let ServeEnd::Unserved { reason, told, .. } = &mut ended {
        let wrong = due.map_or_else(|| LATE.to_owned(), |violation| violation.to_string());
        // And the end of its line.
        *told = wrong.len() + 1;
        let (io, _) = connection.into_parts().io.into_inner().into_parts();
        // A peer that went away meanwhile does not want the answer.
        Box::pin(response::refuse(io, &response::whole(*reason, wrong), LINGER)).await.ok();
    }
    ended
}

fn guard_limits(limits: &HttpLimits) -> guard::Limits {
    guard::Limits {
        head: limits.head_bytes,
        request_line: limits.request_line_bytes.min(limits.head_bytes),
        field_line: guard::Limits::default().field_line.min(limits.head_bytes),
        fields: limits.header_count,
        trailer_fields: guard::Limits::default().trailer_fields.min(limits.header_count),
        ..guard::Limits::default()
    }
}

/// One request. hyper polls this inside the connection's own task.
async fn answer<H: Handler>(
    handler: Rc<H>,
    handle: Handle,
    request: Request<Incoming>,
) -> Result<Response<Body>, Aborted> {
    let in_flight = Rc::new(handle.request_started());
    let interim = Interim::Http1(Rc::clone(&in_flight), request.version());
    match handler.handle(request.map(Body::http1), interim).await {
        Ok(response) => Ok(response.map(|body| body.holding(in_flight))),
        Err(_) => Err(Aborted),
    }
}

/// Kept by the answer's body: only then does the guard let the next request through.
impl Held for InFlight {
    fn release(self: Rc<Self>, _: End) {}
}

/// The connection is closed without an answer.
#[derive(Debug)]
struct Aborted;

impl fmt::Display for Aborted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the exchange was given up")
    }
}

impl std::error::Error for Aborted {}

/// Runs while a head has begun and not ended. Heads mostly come whole, so mostly no timer is ever set.
struct HeadTimer {
    handle: Handle,
    timeout: Duration,
    running: Option<(u64, Pin<Box<tokio::time::Sleep>>)>,
}

impl HeadTimer {
    fn new(handle: Handle, timeout: Duration) -> Self {
        Self { handle, timeout, running: None }
    }

    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<()> {
        let Some(head) = self.handle.head_begun() else {
            self.running = None;
            return Poll::Pending;
        };
        if self.running.as_ref().is_none_or(|(of, _)| *of != head) {
            self.running = Some((head, Box::pin(tokio::time::sleep(self.timeout))));
        }
        self.running.as_mut().map_or(Poll::Pending, |(_, timer)| timer.as_mut().poll(cx))
    }
}
