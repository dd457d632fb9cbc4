//! Notes that a shared connection writes: a request that was queued since the last write has left nothing on the wire. And
//! tells when its peer's first frame has come.

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
    first: Option<First>,
}

/// The frame that a peer begins with, until it is whole. A part of one is no word: more of it may never come.
struct First {
    heard: usize,
    length: usize,
    tell: oneshot::Sender<()>,
}

impl First {
    /// RFC 9113 section 4.1: three bytes of length, not counting the header's own, of which there are so many.
    const LENGTH: usize = 3;
    const HEADER: usize = 9;

    /// Whether these bytes make it whole.
    fn hear(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes.iter().take(Self::LENGTH.saturating_sub(self.heard)) {
            self.length = self.length << 8 | usize::from(*byte);
        }
        self.heard += bytes.len();
        self.heard >= Self::HEADER + self.length
    }
}

impl Written {
    /// The second value hears when the first frame is read, or fails when the stream ends before.
    pub(super) fn on<S>(stream: S, life: &Rc<Life>) -> (Hooked<S, Self>, oneshot::Receiver<()>) {
        let (tell, told) = oneshot::channel();
        let first = Some(First { heard: 0, length: 0, tell });
        (Hooked::new(stream, Self { life: Rc::clone(life), first }), told)
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
        if let Some(first) = self.first.take_if(|first| first.hear(&buf.filled()[before..])) {
            // Not everybody waits for it.
            first.tell.send(()).ok();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_heard_when_it_is_whole() {
        let frame = [0, 1, 2, 4, 0, 0, 0, 0, 0];
        for pieces in [1, 2, 4, 9, 300] {
            let (tell, _told) = oneshot::channel();
            let mut first = First { heard: 0, length: 0, tell };
            let bytes: Vec<u8> = frame.into_iter().chain([7; 0x102]).collect();
            let (whole, last) = bytes.split_at(bytes.len() - 1);
            assert!(whole.chunks(pieces).all(|piece| !first.hear(piece)), "{pieces} bytes at a time");
            assert!(first.hear(last), "{pieces} bytes at a time");
        }
    }
}
