//! Notes that a shared connection writes: a request that was queued since the last write has left nothing on the wire. And
//! tells that its peer has begun to speak.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::{io::ReadBuf, sync::oneshot};

use super::http2::Life;
use crate::http::io::{Hook, Hooked, Stream};

/// Has a connection's [`Life`] count its stream's writes.
pub(super) struct Written {
    life: Rc<Life>,
    first: Option<oneshot::Sender<()>>,
}

impl Written {
    /// The second value hears of the first bytes that are read, or fails when the stream ends before.
    pub(super) fn on<S>(stream: S, life: &Rc<Life>) -> (Hooked<S, Self>, oneshot::Receiver<()>) {
        let (tell, told) = oneshot::channel();
        (Hooked::new(stream, Self { life: Rc::clone(life), first: Some(tell) }), told)
    }

    /// A write that failed counts too: under TLS a part of it may have left before.
    fn note<T>(&self, written: Poll<T>) -> Poll<T> {
        if written.is_ready() {
            self.life.write();
        }
        written
    }
}

impl<S: Stream> Hook<S> for Written {
    fn poll_read(
        &mut self,
        stream: Pin<&mut S>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = stream.poll_read(cx, buf);
        if buf.filled().len() > before
            && let Some(first) = self.first.take()
        {
            // Not everybody waits for it.
            first.send(()).ok();
        }
        read
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
