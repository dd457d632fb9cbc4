//! The port for sidecars: TLS, handshakes side by side so that a slow one holds nobody up.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{Connection, door::Door};
use crate::{
    config::{Limits, Timeouts},
    peer::Peer,
    telemetry::Metrics,
};

/// Until it is tried again when there are no file descriptors left.
const AGAIN: Duration = Duration::from_millis(100);

/// The connections that finish their handshake, until the receiver is dropped. There is a limit of all, beyond which they
/// wait, and of those of each peer, beyond which they are closed.
pub(crate) fn accept(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    limits: &Limits,
    timeouts: &Timeouts,
    metrics: Arc<Metrics>,
) -> mpsc::Receiver<io::Result<Connection<TlsStream<TcpStream>>>> {
    let (sender, connections) = mpsc::channel(16);
    let places = Arc::new(Semaphore::new(limits.connections as usize));
    let door = Arc::new(Door::new(limits, Arc::clone(&metrics)));
    let (handshake, idle) = (timeouts.tls_handshake, timeouts.idle);
    tokio::spawn(async move {
        while let Some((stream, address, place)) = next(&listener, &places, &sender).await {
            let Some(stranger) = door.stranger(address.ip(), place) else { continue };
            let (sender, metrics, door) = (sender.clone(), Arc::clone(&metrics), Arc::clone(&door));
            let acceptor = TlsAcceptor::from(Arc::clone(&tls.borrow()));
            tokio::spawn(async move {
                stream.set_nodelay(true).ok();
                let accepted = time::timeout(handshake, acceptor.accept(stream)).await;
                let Some(stream) = shaken(accepted, address, &metrics) else { return };
                let peer = Peer::of(address, stream.get_ref().1);
                let Some(place) = door.known(stranger, &peer) else { return };
                let connection = Connection::new(stream, peer, place).ending_idle(idle, metrics);
                // Nobody takes it any more: we are about to end.
                sender.send(Ok(connection)).await.ok();
            });
        }
    });
    connections
}

type Accepted = Result<io::Result<TlsStream<TcpStream>>, time::error::Elapsed>;

/// A handshake that is done.
fn shaken(accepted: Accepted, address: SocketAddr, metrics: &Metrics) -> Option<TlsStream<TcpStream>> {
    match accepted {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => tracing::debug!(%address, %error, "a TLS handshake failed"),
        Err(_) => tracing::debug!(%address, "a TLS handshake took too long"),
    }
    metrics.handshake_failed();
    None
}

type Next = (TcpStream, SocketAddr, OwnedSemaphorePermit);

async fn next<T>(listener: &TcpListener, places: &Arc<Semaphore>, sender: &mpsc::Sender<T>) -> Option<Next> {
    loop {
        let accepted = async {
            let place = Arc::clone(places).acquire_owned().await.ok()?;
            Some((listener.accept().await, place))
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted?,
            () = sender.closed() => return None,
        };
        match accepted {
            Ok((stream, address)) => return Some((stream, address, place)),
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                time::sleep(AGAIN).await;
            }
        }
    }
}
