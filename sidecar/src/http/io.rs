//! What is put on byte streams: bytes that were already read, an eye on whether any move, and the gathering of small
//! writes. And how a peer that is gone is found out.

use std::{
    cell::Cell,
    future::Future,
    io::{self, IoSlice},
    os::fd::AsFd,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use smallvec::SmallVec;
use socket2::{SockRef, TcpKeepalive};
use tokio::{io::ReadBuf, time::Sleep};

pub use super::stream::{Hook, Hooked, Stream};

/// How a peer that is gone without a word is found out.
#[derive(Clone, Copy, Debug)]
pub struct Liveness {
    /// A peer that is silent for so long is asked whether it lives.
    pub ask_after: Duration,
    /// A peer that answers nothing for so long is gone.
    pub gone_after: Duration,
}

impl Default for Liveness {
    fn default() -> Self {
        Self { ask_after: Duration::from_secs(15), gone_after: Duration::from_secs(20) }
    }
}

impl Liveness {
    /// Has the kernel ask by TCP keepalive while nothing is on its way. Accepted sockets have it from their listener.
    pub fn watch(&self, socket: impl AsFd) {
        // What the kernel takes: whole seconds in 16 bits.
        let seconds = |time: Duration| time.clamp(Duration::from_secs(1), Duration::from_secs(32_767));
        let keepalive = TcpKeepalive::new()
            .with_time(seconds(self.ask_after))
            .with_interval(seconds(self.gone_after / 4))
            .with_retries(4);
        // Failing to set it leaves the kernel's own patience, of hours.
        SockRef::from(&socket).set_tcp_keepalive(&keepalive).ok();
    }

    /// The same for a connection that many requests share, where sent bytes must be acknowledged in time as well
    /// (TCP_USER_TIMEOUT). Not elsewhere: it also cuts off a peer that lives and does not read for a while, which a
    /// connection with one reader may do, while an HTTP/2 peer always reads.
    pub fn watch_shared(&self, socket: impl AsFd) {
        self.watch(&socket);
        SockRef::from(&socket).set_tcp_user_timeout(Some(self.gone_after)).ok();
    }
}

/// Gives back bytes that were read to tell the protocol, then the stream's own.
#[derive(Debug)]
pub struct Prefix(Bytes);

impl Prefix {
    /// Puts `prefix` before what the stream still brings.
    pub const fn on<S>(stream: S, prefix: Bytes) -> Hooked<S, Self> {
        Hooked::new(stream, Self(prefix))
    }
}

impl<S: Stream> Hook<S> for Prefix {
    fn poll_read(
        &mut self,
        stream: Pin<&mut S>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self(prefix) = self;
        if prefix.is_empty() {
            return stream.poll_read(cx, buf);
        }
        let n = prefix.len().min(buf.remaining());
        buf.put_slice(&prefix[..n]);
        prefix.advance(n);
        if prefix.is_empty() {
            *prefix = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

/// Tells whether bytes moved on a stream since it was last asked. A flag and not a clock: it is set for every read and
/// write.
#[derive(Clone, Debug, Default)]
pub struct Moved(Rc<Cell<bool>>);

impl Moved {
    /// Watches a stream.
    pub fn on<S>(stream: S) -> (Hooked<S, Self>, Self) {
        let moved = Self::default();
        (Hooked::new(stream, moved.clone()), moved)
    }

    /// Whether bytes moved since the last call.
    pub fn take(&self) -> bool {
        self.0.replace(false)
    }

    fn note<T>(&self, polled: Poll<T>) -> Poll<T> {
        if polled.is_ready() {
            self.0.set(true);
        }
        polled
    }
}

impl<S: Stream> Hook<S> for Moved {
    fn poll_read(
        &mut self,
        stream: Pin<&mut S>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.note(stream.poll_read(cx, buf))
    }

    fn poll_write(
        &mut self,
        stream: Pin<&mut S>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.note(stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        &mut self,
        stream: Pin<&mut S>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.note(stream.poll_write_vectored(cx, bufs))
    }
}

/// Sends what is small as one buffer.
///
/// A message of a few hundred bytes comes as two or three slices, and the kernel's work for a vector of them costs more
/// than copying them together. What is large passes untouched.
#[derive(Debug)]
pub struct Gather;

/// Up to here copying is cheaper: measured with heads and answers of 100 to 4,000 bytes.
const GATHER: usize = 2048;

impl Gather {
    /// Gathers what is written to a stream.
    pub const fn on<S>(stream: S) -> Hooked<S, Self> {
        Hooked::new(stream, Self)
    }
}

impl<S: Stream> Hook<S> for Gather {
    fn poll_write_vectored(
        &mut self,
        stream: Pin<&mut S>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match bufs {
            [one] => stream.poll_write(cx, one),
            _ if bufs.iter().map(|b| b.len()).sum::<usize>() > GATHER => stream.poll_write_vectored(cx, bufs),
            _ => {
                let mut together: SmallVec<[u8; GATHER]> = SmallVec::new();
                for buf in bufs {
                    together.extend_from_slice(buf);
                }
                stream.poll_write(cx, &together)
            }
        }
    }
}

/// Ends when nothing moved for a time, within a quarter of it. One timer, set four times in that time.
pub struct Quiet {
    moved: Moved,
    quarter: Duration,
    quiet: u8,
    timer: Pin<Box<Sleep>>,
}

impl Quiet {
    /// Watches for `timeout`.
    pub fn new(moved: Moved, timeout: Duration) -> Self {
        let quarter = timeout / 4;
        Self { moved, quarter, quiet: 0, timer: Box::pin(tokio::time::sleep(quarter)) }
    }

    /// Ready when it has been quiet for so long. At the end of each quarter of the time `tick` is called.
    pub fn poll(&mut self, cx: &mut Context<'_>, tick: impl Fn()) -> Poll<()> {
        while self.quiet < 4 {
            ready!(self.timer.as_mut().poll(cx));
            tick();
            self.quiet = if self.moved.take() { 0 } else { self.quiet + 1 };
            let next = self.timer.deadline() + self.quarter;
            self.timer.as_mut().reset(next);
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn small_slices_are_sent_together_and_nothing_is_lost() {
        let (mut reader, writer) = tokio::io::duplex(64 << 10);
        let mut writer = Gather::on(writer);
        let large = vec![b'x'; GATHER];
        let slices = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cd")];
        assert_eq!(writer.write_vectored(&slices).await.unwrap(), 4);
        let slices = [IoSlice::new(b"ef"), IoSlice::new(&large)];
        let mut written = writer.write_vectored(&slices).await.unwrap();
        while written < 2 + GATHER {
            written += writer.write(&large[written - 2..]).await.unwrap();
        }
        drop(writer);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, [b"abcdef".as_slice(), &large].concat());
    }

    #[test]
    fn a_shared_connection_must_be_acknowledged_and_another_may_pause() {
        let liveness =
            Liveness { ask_after: Duration::from_millis(2500), gone_after: Duration::from_secs(40) };
        let socket = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let (shared, alone) = (socket(), socket());
        liveness.watch_shared(&shared);
        liveness.watch(&alone);
        assert_eq!(shared.tcp_user_timeout().unwrap(), Some(Duration::from_secs(40)));
        assert_eq!(alone.tcp_user_timeout().unwrap(), None);
        for socket in [shared, alone] {
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(2));
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_quiet_when_nothing_moved_for_so_long() {
        let (mut peer, stream) = tokio::io::duplex(64);
        let (mut watched, moved) = Moved::on(stream);
        let began = tokio::time::Instant::now();
        let mut quiet = Quiet::new(moved, Duration::from_secs(40));
        peer.write_all(b"x").await.unwrap();
        watched.read_u8().await.unwrap();
        std::future::poll_fn(|cx| quiet.poll(cx, || ())).await;
        assert_eq!(began.elapsed(), Duration::from_secs(50));
        for _ in 0..1000 {
            assert!(
                futures_util::poll!(std::future::poll_fn(|cx| quiet.poll(cx, || ()))).is_ready(),
                "it stays so"
            );
        }
    }
}
