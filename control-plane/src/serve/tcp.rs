//! The port for sidecars: TLS, handshakes side by side so that a slow one holds nobody up.

use std::{io, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
    time,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::Connection;
use crate::{peer::Peer, telemetry::Metrics};

/// Until it is tried again when there are no file descriptors left.
const AGAIN: Duration = Duration::from_millis(100);

/// The connections that finish their handshake, until the receiver is dropped. At most `most` are open; further ones wait.
pub(crate) fn accept(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    most: usize,
    handshake: Duration,
    metrics: Arc<Metrics>,
) -> mpsc::Receiver<io::Result<Connection<TlsStream<TcpStream>>>> {
    let (sender, connections) = mpsc::channel(16);
    let places = Arc::new(Semaphore::new(most));
    tokio::spawn(async move {
        while let Some((stream, address, place)) = next(&listener, &places, &sender).await {
            let (sender, metrics) = (sender.clone(), Arc::clone(&metrics));
            let acceptor = TlsAcceptor::from(Arc::clone(&tls.borrow()));
            tokio::spawn(async move {
                stream.set_nodelay(true).ok();
                match time::timeout(handshake, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let peer = Peer::of(address, stream.get_ref().1);
                        // Nobody takes it any more: we are about to end.
                        sender.send(Ok(Connection::new(stream, peer, place))).await.ok();
                    }
                    Ok(Err(error)) => {
                        metrics.handshake_failed();
                        tracing::debug!(%address, %error, "a TLS handshake failed");
                    }
                    Err(_) => {
                        metrics.handshake_failed();
                        tracing::debug!(%address, "a TLS handshake took too long");
                    }
                }
            });
        }
    });
    connections
}

type Next = (TcpStream, std::net::SocketAddr, tokio::sync::OwnedSemaphorePermit);

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
