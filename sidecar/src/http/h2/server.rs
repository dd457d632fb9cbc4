//! The server side of an HTTP/2 connection.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use h2::{Reason, server::Builder};
use http::{Method, Request, Response};
use http_body::Body as _;
use tokio::time::{Instant, Sleep};

use super::{
    PumpEnd, ServerStream, Writes, data_frame_budget,
    expect::Expectation,
    leave::Leave,
    ping::until_gone,
    pump,
    stream::{Streams, UnderWay},
    turn::Turn,
};
use crate::{
    error::Reason as Named,
    http::{
        Abort, Answer, Handler, HttpLimits,
        body::{Body, TrailerLimit},
        ending::Cut,
        interim::Interim,
        io::{Liveness, Moved, Quiet, Stream},
    },
};

/// How a connection ended.
#[derive(Debug)]
pub enum ServeEnd {
    /// The peer closed it, or it was drained, or it idled.
    Closed,
    /// The codec refused what the peer sent: it broke this rule.
    Refused(&'static str),
    /// The socket failed.
    Failed(h2::Error),
}

/// How long a peer that is sent away may take to hear of it.
const LINGER: Duration = Duration::from_secs(2);

/// Serves a connection until it ends. When `drain` is ready the peer gets GOAWAY, requests in flight are finished, and
/// the connection closes; one that comes later may ask once. A peer with `liveness` is asked whether it lives.
pub async fn serve<H: Handler>(
    io: impl Stream,
    limits: &HttpLimits,
    writes: Writes,
    liveness: Option<Liveness>,
    handler: Rc<H>,
    drain: impl Future<Output = ()>,
) -> ServeEnd {
    let (io, moved) = Moved::on(io);
    let (io, turns) = Turn::new(io, writes);
    let handshake = turns.drive(builder(limits).handshake(io));
    let handshake = tokio::time::timeout(limits.head_timeout, handshake).await;
    let mut connection = match handshake {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return broken(error, &*handler),
        Err(_) => return ServeEnd::Closed,
    };
    let drain = pin!(drain);
    let mut leave = Leave::new(drain);
    let mut asked = false;
    let mut quiet = Quiet::new(moved, limits.idle_timeout);
    let (streams, resets) = (Rc::new(Streams::default()), Rc::new(Resets::default()));
    let mut gone = pin!(until_gone(connection.ping_pong(), liveness, Rc::clone(&streams)));
    let mut sent_away: Option<Pin<Box<Sleep>>> = None;
    let trailers = TrailerLimit { fields: limits.header_count, exceeded: Named::HeadersTooLarge };
    loop {
        let accepted = poll_fn(|cx| {
            // Its streams break off with the connection, as when it closes.
            if gone.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            if leave.is_due(asked, cx) {
                connection.graceful_shutdown();
            }
            if sent_away.is_none()
                && let Some((code, cut)) = offence(&mut quiet, &streams, &resets, limits, cx)
            {
                handler.cut(cut);
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
                asked = true;
                let under_way = streams.begin(respond);
                let answer = answer(Rc::clone(&handler), request, trailers, under_way, Rc::clone(&resets));
                tokio::task::spawn_local(answer);
            }
            // What its requests hear of it they hear later: this task goes first.
            Some(Err(error)) => return broken(error, &*handler),
            None => return ServeEnd::Closed,
        }
    }
}

/// The connection is no more, and its requests are told if the peer's bytes were the reason.
fn broken(error: h2::Error, handler: &impl Handler) -> ServeEnd {
    let code = error.reason().filter(|code| error.is_library() && *code != Reason::NO_ERROR);
    let Some(code) = code else { return ServeEnd::Failed(error) };
    let rule = rule(code);
    let reason = if code == Reason::ENHANCE_YOUR_CALM { Named::Overloaded } else { Named::MalformedRequest };
    handler.cut(Cut { reason, rule: Some(rule) });
    ServeEnd::Refused(rule)
}

/// The name of the rule that a peer has broken, by the code that it is told (RFC 9113 section 7).
const fn rule(code: Reason) -> &'static str {
    match code {
        Reason::FLOW_CONTROL_ERROR => "http2_flow_control_error",
        Reason::STREAM_CLOSED => "http2_stream_closed",
        Reason::FRAME_SIZE_ERROR => "http2_frame_size_error",
        Reason::COMPRESSION_ERROR => "http2_compression_error",
        Reason::ENHANCE_YOUR_CALM => "http2_enhance_your_calm",
        _ => "http2_protocol_error",
    }
}

/// What ends the connection, in the peer's words and in ours.
fn offence(
    quiet: &mut Quiet,
    streams: &Streams,
    resets: &Resets,
    limits: &HttpLimits,
    cx: &mut Context<'_>,
) -> Option<(Reason, Cut)> {
    if quiet.poll(cx, || streams.tick()).is_ready() {
        return Some((Reason::NO_ERROR, Named::StreamIdle.into()));
    }
    let too_many = resets.in_second.get() > limits.resets_per_second;
    let overloaded = Cut { reason: Named::Overloaded, rule: Some("limits.maxResetsPerSecond") };
    too_many.then_some((Reason::ENHANCE_YOUR_CALM, overloaded))
}

fn builder(limits: &HttpLimits) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .data_frame_budget(data_frame_budget(limits.connection_window))
        .max_concurrent_streams(limits.concurrent_streams)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(limits.pending_resets)
        .max_send_buffer_size(limits.send_buffer);
    builder
}

