//! The wrapper around the socket: what hyper reads has been scanned in place, in hyper's own buffer.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::handle::{Handle, Shared};
use super::limits::Limits;
use super::scan::{Refused, Scanner};

/// What hyper writes by itself when a service reads the body of a request with `expect: 100-continue`.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

#[derive(Debug)]
pub struct Guard<IO> {
    io: IO,
    scanner: Scanner,
    /// Bytes that were read while the scanner was held. At most one read's worth: then reading stops.
    stash: Vec<u8>,
    shared: Rc<RefCell<Shared>>,
}

impl<IO> Guard<IO> {
    pub fn new(io: IO, limits: Limits) -> (Self, Handle) {
        let shared = Rc::new(RefCell::new(Shared::new()));
        let handle = Handle { shared: Rc::clone(&shared) };
        (Self { io, scanner: Scanner::new(limits), stash: Vec::new(), shared }, handle)
    }

    /// The socket, and what was read from it but given to nobody: the first bytes of a tunnel.
    pub fn into_parts(self) -> (IO, Vec<u8>) {
        (self.io, self.stash)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guard<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let refused = this.shared.borrow().refused;
        if let Some(refused) = refused {
            return this.poll_refused(cx, refused);
        }
        this.release();
        if this.scanner.is_held() {
            return this.poll_held(cx, buf);
        }
        let before = buf.filled().len();
        ready!(this.poll_fill(cx, buf))?;
        match this.scanner.scan(&buf.filled()[before..]) {
            Ok(passed) => {
                this.stash_from(buf, before + passed);
                let mut shared = this.shared.borrow_mut();
                shared.delivered = this.scanner.heads();
                shared.head_begun = this.scanner.head_begun();
                Poll::Ready(Ok(()))
            }
            Err(refused) => {
                buf.set_filled(before + refused.keep);
                let mut shared = this.shared.borrow_mut();
                shared.refused = Some(refused);
                shared.delivered = this.scanner.heads();
                drop(shared);
                // An empty read would be the end of the stream to hyper, perhaps too early.
                if refused.keep > 0 { Poll::Ready(Ok(())) } else { this.poll_refused(cx, refused) }
            }
        }
    }
}

impl<IO: AsyncRead + Unpin> Guard<IO> {
    /// Ends a hold about whose end the owner has decided.
    fn release(&mut self) {
        let shared = self.shared.borrow();
        if shared.pass_through {
            self.scanner.pass_through();
        } else if self.scanner.is_held() && shared.is_idle() {
            self.scanner.resume();
        }
    }

    /// Nothing more is passed on. hyper takes the end of the stream for the client's, and would give up what it is
    /// serving or has not written yet: so it gets to know it only when all is done.
    fn poll_refused(&mut self, cx: &Context<'_>, refused: Refused) -> Poll<io::Result<()>> {
        let mut shared = self.shared.borrow_mut();
        if refused.head_passed {
            if shared.ended {
                return Poll::Ready(Ok(()));
            }
            shared.ended = true;
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refused.violation)));
        }
        if shared.is_idle() && shared.drained {
            shared.ended = true;
            return Poll::Ready(Ok(()));
        }
        shared.remember(cx);
        Poll::Pending
    }

    /// Reads on only to hear of the client's end.
    fn poll_held(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.stash.is_empty() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
            if buf.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            self.stash_from(buf, before);
        }
        self.shared.borrow_mut().remember(cx);
        Poll::Pending
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.stash.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let here = self.stash.len().min(buf.remaining());
        buf.put_slice(&self.stash[..here]);
        self.stash.drain(..here);
        Poll::Ready(Ok(()))
    }

    /// Takes what was read from `at` on back out of the buffer. It comes before what is stashed already.
    fn stash_from(&mut self, buf: &mut ReadBuf<'_>, at: usize) {
        if at < buf.filled().len() {
            self.stash.splice(..0, buf.filled()[at..].iter().copied());
            buf.set_filled(at);
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Guard<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_before_write(cx, bytes))?;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_before_write(cx, slices.first().map_or(&[], |slice| slice)))?;
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_interim(cx))?;
        let mut shared = self.shared.borrow_mut();
        let newly = !shared.drained;
        shared.drained = true;
        shared.remember(cx);
        if newly && shared.refused.is_some() {
            shared.wake();
        }
        drop(shared);
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shared = self.shared.borrow();
        let answer_due = shared.ended && shared.refused.is_some_and(|refused| !refused.head_passed);
        if answer_due || shared.pass_through {
            // The owner is going to answer, or to open the tunnel.
            return Poll::Ready(Ok(()));
        }
        drop(shared);
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<IO: AsyncWrite + Unpin> Guard<IO> {
    fn poll_before_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<()>> {
        let begun = {
            let mut shared = self.shared.borrow_mut();
            // Bytes of the request being served, unless they are left from the answer before: that one had to be out of
            // hyper's buffer when a flush came.
            shared.answering |= shared.drained && bytes != CONTINUE;
            shared.drained = false;
            shared.interim.as_ref().is_some_and(|pending| pending.written > 0)
        };
        if begun { self.poll_interim(cx) } else { Poll::Ready(Ok(())) }
    }

    /// Writes the interim answer that waits, to its end.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.shared.borrow_mut();
        while let Some(pending) = &mut shared.interim {
            let rest = &pending.bytes[pending.written..];
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            pending.written += written;
            if pending.written == pending.bytes.len()
                && let Some(pending) = shared.interim.take()
            {
                pending.done();
            }
        }
        Poll::Ready(Ok(()))
    }
}
