//! A connection as the gRPC server takes it: bytes, and who is at the other end. It ends when it is cut.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{self, Instant, Sleep},
};
use tonic::transport::server::Connected;

use super::{Line, calls::Calls, door::Place};
use crate::{
    peer::Peer,
    telemetry::{ConnectionEnd, Metrics},
};

/// A connection. Its place is free again when it is dropped.
pub(crate) struct Connection<S> {
    stream: S,
    line: Line,
    idle: Option<Idle>,
    _place: Place,
}

impl<S> Connection<S> {
    pub(super) fn new(stream: S, peer: Peer, place: Place) -> Self {
        Self { stream, line: Line { peer, calls: Calls::none() }, idle: None, _place: place }
    }

    /// The same, but it ends when it was without a call for so long.
    pub(super) fn ending_idle(self, longest: Duration, metrics: Arc<Metrics>) -> Self {
        let sleep = Box::pin(time::sleep(longest));
        Self { idle: Some(Idle { longest, sleep, metrics }), ..self }
    }

    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        let Self { idle, line, .. } = self;
        idle.as_mut().is_some_and(|idle| idle.is_over(line, context))
    }

    /// An error once it is cut. Looked at wherever the server may be waiting: while it cannot write, it does not read.
    fn is_whole(&self, context: &Context<'_>) -> io::Result<()> {
        match self.line.peer.cut().poll_made(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

/// How long a connection may be without a call.
struct Idle {
    longest: Duration,
    sleep: Pin<Box<Sleep>>,
    metrics: Arc<Metrics>,
}

impl Idle {
    fn is_over(&mut self, Line { peer, calls }: &Line, context: &mut Context<'_>) -> bool {
        while self.sleep.as_mut().poll(context).is_ready() {
            let end = calls.none_since().unwrap_or_else(Instant::now) + self.longest;
            if end <= Instant::now() {
                self.metrics.connection_ended(ConnectionEnd::Idle);
                tracing::debug!(%peer, "a connection without a call ends");
                return true;
            }
            self.sleep.as_mut().reset(end);
        }
        false
    }
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = Line;

    fn connect_info(&self) -> Line {
        self.line.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    /// An idle connection reads as if its peer had ended it: the server then ends it in good order.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.is_whole(context)?;
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Pending if self.is_over(context) => Poll::Ready(Ok(())),
            read => read,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_whole(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.is_whole(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_whole(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        sync::Semaphore,
    };

    use super::*;
    use crate::farewell::Cut;

    #[tokio::test]
    async fn a_cut_ends_what_waits_to_read_and_what_waits_to_write() {
        let places = Arc::new(Semaphore::new(2));
        let (peers, _others): (Vec<_>, Vec<_>) = [0, 1]
            .map(|_| {
                let (ours, theirs) = duplex(1);
                let place = Arc::clone(&places).try_acquire_owned().unwrap();
                (Connection::new(ours, Peer::of_socket(), Place::of_all(place)), theirs)
            })
            .into_iter()
            .unzip();
        let cuts: Vec<_> = peers.iter().map(|connection| connection.line.peer.cut().clone()).collect();
        let [mut reading, mut writing] = peers.try_into().unwrap_or_else(|_| unreachable!("there are two"));
        let reading = tokio::spawn(async move { reading.read_u8().await.unwrap_err().kind() });
        let writing = tokio::spawn(async move { writing.write_all(b"two").await.unwrap_err().kind() });
        tokio::task::yield_now().await;
        cuts.iter().for_each(Cut::make);
        for ended in [reading, writing] {
            assert_eq!(ended.await.unwrap(), io::ErrorKind::ConnectionAborted);
        }
        assert_eq!(places.available_permits(), 2);
    }
}
