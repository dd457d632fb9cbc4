//! HTTP/2 upstream, by the `h2` crate itself: many requests share a connection; another is opened when the peer's
//! streams are nearly used up.

mod connection;
mod pool;

use std::{cell::RefCell, future::poll_fn, pin::Pin, rc::Rc, task::Poll};

use h2::client::ResponseFuture;
use http::{Request, Response};
use http_body::Body as _;
use tokio::{task::JoinHandle, time::Instant};

use self::connection::Connection;
pub(super) use self::{connection::Life, pool::Http2Pool};
use super::{
    failure,
    places::Places,
    way::{WaitsFor, Way},
};
use crate::{
    error::{Failure, Reason},
    http::{
        body::{Body, BodyError, End, Held, TrailerLimit},
        h2::{PumpEnd, pump},
        interim::Interim,
    },
};

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
    let connection = pool::ready(pool, way).await?;
    let mut stream_held = StreamHeld::on(&connection, pool.borrow().places());
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
    let most = way.leg_limits().header_count;
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
        life.carried.set(true);
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