/// One stream, until it is over or nothing has moved on it for too long.
async fn answer<H: Handler>(
    handler: Rc<H>,
    request: Request<h2::RecvStream>,
    trailers: TrailerLimit,
    under_way: UnderWay,
    resets: Rc<Resets>,
) {
    let stream = &under_way.stream;
    let mut answering = pin!(Some(respond(Rc::clone(&handler), request, trailers, stream, &resets)));
    let is_idle = poll_fn(|cx| match answering.as_mut().as_pin_mut() {
        Some(_) if stream.is_idle(cx) => Poll::Ready(true),
        Some(answering) => answering.poll(cx).map(|()| false),
        None => Poll::Ready(false),
    });
    if is_idle.await {
        handler.cut_one(Named::StreamIdle.into(), || answering.set(None));
        stream.respond.borrow_mut().send_reset(Reason::CANCEL);
    }
}

/// One stream: from its head to the last byte of its answer.
async fn respond<H: Handler>(
    handler: Rc<H>,
    request: Request<h2::RecvStream>,
    trailers: TrailerLimit,
    stream: &Rc<ServerStream>,
    resets: &Resets,
) {
    let bodiless = request.method() == Method::HEAD;
    let expectation = Expectation::of(&request, stream);
    let request = request.map(|body| watched(body, stream, trailers));
    let request = match &expectation {
        Some(expectation) => request.map(|body| expectation.of_body(body)),
        None => request,
    };
    let answer = {
        let mut handling = pin!(handler.handle(request, Interim::http2(Rc::clone(stream))));
        poll_fn(|cx| poll_answer(handling.as_mut(), stream, cx)).await
    };
    if let Some(expectation) = expectation {
        expectation.is_over();
    }
    match answer {
        Some(Ok(response)) => {
            if let Some(PumpEnd::Peer(_)) = send(stream, response, bodiless).await {
                resets.count();
            }
        }
        Some(Err(Abort::Refused)) => stream.respond.borrow_mut().send_reset(Reason::REFUSED_STREAM),
        Some(Err(Abort::Reset(reason))) => stream.respond.borrow_mut().send_reset(reason),
        // The peer reset the stream: dropping the handler's future has already stopped all that was done for it.
        None => resets.count(),
    }
}

/// A request's body. What is read of it keeps its stream alive.
fn watched(body: h2::RecvStream, stream: &Rc<ServerStream>, trailers: TrailerLimit) -> Body {
    let body = Body::http2(body, trailers);
    if body.is_end_stream() { body } else { body.holding(Rc::clone(stream) as _) }
}

fn poll_answer(
    handling: Pin<&mut impl Future<Output = Answer>>,
    stream: &ServerStream,
    cx: &mut Context<'_>,
) -> Poll<Option<Answer>> {
    if let Poll::Ready(answer) = handling.poll(cx) {
        return Poll::Ready(Some(answer));
    }
    match stream.respond.try_borrow_mut().map(|mut r| r.poll_reset(cx)) {
        Ok(Poll::Ready(_)) => Poll::Ready(None),
        _ => Poll::Pending,
    }
}

