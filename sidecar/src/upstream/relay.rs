//! Opaque bytes between two streams, each direction until its own end.

use std::{cell::Cell, io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    time::Instant,
};

use crate::http::io::Stream;

/// How a relay ended.
#[derive(Debug)]
pub enum RelayEnd {
    /// Both sides closed.
    Closed,
    /// No byte moved for the idle time-out.
    Idle,
    /// A side broke off.
    Failed(io::Error),
}

/// What a relay moved.
#[derive(Debug)]
pub struct Relayed {
    /// Bytes from the first stream to the second.
    pub forth: u64,
    /// Bytes from the second to the first.
    pub back: u64,
    /// How it ended.
    pub end: RelayEnd,
}

/// The most that waits in one direction.
const BUFFER: usize = 16 << 10;

/// Relays both ways. The end of one direction is passed on (half-close), the other goes on.
pub async fn relay(a: impl Stream, b: impl Stream, idle: Duration) -> Relayed {
    let (a_read, a_write) = tokio::io::split(a);
    let (b_read, b_write) = tokio::io::split(b);
    let (forth, back) = (Cell::new(0), Cell::new(0));
    let moved = Cell::new(Instant::now());
    let both = async {
        tokio::try_join!(one_way(a_read, b_write, &forth, &moved), one_way(b_read, a_write, &back, &moved))
    };
    let end = tokio::select! {
        done = both => done.map_or_else(RelayEnd::Failed, |_| RelayEnd::Closed),
        () = idles(&moved, idle) => RelayEnd::Idle,
    };
    Relayed { forth: forth.get(), back: back.get(), end }
}

async fn one_way<R: Stream, W: Stream>(
    mut from: ReadHalf<R>,
    mut to: WriteHalf<W>,
    count: &Cell<u64>,
    moved: &Cell<Instant>,
) -> io::Result<()> {
    let mut buffer = bytes::BytesMut::with_capacity(BUFFER);
    loop {
        buffer.clear();
        let read = from.read_buf(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer).await?;
        to.flush().await?;
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
    use super::*;

    #[tokio::test]
    async fn each_direction_ends_by_itself() {
        let (mut left, a) = tokio::io::duplex(64);
        let (b, mut right) = tokio::io::duplex(64);
        let local = tokio::task::LocalSet::new();
        let relayed = local.spawn_local(relay(a, b, Duration::from_secs(60)));
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
        let relayed = relay(a, b, Duration::from_secs(60)).await;
        assert!(matches!(relayed.end, RelayEnd::Idle));
    }
}
