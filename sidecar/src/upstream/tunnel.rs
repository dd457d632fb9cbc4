//! An opaque connection that counts as open until it is dropped.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    Upstream,
    connect::{self, BoxStream},
    target::Target,
    way::{Circuit, Way},
};
use crate::{
    config::snapshot::state::Counted, error::Failure, http::io::Stream, telemetry::OpenConnection,
    tls::Carried,
};

impl Upstream {
    /// Opens a stream for opaque bytes. It counts among the service's connections while it lives.
    pub async fn tunnel(&self, target: &Target<'_>, circuit: Option<&Circuit>) -> Result<BoxStream, Failure> {
        let waits_for = Cell::default();
        let way = Way::new(self, target, circuit, &waits_for);
        let counted = way.count_connection(false)?;
        let dial = self.dial(target, Carried::Tcp)?;
        let (stream, open) = Box::pin(connect::dial(dial, self.limits.connect_timeout)).await?;
        Ok(Box::new(Tunnel { stream, _counted: counted, _open: open }))
    }
}

struct Tunnel {
    stream: BoxStream,
    _counted: Option<Counted>,
    _open: OpenConnection,
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Stream for Tunnel {
    fn break_off(&self) {
        self.stream.break_off();
    }
}