/// Sends the answer; to a HEAD without its body, whoever made it (RFC 9110 section 9.3.2).
async fn send(stream: &ServerStream, response: Response<Body>, bodiless: bool) -> Option<PumpEnd> {
    let (head, body) = response.into_parts();
    let ends = bodiless || body.is_end_stream();
    let sent = stream.respond.borrow_mut().send_response(Response::from_parts(head, ()), ends);
    stream.moved();
    match sent {
        Ok(body_to) if !ends => Some(pump(body, body_to, || stream.moved()).await),
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

    use bytes::Bytes;
    use http_body_util::BodyExt;
    use tokio::{
        io::AsyncWriteExt,
        task::LocalSet,
        time::{sleep, timeout},
    };

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
            serve(stream, &limits, Writes::AtOnce, None, Rc::new(Silent), pending()).await
        };
        let end = LocalSet::new().run_until(timeout(Duration::from_secs(3600), serving)).await;
        assert!(matches!(end, Ok(ServeEnd::Closed)), "{end:?}");
        assert_eq!(began.elapsed(), Duration::from_secs(50) + LINGER);
        drop(peer);
    }

    /// How long a connection lasts whose peer has asked for something, and after a second stops altogether if it does not
    /// live; `None`: it is still there after half an hour.
    async fn lasts(liveness: Option<Liveness>, lives: bool) -> Option<Duration> {
        let (near, far) = tokio::io::duplex(1 << 16);
        let peer = async move {
            let (mut sender, mut connection) = h2::client::handshake(near).await.unwrap();
            let request = Request::get("http://x/").body(()).unwrap();
            let _answer = sender.send_request(request, true).unwrap();
            timeout(Duration::from_secs(1), &mut connection).await.ok();
            if lives {
                connection.await.ok();
            }
            pending::<()>().await;
        };
        let serving = async {
            tokio::task::spawn_local(peer);
            let limits = HttpLimits::default();
            serve(far, &limits, Writes::AtOnce, liveness, Rc::new(Silent), pending()).await
        };
        let began = Instant::now();
        let end = LocalSet::new().run_until(timeout(Duration::from_secs(1800), serving)).await;
        end.ok().map(|_| began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_sidecar_that_stopped_is_found_out_and_a_waiting_one_is_served() {
        let asked = Liveness::default();
        assert_eq!(lasts(None, false).await, None);
        assert_eq!(lasts(Some(asked), true).await, None);
        assert_eq!(lasts(Some(asked), false).await, Some(asked.ask_after + asked.gone_after));
    }

    /// Answers `/` at once and `/upload` after its whole body, and never anything else. Keeps why it cut a request.
    #[derive(Default)]
    struct Choosy(Cell<Option<Named>>);

    impl Handler for Choosy {
        async fn handle(self: Rc<Self>, request: Request<Body>, _: Interim) -> Answer {
            match request.uri().path() {
                "/" => {}
                "/upload" => drop(request.into_body().collect().await.unwrap()),
                _ => pending().await,
            }
            Ok(Response::new(Body::empty()))
        }

        fn cut_one(&self, cut: Cut, ends: impl FnOnce()) {
            self.0.set(Some(cut.reason));
            ends();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_streams_the_one_on_which_nothing_moves_ends() {
        let (near, far) = tokio::io::duplex(1 << 16);
        let limits = HttpLimits { idle_timeout: Duration::from_secs(40), ..HttpLimits::default() };
        let handler = Rc::<Choosy>::default();
        let serving = Rc::clone(&handler);
        let asking = async {
            tokio::task::spawn_local(async move {
                serve(far, &limits, Writes::AtOnce, None, serving, pending()).await;
            });
            let (mut sender, connection) = h2::client::handshake(near).await.unwrap();
            tokio::task::spawn_local(connection);
            let mut send = |path: &str, ends: bool| {
                let request = Request::post(format!("http://x{path}")).body(()).unwrap();
                sender.send_request(request, ends).unwrap()
            };
            let (silent, _) = send("/silent", true);
            let (uploaded, mut upload) = send("/upload", false);
            let began = Instant::now();
            let silent = tokio::task::spawn_local(async move { (silent.await, began.elapsed()) });
            for _ in 0..100 {
                upload.send_data(Bytes::from_static(b"x"), false).unwrap();
                send("/", true).0.await.unwrap();
                sleep(Duration::from_secs(1)).await;
            }
            upload.send_data(Bytes::new(), true).unwrap();
            uploaded.await.unwrap();
            silent.await.unwrap()
        };
        let (silent, after) = LocalSet::new().run_until(asking).await;
        assert_eq!(silent.unwrap_err().reason(), Some(Reason::CANCEL));
        assert!((40..=50).contains(&after.as_secs()), "{after:?}");
        assert_eq!(handler.0.get(), Some(Named::StreamIdle));
    }
}
