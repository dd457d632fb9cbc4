//! The server side of an HTTP/2 connection.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Reason,
    server::{Builder, SendResponse},
};
use http::{Method, Request, Response};
use http_body::Body as _;
use tokio::time::{Instant, Sleep};

use super::{PumpEnd, Writes, data_frame_budget, expect::Expectation, pump, turn::Turn};
use crate::{
    error::Reason as Named,
    http::{
        Abort, Answer, Handler, HttpLimits,
        body::Body,
        interim::Interim,
        io::{Quiet, Stream, Watched},
    },
};

/// How a connection ended.
#[derive(Debug)]
pub enum ServeEnd {
    /// The peer closed it, or it was drained, or it idled.
    Closed,
    /// The codec refused what the peer sent, or the socket failed.
    Failed(h2::Error),
}

/// Streams that the peer may have reset before we have looked at them (CVE-2023-44487).
const PENDING_RESETS: usize = 64;

/// How long a peer that is sent away may take to hear of it.
const LINGER: Duration = Duration::from_secs(2);

/// Serves a connection until it ends. When `drain` is ready the peer gets GOAWAY, requests in flight are finished, and
/// the connection closes.
pub async fn serve<H: Handler>(
    io: impl Stream,
    limits: &HttpLimits,
    writes: Writes,
    handler: Rc<H>,
    drain: impl Future<Output = ()>,
) -> ServeEnd {
    let (io, moved) = Watched::new(io);
    let (io, turns) = Turn::new(io, writes);
    let handshake = turns.drive(builder(limits).handshake(io));
    let handshake = tokio::time::timeout(limits.head_timeout, handshake).await;
    let mut connection = match handshake {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return ServeEnd::Failed(error),
        Err(_) => return ServeEnd::Closed,
    };
    let mut drain = pin!(drain);
    let mut draining = false;
    let mut quiet = Quiet::new(moved, limits.idle_timeout);
    let resets = Rc::new(Resets::default());
    let mut sent_away: Option<Pin<Box<Sleep>>> = None;
    loop {
        let accepted = poll_fn(|cx| {
            if !draining && drain.as_mut().poll(cx).is_ready() {
                draining = true;
                connection.graceful_shutdown();
            }
            if sent_away.is_none()
                && let Some((code, reason)) = offence(&mut quiet, &resets, limits, cx)
            {
                handler.cut(reason);
                connection.abrupt_shutdown(code);
                sent_away = Some(Box::pin(tokio::time::sleep(LINGER)));
            }
            // The codec would wait without end for a peer that does not read.
            if sent_away.as_mut().is_some_and(|patience| patience.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(None);
            }
            connection.poll_accept(cx)
        });
        match turns.drive(accepted).await {
            Some(Ok((request, respond))) => {
                tokio::task::spawn_local(answer(Rc::clone(&handler), request, respond, Rc::clone(&resets)));
            }
            Some(Err(error)) => return ServeEnd::Failed(error),
            None => return ServeEnd::Closed,
        }
    }
}

/// What ends the connection, in the peer's words and in ours.
fn offence(
    quiet: &mut Quiet,
    resets: &Resets,
    limits: &HttpLimits,
    cx: &mut Context<'_>,
) -> Option<(Reason, Named)> {
    if quiet.poll(cx).is_ready() {
        return Some((Reason::NO_ERROR, Named::StreamIdle));
    }
    let too_many = resets.in_second.get() > limits.resets_per_second;
    too_many.then_some((Reason::ENHANCE_YOUR_CALM, Named::Overloaded))
}

fn builder(limits: &HttpLimits) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .data_frame_budget(data_frame_budget(limits.connection_window))
        .max_concurrent_streams(limits.concurrent_streams)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_send_buffer_size(limits.send_buffer);
    builder
}

