//! Dialling: TCP, and mutual TLS on top where the endpoint has a sidecar.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    error::{Failure, Reason},
    http::io::{Gathered, Stream},
    tls::VerifyIdentity,
};

/// A stream of whatever kind.
pub type BoxStream = Box<dyn Stream>;

/// Where to dial.
pub(super) struct Dial {
    pub(super) address: SocketAddr,
    pub(super) secured: Option<Secured>,
}

/// How a connection is secured.
pub(super) struct Secured {
    pub(super) config: Arc<ClientConfig>,
    pub(super) server_name: ServerName<'static>,
}

/// Makes a connection within the time.
pub(super) async fn dial(dial: Dial, timeout: Duration) -> Result<BoxStream, Failure> {
    let address = dial.address;
    tokio::time::timeout(timeout, connect(dial)).await.unwrap_or_else(|_| {
        Err(Failure::before(Reason::ConnectTimeout).detail(format_args!("{address} after {timeout:?}")))
    })
}

async fn connect(dial: Dial) -> Result<BoxStream, Failure> {
    let stream = TcpStream::connect(dial.address)
        .await
        .map_err(|e| Failure::before(Reason::ConnectFailed).detail(format_args!("{}: {e}", dial.address)))?;
    // Without it small writes wait for the peer's acknowledgement; failing to set it only costs time.
    stream.set_nodelay(true).ok();
    let Some(secured) = dial.secured else {
        return Ok(Box::new(Gathered(stream)));
    };
    let connector = TlsConnector::from(secured.config);
    match connector.connect(secured.server_name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => {
            let wrong = VerifyIdentity::refused(&error);
            let reason = if wrong { Reason::IdentityMismatch } else { Reason::TlsFailed };
            Err(Failure::before(reason).detail(format_args!("{}: {error}", dial.address)))
        }
    }
}
