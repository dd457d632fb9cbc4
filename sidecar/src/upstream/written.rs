//! Notes that a shared connection writes: a request that was queued since the last write has left nothing on the wire. And
//! tells that its peer has begun to speak.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

use super::http2::Life;

/// A stream whose writes its connection's [`Life`] counts.
pub(super) struct Written<S> {
    stream: S,
    life: Rc<Life>,
    first: Option<oneshot::Sender<()>>,
}

impl<S> Written<S> {
    /// The second value hears of the first bytes that are read, or fails when the stream ends before.
    pub(super) fn new(stream: S, life: &Rc<Life>) -> (Self, oneshot::Receiver<()>) {
        let (tell, told) = oneshot::channel();
        (Self { stream, life: Rc::clone(life), first: Some(tell) }, told)
    }

    /// A write that failed counts too: under TLS a part of it may have left before.
    fn note<T>(&self, written: Poll<T>) -> Poll<T> {
        if written.is_ready() {
            self.life.write();
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Written<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before
            && let Some(first) = self.first.take()
        {
            // Not everybody waits for it.
            first.send(()).ok();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Written<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(written)
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
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
