//! Writes a body to an HTTP/2 stream as fast as its reader takes it.

use std::{future::poll_fn, pin::Pin, task::Poll};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as _;

use crate::http::body::{Body, BodyError};

/// How the writing ended.
#[derive(Debug)]
pub enum PumpEnd {
    /// Written to the end, trailers included.
    Complete,
    /// The reader reset the stream or its connection is gone.
    Peer(h2::Error),
    /// The body broke off; the stream was reset, never ended as if it were whole.
    Source(BodyError),
}

/// Writes `body` to `stream`. Pulls the next bytes only when the peer's window has room, so nothing gathers here. Each time
/// that bytes go out `moved` is told.
pub async fn pump(mut body: Body, mut stream: SendStream<Bytes>, moved: impl Fn()) -> PumpEnd {
    loop {
        if body.is_end_stream() {
            return finish(stream.send_data(Bytes::new(), true));
        }
        let frame = match next_frame(&mut body, &mut stream).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return finish(stream.send_data(Bytes::new(), true)),
            Err(PumpEnd::Source(error)) => {
                stream.send_reset(reset_code(&error));
                return PumpEnd::Source(error);
            }
            Err(end) => return end,
        };
        match frame.into_data() {
            Ok(data) => {
                let last = body.is_end_stream();
                if let Err(error) = send(&mut stream, data, last, &moved).await {
                    return PumpEnd::Peer(error);
                }
                if last {
                    // Its observer learns of the end when the body is dropped.
                    return PumpEnd::Complete;
                }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                return finish(stream.send_trailers(trailers));
            }
        }
    }
}

fn finish(sent: Result<(), h2::Error>) -> PumpEnd {
    match sent {
        Ok(()) => PumpEnd::Complete,
        Err(error) => PumpEnd::Peer(error),
    }
}

/// The next frame of the body, unless the peer resets first.
async fn next_frame(
    body: &mut Body,
    stream: &mut SendStream<Bytes>,
) -> Result<Option<http_body::Frame<Bytes>>, PumpEnd> {
    poll_fn(|cx| {
        if let Poll::Ready(reset) = stream.poll_reset(cx) {
            return Poll::Ready(Err(PumpEnd::Peer(reset.map_or_else(|e| e, h2::Error::from))));
        }
        match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Ok(Some(frame))),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(PumpEnd::Source(error))),
            Poll::Ready(None) => Poll::Ready(Ok(None)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Sends bytes as the window opens, without copying them.
async fn send(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    last: bool,
    moved: &impl Fn(),
) -> Result<(), h2::Error> {
    if data.is_empty() {
        return if last { stream.send_data(data, true) } else { Ok(()) };
    }
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = match stream.capacity() {
            0 => more_room(stream).await?,
            room => room,
        };
        let part = data.split_to(room.min(data.len()));
        let end = last && data.is_empty();
        stream.send_data(part, end)?;
        moved();
    }
    Ok(())
}

/// Waits until the window opens. `poll_capacity` tells of changes only: asked while there is room, it waits for ever.
async fn more_room(stream: &mut SendStream<Bytes>) -> Result<usize, h2::Error> {
    poll_fn(|cx| {
        if let Poll::Ready(reset) = stream.poll_reset(cx) {
            return Poll::Ready(Err(reset.map_or_else(|e| e, h2::Error::from)));
        }
        match stream.poll_capacity(cx) {
            Poll::Ready(Some(room)) => Poll::Ready(room),
            Poll::Ready(None) => Poll::Ready(Err(h2::Error::from(Reason::CANCEL))),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// The code that tells the peer why its body breaks off.
fn reset_code(error: &BodyError) -> Reason {
    match error {
        BodyError::Http2(error) => error.reason().unwrap_or(Reason::INTERNAL_ERROR),
        BodyError::Http1(_) => Reason::CANCEL,
        BodyError::Own(_) => Reason::INTERNAL_ERROR,
    }
}
