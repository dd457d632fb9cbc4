//! Opaque bytes between two streams, each direction until its own end.

use std::{cell::Cell, future::Future, io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    time::Instant,
};

use crate::{error::Failure, http::io::Stream};

/// How a relay ended.
#[derive(Debug)]
pub enum RelayEnd {
    /// Both sides closed.
    Closed,
    /// No byte moved for the idle time-out.
    Idle,
    /// A side broke off.
    Failed(Side, io::Error),
    /// It may not be any more.
    Refused(Failure),
}

/// Who broke off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// The peer that the connection came from.
    Downstream,
    /// The peer that it was carried to.
    Upstream,
}

/// What a relay moved.
#[derive(Debug)]
pub struct Relayed {
    /// Bytes from downstream to upstream.
    pub forth: u64,
    /// Bytes from upstream to downstream.
    pub back: u64,
    /// How it ended.
    pub end: RelayEnd,
}

/// The most that waits in one direction.
const BUFFER: usize = 16 << 10;

/// Relays both ways, until it is refused. The end of one direction is passed on (half-close), the other goes on. Where a
/// side breaks off, the other one sees it break off too, and where we do (refused, or silent for too long) both see it: a
/// clean end would tell them that they have heard everything.
pub async fn relay(
    downstream: impl Stream,
    upstream: impl Stream,
    idle: Duration,
    refused: impl Future<Output = Failure>,
) -> Relayed {
    let (mut from_down, mut to_down) = tokio::io::split(downstream);
    let (mut from_up, mut to_up) = tokio::io::split(upstream);
    let (forth, back) = (Cell::new(0), Cell::new(0));
    let moved = Cell::new(Instant::now());
    let both = async {
        tokio::try_join!(
            one_way((Side::Downstream, &mut from_down), (Side::Upstream, &mut to_up), &forth, &moved),
            one_way((Side::Upstream, &mut from_up), (Side::Downstream, &mut to_down), &back, &moved)
        )
    };
    let end = tokio::select! {
        done = both => done.map_or_else(|(side, error)| RelayEnd::Failed(side, error), |_| RelayEnd::Closed),
        () = idles(&moved, idle) => RelayEnd::Idle,
        failure = refused => RelayEnd::Refused(failure),
    };
    match end {
        RelayEnd::Failed(Side::Downstream, _) => from_up.unsplit(to_up).break_off(),
        RelayEnd::Failed(Side::Upstream, _) => from_down.unsplit(to_down).break_off(),
        RelayEnd::Refused(_) | RelayEnd::Idle => {
            from_up.unsplit(to_up).break_off();
            from_down.unsplit(to_down).break_off();
        }
        RelayEnd::Closed => {}
    }
    Relayed { forth: forth.get(), back: back.get(), end }
}

async fn one_way<R: Stream, W: Stream>(
    (source, from): (Side, &mut ReadHalf<R>),
    (sink, to): (Side, &mut WriteHalf<W>),
    count: &Cell<u64>,
    moved: &Cell<Instant>,
) -> Result<(), (Side, io::Error)> {
    let of = |side: Side| move |error: io::Error| (side, error);
    let mut buffer = bytes::BytesMut::with_capacity(BUFFER);
    loop {
        buffer.clear();
        let read = from.read_buf(&mut buffer).await.map_err(of(source))?;
        if read == 0 {
            return to.shutdown().await.map_err(of(sink));
        }
        to.write_all(&buffer).await.map_err(of(sink))?;
        to.flush().await.map_err(of(sink))?;
        count.set(count.get() + read as u64);
        moved.set(Instant::now());
    }
}

/// Ends when nothing moved for `idle`. The timer is set anew only when it fires.
async fn idles(moved: &Cell<Instant>, idle: Duration) {
    loop {
        let due = moved.get() + idle;
        if due <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(due).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn each_direction_ends_by_itself() {
        let (mut left, a) = tokio::io::duplex(64);
        let (b, mut right) = tokio::io::duplex(64);
        let local = tokio::task::LocalSet::new();
        let relayed = local.spawn_local(relay(a, b, Duration::from_secs(60), pending()));
        local
            .run_until(async {
                left.write_all(b"question").await.unwrap();
                left.shutdown().await.unwrap();
                let mut read = String::new();
                right.read_to_string(&mut read).await.unwrap();
                assert_eq!(read, "question");
                right.write_all(b"answer").await.unwrap();
                right.shutdown().await.unwrap();
                read.clear();
                left.read_to_string(&mut read).await.unwrap();
                assert_eq!(read, "answer");
                let relayed = relayed.await.unwrap();
                assert_eq!((relayed.forth, relayed.back), (8, 6));
                assert!(matches!(relayed.end, RelayEnd::Closed));
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it() {
        let (_left, a) = tokio::io::duplex(64);
        let (b, _right) = tokio::io::duplex(64);
        let relayed = relay(a, b, Duration::from_secs(60), pending()).await;
        assert!(matches!(relayed.end, RelayEnd::Idle));
    }

    #[tokio::test]
    async fn silence_is_no_end_to_either_side() {
        let (mut left, a) = tcp().await;
        let (b, mut right) = tcp().await;
        right.write_all(b"half").await.unwrap();
        let relayed = relay(a, b, Duration::from_millis(50), pending()).await;
        assert!(matches!(relayed.end, RelayEnd::Idle), "{relayed:?}");
        for (name, side) in [("downstream", &mut left), ("upstream", &mut right)] {
            let seen = side.read_to_end(&mut Vec::new()).await.map_err(|error| error.kind());
            assert_eq!(seen, Err(io::ErrorKind::ConnectionReset), "{name}");
        }
    }

    #[tokio::test]
    async fn who_breaks_off_is_told_and_the_other_side_sees_it() {
        for breaks in [Side::Downstream, Side::Upstream] {
            for speaks in [Side::Downstream, Side::Upstream] {
                let (left, a) = tcp().await;
                let (right, b) = tcp().await;
                let (broken, kept) = if breaks == Side::Downstream { (left, right) } else { (right, left) };
                // A close with unread bytes, or without lingering, is a reset.
                socket2::SockRef::from(&broken).set_linger(Some(Duration::ZERO)).unwrap();
                let (mut broken, mut kept) = (Some(broken), Some(kept));
                let speaker = if speaks == breaks { &mut broken } else { &mut kept };
                speaker.as_mut().unwrap().write_all(b"x").await.unwrap();
                drop(broken.take());
                let relayed = relay(a, b, Duration::from_secs(60), pending()).await;
                assert!(
                    matches!(relayed.end, RelayEnd::Failed(side, _) if side == breaks),
                    "{breaks:?} breaks off, {speaks:?} speaks: {relayed:?}"
                );
                let mut rest = Vec::new();
                let seen = kept.unwrap().read_to_end(&mut rest).await.map_err(|error| error.kind());
                assert_eq!(seen, Err(io::ErrorKind::ConnectionReset), "{breaks:?} breaks off: {rest:?}");
            }
        }
    }

    async fn tcp() -> (tokio::net::TcpStream, tokio::net::TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (ours, theirs) =
            tokio::join!(tokio::net::TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (ours.unwrap(), theirs.unwrap().0)
    }
}
