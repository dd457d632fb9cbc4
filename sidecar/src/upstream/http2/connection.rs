//! One HTTP/2 connection: how it is made, what it has room for, and how its end is told.

use std::{
    cell::Cell,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::{
    error::{Failure, Reached, Reason},
    http::{h2::data_frame_budget, io::Liveness},
    upstream::{
        age::Age,
        connect::{self, BoxStream, Dial},
        failure,
        limits::UpstreamLimits,
        ping,
        places::Place,
        written::Written,
    },
};

/// One connection, shared by its streams.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Bytes>,
    pub(super) made: Instant,
    pub(super) age: Age,
    pub(super) last_used: Cell<Instant>,
    /// Whether the peer has said how many streams it takes.
    pub(super) spoken: Cell<bool>,
    /// It let a request's time pass in silence, or its peer takes no more streams.
    pub(super) retired: Cell<bool>,
    pub(super) life: Rc<Life>,
}

impl Connection {
    /// Whether it takes another request: alive, young, and with a fifth of the peer's streams to spare.
    pub(super) fn has_room(&self, now: Instant) -> bool {
        let most = self.streams();
        self.is_usable()
            && !self.age.is_over(now)
            && self.life.active.get().saturating_mul(5) < most.saturating_mul(4)
    }

    /// Whether the peer takes another stream at all.
    pub(super) fn has_stream(&self) -> bool {
        self.is_usable() && self.life.active.get() < self.streams()
    }

    /// How many streams the peer takes. One is what every peer does that has not said it yet: of more some would be refused.
    fn streams(&self) -> usize {
        if self.spoken.get() { self.sender.current_max_send_streams() } else { 1 }
    }

    pub(super) fn is_usable(&self) -> bool {
        !self.life.closed.get() && !self.retired.get()
    }

    /// Why it takes no more streams, though those it has may go on: the peer has said GOAWAY, or it is breaking. Nothing
    /// tells when it comes to that.
    pub(super) fn refusal(&self) -> Option<h2::Error> {
        refusal(&self.sender)
    }

    /// Whether it has ended in such a way that another one would as well: without a request, or by what is no HTTP/2.
    pub(super) fn ended_in_vain(&self) -> bool {
        let malformed = || self.unsent().reason == Reason::UpstreamMalformed;
        self.life.closed.get() && (!self.life.carried.get() || malformed())
    }

    /// What its end means to a request that was to be sent on it.
    pub(super) fn unsent(&self) -> Failure {
        let ended =
            || Failure::before(Reason::UpstreamClosed).detail("the connection ended before it was used");
        self.refusal().map_or_else(ended, |error| unsent(&error))
    }
}

fn refusal(sender: &SendRequest<Bytes>) -> Option<h2::Error> {
    // Ready always: only a handle that has a stream in the queue waits.
    match sender.clone().poll_ready(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Err(error)) => Some(error),
        _ => None,
    }
}

/// What a connection's end means to a request that was not sent on it.
pub(super) fn unsent(error: &h2::Error) -> Failure {
    Failure { reached: Reached::No, ..failure::http2(error) }
}

/// What a connection's streams, its driver and its pings tell each other.
#[derive(Default)]
pub(in crate::upstream) struct Life {
    /// Streams of ours in use.
    pub(in crate::upstream) active: Cell<usize>,
    /// How often the peer was heard: heads of answers and acknowledged pings.
    pub(in crate::upstream) heard: Cell<u64>,
    /// Whether a request was sent on it.
    pub(super) carried: Cell<bool>,
    /// How often something was written.
    pub(super) written: Cell<u64>,
    /// Whether the connection has ended.
    pub(in crate::upstream) closed: Cell<bool>,
    /// Its place in the pool, until then.
    place: Cell<Option<Place>>,
}

impl Life {
    pub(in crate::upstream) fn hear(&self) {
        self.heard.set(self.heard.get().wrapping_add(1));
    }

    pub(in crate::upstream) fn write(&self) {
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
    pub(super) fn judge(&self, mut failure: Failure, written: u64) -> Failure {
        if self.written.get() == written {
            failure.reached = Reached::No;
        }
        failure
    }
}

/// Takes the place if it comes to a connection. The second value is there where the peer has not spoken yet, and hears of it.
pub(super) async fn open(
    dial: Dial,
    limits: &UpstreamLimits,
    pinged: Option<Liveness>,
    place: &mut Option<Place>,
) -> Result<(Rc<Connection>, Option<oneshot::Receiver<()>>), Failure> {
    let deadline = Instant::now() + limits.connect_timeout;
    let (stream, open) = connect::dial(dial, limits.connect_timeout).await?;
    let (sender, life, beginning) = handshake(stream, limits, pinged, open).await?;
    let first = if pinged.is_some() {
        let begun = timeout_at(deadline, beginning.spoken(&sender)).await;
        let late = || Failure::before(Reason::ConnectTimeout).detail("the endpoint's sidecar says nothing");
        begun.map_err(|_| late())??;
        None
    } else {
        // Waiting for it would cost the first request a round trip.
        Some(beginning.first)
    };
    life.hold(place);
    let now = Instant::now();
    let connection = Connection {
        sender,
        made: now,
        age: Age::from(now, limits.max_age, fastrand::f64()),
        last_used: Cell::new(now),
        spoken: Cell::new(first.is_none()),
        retired: Cell::new(false),
        life,
    };
    Ok((Rc::new(connection), first))
}

/// What a peer has to say before anything is asked of it.
struct Beginning {
    first: oneshot::Receiver<()>,
    end: Rc<Cell<Option<h2::Error>>>,
}

impl Beginning {
    /// Waits until the peer has spoken. In TLS 1.3 our handshake is over before the peer has looked at our certificate (RFC
    /// 8446 section 2): its SETTINGS, which a server sends unasked (RFC 9113 section 3.4), are its first word that it takes
    /// it. What ends before that has failed, whatever it is that says so, and has been sent no request. What is no HTTP/2 at
    /// all is no word, and neither is what the connection does not outlive.
    async fn spoken(self, sender: &SendRequest<Bytes>) -> Result<(), Failure> {
        if self.first.await.is_ok() {
            return refusal(sender).map_or(Ok(()), |error| Err(unsent(&error)));
        }
        let ended = || Failure::before(Reason::TlsFailed);
        Err(match self.end.take().map(|error| (unsent(&error), error)) {
            Some((known, _)) if matches!(known.reason, Reason::TlsFailed | Reason::UpstreamMalformed) => {
                known
            }
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
    let (stream, first) = Written::on(stream, &life);
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
pub(super) mod tests {
    use std::time::Duration;

    use http::{Request, Response, StatusCode};
    use tokio::task::LocalSet;

    use super::*;

    /// A connection whose peer answers `/` and nothing else, and stops altogether at `/stop`.
    pub(in super::super) async fn connection(pinged: bool) -> (SendRequest<Bytes>, Rc<Life>) {
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