/// One stream: from its head to the last byte of its answer.
async fn answer<H: Handler>(
    handler: Rc<H>,
    request: Request<h2::RecvStream>,
    respond: SendResponse<Bytes>,
    resets: Rc<Resets>,
) {
    let bodiless = request.method() == Method::HEAD;
    let respond = Rc::new(RefCell::new(respond));
    let expectation = Expectation::of(&request, &respond);
    let request = request.map(Body::http2);
    let request = match &expectation {
        Some(expectation) => request.map(|body| expectation.of_body(body)),
        None => request,
    };
    let answer = {
        let mut handling = pin!(handler.handle(request, Interim::http2(Rc::clone(&respond))));
        poll_fn(|cx| poll_answer(handling.as_mut(), &respond, cx)).await
    };
    if let Some(expectation) = expectation {
        expectation.is_over();
    }
    match answer {
        Some(Ok(response)) => {
            if let Some(PumpEnd::Peer(_)) = send(&respond, response, bodiless).await {
                resets.count();
            }
        }
        Some(Err(Abort::Refused)) => respond.borrow_mut().send_reset(Reason::REFUSED_STREAM),
        Some(Err(Abort::Reset(reason))) => respond.borrow_mut().send_reset(reason),
        // The peer reset the stream: dropping the handler's future has already stopped all that was done for it.
        None => resets.count(),
    }
}

fn poll_answer(
    handling: Pin<&mut impl Future<Output = Answer>>,
    respond: &RefCell<SendResponse<Bytes>>,
    cx: &mut Context<'_>,
) -> Poll<Option<Answer>> {
    if let Poll::Ready(answer) = handling.poll(cx) {
        return Poll::Ready(Some(answer));
    }
    match respond.try_borrow_mut().map(|mut r| r.poll_reset(cx)) {
        Ok(Poll::Ready(_)) => Poll::Ready(None),
        _ => Poll::Pending,
    }
}

/// Sends the answer; to a HEAD without its body, whoever made it (RFC 9110 section 9.3.2).
async fn send(
    respond: &RefCell<SendResponse<Bytes>>,
    response: Response<Body>,
    bodiless: bool,
) -> Option<PumpEnd> {
    let (head, body) = response.into_parts();
    let ends = bodiless || body.is_end_stream();
    let sent = respond.borrow_mut().send_response(Response::from_parts(head, ()), ends);
    match sent {
        Ok(stream) if !ends => Some(pump(body, stream).await),
        // An error here means that the peer or the connection is gone; the body's observer sees it abandoned.
        _ => None,
    }
}

/// The streams that the peer has reset lately. Work is begun for each and thrown away, so their number in a second is
/// limited (CVE-2023-44487).
#[derive(Default)]
struct Resets {
    in_second: Cell<u32>,
    since: Cell<Option<Instant>>,
}

impl Resets {
    fn count(&self) {
        let now = Instant::now();
        let fresh = self.since.get().is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1));
        if fresh {
            self.since.set(Some(now));
            self.in_second.set(0);
        }
        self.in_second.set(self.in_second.get() + 1);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::{io::AsyncWriteExt, task::LocalSet, time::timeout};

    use super::*;

    struct Silent;

    impl Handler for Silent {
        async fn handle(self: Rc<Self>, _: Request<Body>, _: Interim) -> Answer {
            pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_neither_speaks_nor_reads_is_cut_in_the_end() {
        // Room for our SETTINGS, and not for all that follows them.
        let (mut peer, stream) = tokio::io::duplex(64);
        let limits = HttpLimits { idle_timeout: Duration::from_secs(40), ..HttpLimits::default() };
        let began = Instant::now();
        let serving = async {
            peer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
            serve(stream, &limits, Writes::AtOnce, Rc::new(Silent), pending()).await
        };
        let end = LocalSet::new().run_until(timeout(Duration::from_secs(3600), serving)).await;
        assert!(matches!(end, Ok(ServeEnd::Closed)), "{end:?}");
        assert_eq!(began.elapsed(), Duration::from_secs(50) + LINGER);
        drop(peer);
    }
}
