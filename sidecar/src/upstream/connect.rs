//! Dialling: TCP, and TLS on top: mutual where the endpoint has a sidecar, as policy says where it has none.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::{AlertDescription, ClientConfig};
use rustls_pki_types::ServerName;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    error::{Failure, Reason},
    http::io::{Gathered, Liveness, Stream},
    telemetry::{Direction, HandshakeFailure, OpenConnection, Peer, Security, Telemetry},
    tls::{Offer, VerifyPeer},
};

/// A stream of whatever kind.
pub type BoxStream = Box<dyn Stream>;

/// A connection. It counts as open until the second value is dropped.
pub(super) type Connected = (BoxStream, OpenConnection);

/// Where to dial.
pub(super) struct Dial {
    pub(super) address: SocketAddr,
    /// The connection, where it is there already.
    pub(super) made: Option<Connected>,
    pub(super) secured: Option<Secured>,
    pub(super) liveness: Liveness,
    /// Whether many requests share the connection: HTTP/2.
    pub(super) shared: bool,
    /// Inbound: to our application.
    pub(super) direction: Direction,
    pub(super) telemetry: Rc<Telemetry>,
}

/// How a connection is secured.
pub(super) struct Secured {
    pub(super) config: Arc<ClientConfig>,
    pub(super) server_name: ServerName<'static>,
    /// What an endpoint without a sidecar is offered.
    pub(super) offer: Option<Offer>,
}

/// Makes a connection within the time.
pub(super) async fn dial(dial: Dial, timeout: Duration) -> Result<Connected, Failure> {
    negotiate(dial, timeout).await.map(|(connected, _)| connected)
}

/// The same, and whether the endpoint chose HTTP/2 by ALPN.
pub(super) async fn negotiate(mut dial: Dial, timeout: Duration) -> Result<(Connected, bool), Failure> {
    if let Some(connected) = dial.made.take() {
        return Ok((connected, dial.shared));
    }
    let address = dial.address;
    let deadline = Instant::now() + timeout;
    let late = || Failure::before(Reason::ConnectTimeout).detail(format_args!("{address} after {timeout:?}"));
    let connecting = timeout_at(deadline, TcpStream::connect(address)).await.map_err(|_| late())?;
    let stream = connecting
        .map_err(|e| Failure::before(Reason::ConnectFailed).detail(format_args!("{address}: {e}")))?;
    // Without it small writes wait for the peer's acknowledgement; failing to set it only costs time.
    stream.set_nodelay(true).ok();
    if dial.shared {
        dial.liveness.watch_shared(&stream)
    } else {
        dial.liveness.watch(&stream)
    }
    let open = |security| dial.telemetry.connection_opened(dial.direction, Peer::Upstream, security);
    let Some(Secured { config, server_name, offer }) = dial.secured else {
        return Ok(((Box::new(Gathered(stream)), open(Security::Plain)), false));
    };
    let handshake = timeout_at(deadline, TlsConnector::from(config).connect(server_name, stream)).await;
    let done = match handshake {
        Ok(done) => done.and_then(|stream| agreed(stream, offer)),
        Err(_) => {
            dial.telemetry.tls_handshake(Peer::Upstream, Err(HandshakeFailure::Timeout));
            return Err(late());
        }
    };
    let (counted, reason) = match &done {
        Ok(_) => (Ok(()), Reason::TlsFailed),
        Err(error) if VerifyPeer::refused(error) => {
            (Err(HandshakeFailure::WrongIdentity), Reason::IdentityMismatch)
        }
        Err(error) => (Err(HandshakeFailure::of_io(error)), Reason::TlsFailed),
    };
    dial.telemetry.tls_handshake(Peer::Upstream, counted);
    let stream = done.map_err(|e| Failure::before(reason).detail(format_args!("{address}: {e}")))?;
    let http2 = chose_http2(&stream);
    let security = if offer.is_some() { Security::Tls } else { Security::MutualTls };
    Ok(((Box::new(Sealed { stream, refused: None }), open(security)), http2))
}

fn chose_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}

/// Over TLS, HTTP/2 is spoken only with who agreed to it (RFC 9113 section 3.2).
fn agreed(stream: TlsStream<TcpStream>, offer: Option<Offer>) -> io::Result<TlsStream<TcpStream>> {
    if offer == Some(Offer::Http2) && !chose_http2(&stream) {
        return Err(io::Error::other(rustls::Error::NoApplicationProtocol));
    }
    Ok(stream)
}

/// A TLS stream whose reader is told by [`io::ErrorKind::PermissionDenied`] that the peer refused our certificate. In TLS 1.3
/// that comes after the handshake, as an alert in the answer's place; what the libraries above keep of an error is its kind.
struct Sealed {
    stream: TlsStream<TcpStream>,
    refused: Option<io::Error>,
}

impl Sealed {
    /// A write failed. If the peer said before why it closed, its alert may still be unread. Then the reader is told, and the
    /// write counts as done: what a library keeps of a failed write is only that it failed. The alert is read straight from
    /// the socket, because the runtime may not have heard yet that there is something to read.
    fn said_before(&mut self, cx: &Context<'_>, error: io::Error) -> io::Result<()> {
        let (socket, session) = self.stream.get_mut();
        let socket = SockRef::from(&*socket);
        let said = session.read_tls(&mut &*socket).ok().and_then(|_| session.process_new_packets().err());
        let said = said.map(|said| refusal(io::Error::new(io::ErrorKind::InvalidData, said)));
        self.refused = said.filter(|said| said.kind() == io::ErrorKind::PermissionDenied);
        if self.refused.is_none() {
            return Err(error);
        }
        cx.waker().wake_by_ref();
        Ok(())
    }
}

impl AsyncRead for Sealed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(refused) = self.refused.take() {
            return Poll::Ready(Err(refused));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf).map_err(refusal)
    }
}

impl AsyncWrite for Sealed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, buf) {
            Poll::Ready(Err(error)) => Poll::Ready(self.said_before(cx, error).map(|()| buf.len())),
            written => written,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(self.said_before(cx, error)),
            flushed => flushed,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(cx, bufs) {
            Poll::Ready(Err(error)) => {
                let all = bufs.iter().map(|buf| buf.len()).sum();
                Poll::Ready(self.said_before(cx, error).map(|()| all))
            }
            written => written,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Stream for Sealed {
    fn break_off(&self) {
        self.stream.break_off();
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
