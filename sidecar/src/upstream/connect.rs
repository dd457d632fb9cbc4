//! Dialling: TCP, and mutual TLS on top where the endpoint has a sidecar.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;

use crate::{
    error::{Failure, Reason},
    http::io::{Gathered, Liveness, Stream},
    telemetry::{Direction, HandshakeFailure, OpenConnection, Peer, Security, Telemetry},
    tls::VerifyIdentity,
};

/// A stream of whatever kind.
pub type BoxStream = Box<dyn Stream>;

/// Where to dial.
pub(super) struct Dial {
    pub(super) address: SocketAddr,
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
}

/// Makes a connection within the time. It counts as open until the second value is dropped.
pub(super) async fn dial(dial: Dial, timeout: Duration) -> Result<(BoxStream, OpenConnection), Failure> {
    let Dial { address, .. } = dial;
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
    let Some(secured) = dial.secured else {
        return Ok((Box::new(Gathered(stream)), open(Security::Plain)));
    };
    let connector = TlsConnector::from(secured.config);
    let handshake = timeout_at(deadline, connector.connect(secured.server_name, stream)).await;
    let counted = match &handshake {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(HandshakeFailure::of_io(error)),
        Err(_) => Err(HandshakeFailure::Timeout),
    };
    dial.telemetry.tls_handshake(Peer::Upstream, counted);
    match handshake.map_err(|_| late())? {
        Ok(stream) => Ok((Box::new(stream), open(Security::MutualTls))),
        Err(error) => {
            let wrong = VerifyIdentity::refused(&error);
            let reason = if wrong { Reason::IdentityMismatch } else { Reason::TlsFailed };
            Err(Failure::before(reason).detail(format_args!("{address}: {error}")))
        }
    }
}
