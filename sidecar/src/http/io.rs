//! Byte streams: one whose first bytes were already read, and one that tells whether bytes move.

use std::{
    cell::Cell,
    future::Future,
    io,
    os::fd::AsFd,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use smallvec::SmallVec;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

pub use super::stream::Stream;

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
pub struct Prefixed<S> {
    prefix: Bytes,
    stream: S,
}

impl<S> Prefixed<S> {
    /// Puts `prefix` before what the stream still brings.
    pub fn new(prefix: Bytes, stream: S) -> Self {
        Self { prefix, stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let n = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix[..n]);
        self.prefix.advance(n);
        if self.prefix.is_empty() {
            self.prefix = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<S: Stream> Stream for Prefixed<S> {
    fn break_off(&self) {
        self.stream.break_off();
    }
}

/// Tells whether bytes moved since it was last asked.
#[derive(Clone, Debug, Default)]
pub struct Moved(Rc<Cell<bool>>);

impl Moved {
    /// Whether bytes moved since the last call.
    pub fn take(&self) -> bool {
        self.0.replace(false)
    }
}

/// Notes that bytes move. A flag and not a clock: this runs for every read and write.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    moved: Moved,
}

impl<S> Watched<S> {
    /// Watches a stream.
    pub fn new(stream: S) -> (Self, Moved) {
        let moved = Moved::default();
        (Self { stream, moved: moved.clone() }, moved)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() {
            self.moved.0.set(true);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        if polled.is_ready() {
            self.moved.0.set(true);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        if polled.is_ready() {
            self.moved.0.set(true);
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Sends what is small as one buffer.
///
/// A message of a few hundred bytes comes as two or three slices, and the kernel's work for a vector of them costs more
/// than copying them together. What is large passes untouched.
#[derive(Debug)]
pub struct Gathered<S>(pub S);

/// Up to here copying is cheaper: measured with heads and answers of 100 to 4,000 bytes.
const GATHER: usize = 2048;

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.0);
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

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

impl<S: Stream> Stream for Gathered<S> {
    fn break_off(&self) {
        self.0.break_off();
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
        let mut writer = Gathered(writer);
        let large = vec![b'x'; GATHER];
        let slices = [io::IoSlice::new(b"ab"), io::IoSlice::new(b""), io::IoSlice::new(b"cd")];
        assert_eq!(writer.write_vectored(&slices).await.unwrap(), 4);
        let slices = [io::IoSlice::new(b"ef"), io::IoSlice::new(&large)];
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
        let (mut watched, moved) = Watched::new(stream);
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
