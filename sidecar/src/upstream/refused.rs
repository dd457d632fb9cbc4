//! What a peer says that refuses our certificate. In TLS 1.3 that comes after the handshake, as an alert in the answer's
//! place.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use rustls::AlertDescription;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::http::io::{Hook, Hooked};

/// Has a TLS stream's reader told by [`io::ErrorKind::PermissionDenied`] that the peer refused our certificate: what the
/// libraries above keep of an error is its kind.
pub(super) struct Refused(Option<io::Error>);

impl Refused {
    pub(super) const fn told_on(stream: TlsStream<TcpStream>) -> Hooked<TlsStream<TcpStream>, Self> {
        Hooked::new(stream, Self(None))
    }

    /// A write failed. If the peer said before why it closed, its alert may still be unread. Then the reader is told, and the
    /// write counts as done: what a library keeps of a failed write is only that it failed. The alert is read straight from
    /// the socket, because the runtime may not have heard yet that there is something to read.
    fn said_before(
        &mut self,
        stream: &mut TlsStream<TcpStream>,
        cx: &Context<'_>,
        error: io::Error,
    ) -> io::Result<()> {
        let (socket, session) = stream.get_mut();
        let socket = SockRef::from(&*socket);
        let said = session.read_tls(&mut &*socket).ok().and_then(|_| session.process_new_packets().err());
        let said = said.map(|said| refusal(io::Error::new(io::ErrorKind::InvalidData, said)));
        self.0 = said.filter(|said| said.kind() == io::ErrorKind::PermissionDenied);
        if self.0.is_none() {
            return Err(error);
        }
        cx.waker().wake_by_ref();
        Ok(())
    }
}

impl Hook<TlsStream<TcpStream>> for Refused {
    fn poll_read(
        &mut self,
        stream: Pin<&mut TlsStream<TcpStream>>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(refused) = self.0.take() {
            return Poll::Ready(Err(refused));
        }
        stream.poll_read(cx, buf).map_err(refusal)
    }

    fn poll_write(
        &mut self,
        mut stream: Pin<&mut TlsStream<TcpStream>>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match stream.as_mut().poll_write(cx, buf) {
            Poll::Ready(Err(error)) => {
                Poll::Ready(self.said_before(stream.get_mut(), cx, error).map(|()| buf.len()))
            }
            written => written,
        }
    }

    fn poll_write_vectored(
        &mut self,
        mut stream: Pin<&mut TlsStream<TcpStream>>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match stream.as_mut().poll_write_vectored(cx, bufs) {
            Poll::Ready(Err(error)) => {
                let all = bufs.iter().map(|buf| buf.len()).sum();
                Poll::Ready(self.said_before(stream.get_mut(), cx, error).map(|()| all))
            }
            written => written,
        }
    }

    fn poll_flush(
        &mut self,
        mut stream: Pin<&mut TlsStream<TcpStream>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        match stream.as_mut().poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(self.said_before(stream.get_mut(), cx, error)),
            flushed => flushed,
        }
    }
}

fn refusal(error: io::Error) -> io::Error {
    use AlertDescription as Alert;
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::AlertReceived(
            alert @ (Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied),
        )) => {
            let what = format!("the endpoint refused our certificate: {alert:?}");
            io::Error::new(io::ErrorKind::PermissionDenied, what)
        }
        _ => error,
    }
}
