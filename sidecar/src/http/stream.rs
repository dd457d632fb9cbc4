//! What a connection is made of, plain or under TLS, and how a layer on it does one thing differently.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{client, server};

/// A byte stream whose end can be told in two ways.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {
    /// From now on its drop is a reset, and not an end: the peer learns that what it heard was not all. What is not yet
    /// sent is lost.
    fn break_off(&self);
}

/// What is done differently on a stream's way. What a hook leaves out passes as it is.
pub trait Hook<S: Stream>: Unpin {
    /// In the place of [`AsyncRead::poll_read`].
    fn poll_read(
        &mut self,
        stream: Pin<&mut S>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        stream.poll_read(cx, buf)
    }

    /// In the place of [`AsyncWrite::poll_write`].
    fn poll_write(
        &mut self,
        stream: Pin<&mut S>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        stream.poll_write(cx, buf)
    }

    /// In the place of [`AsyncWrite::poll_write_vectored`].
    fn poll_write_vectored(
        &mut self,
        stream: Pin<&mut S>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        stream.poll_write_vectored(cx, bufs)
    }

    /// In the place of [`AsyncWrite::poll_flush`].
    fn poll_flush(&mut self, stream: Pin<&mut S>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        stream.poll_flush(cx)
    }
}

/// A stream with a hook.
#[derive(Debug)]
pub struct Hooked<S, H> {
    stream: S,
    hook: H,
}

impl<S, H> Hooked<S, H> {
    /// Puts the hook on the stream.
    pub const fn new(stream: S, hook: H) -> Self {
        Self { stream, hook }
    }
}

impl<S: Stream, H: Hook<S>> AsyncRead for Hooked<S, H> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, hook } = &mut *self;
        hook.poll_read(Pin::new(stream), cx, buf)
    }
}

impl<S: Stream, H: Hook<S>> AsyncWrite for Hooked<S, H> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, hook } = &mut *self;
        hook.poll_write(Pin::new(stream), cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, hook } = &mut *self;
        hook.poll_flush(Pin::new(stream), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, hook } = &mut *self;
        hook.poll_write_vectored(Pin::new(stream), cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<S: Stream, H: Hook<S>> Stream for Hooked<S, H> {
    fn break_off(&self) {
        self.stream.break_off();
    }
}

impl Stream for TcpStream {
    fn break_off(&self) {
        // On a socket that is gone already nobody needs to be told.
        SockRef::from(self).set_linger(Some(Duration::ZERO)).ok();
    }
}

impl<S: Stream> Stream for server::TlsStream<S> {
    fn break_off(&self) {
        self.get_ref().0.break_off();
    }
}

impl<S: Stream> Stream for client::TlsStream<S> {
    fn break_off(&self) {
        self.get_ref().0.break_off();
    }
}

impl<S: Stream + ?Sized> Stream for Box<S> {
    fn break_off(&self) {
        (**self).break_off();
    }
}

/// In memory, which knows no resets.
impl Stream for DuplexStream {
    fn break_off(&self) {}
}
