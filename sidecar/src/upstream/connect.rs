//! Dialling: TCP, and TLS on top: mutual where the endpoint has a sidecar, as policy says where it has none.

use std::{io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::refused::Refused;
use crate::{
    error::{Failure, Reason},
    http::io::{Gather, Liveness, Stream},
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
        return Ok(((Box::new(Gather::on(stream)), open(Security::Plain)), false));
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
    let stream = done.map_err(|error| {
        Failure::before(reason).detail(format_args!("{address}: {}", VerifyPeer::explain(&error)))
    })?;
    let http2 = chose_http2(&stream);
    let security = if offer.is_some() { Security::Tls } else { Security::MutualTls };
    Ok(((Box::new(Refused::told_on(stream)), open(security)), http2))
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
