//! The outbound story: from our application to whoever it calls.
//!
//! A connection is accepted (captured, or on an explicit listener), its protocol is told, and each of its requests goes
//! through the same steps in [`request`]; what is not HTTP is carried by [`opaque`].

mod attempts;
mod opaque;
pub(crate) mod plan;
mod request;
mod source;
mod verdict;

#[cfg(test)]
pub(crate) mod tests;

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use self::opaque::ServerFirst;
use crate::{
    accept::original_dst::original_dst,
    config::snapshot::{AppProtocol, Destination},
    drain::Stage,
    error::{Failure, Reason},
    exchange::Exchange,
    filter::Admitted,
    http::{
        detect::{Told, conclude, detect_within},
        ending::Ending,
        h2::Writes,
        io::{Gather, Prefix, Stream},
    },
    telemetry::{Direction, External, HandshakeFailure, Peer, Security},
    worker::{Served, Worker},
};

/// How a connection says whom it means.
#[derive(Clone, Debug)]
pub enum Meant {
    /// Captured: the original destination, whatever its requests say.
    Address(SocketAddr),
    /// An explicit listener: each request's authority.
    Authority,
    /// An explicit listener for one port of a service.
    Service(Arc<str>, u16),
}

/// One downstream connection.
pub struct Connection {
    worker: Rc<Worker>,
    meant: Meant,
    downstream: SocketAddr,
    admitted: Admitted,
    ending: Ending,
}

impl Served for Connection {
    fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    fn unserved(&self, failure: &Failure, told: usize) {
        let snapshot = self.worker.snapshot();
        let exchange = Exchange::begin(&self.worker, Direction::Outbound, &snapshot, self.downstream);
        exchange.unserved(failure, told);
    }
}

/// A captured connection: where did it want to go?
pub async fn captured(worker: Rc<Worker>, stream: TcpStream, peer: SocketAddr) {
    let (Ok(local), original) = (stream.local_addr(), original_dst(&stream)) else { return };
    match original {
        // Not redirected, or meant for ourselves: to carry it on would bring it back here.
        Ok(None) => refuse_loop(&worker, peer, local),
        Ok(Some(original)) if worker.is_own(original, local) => refuse_loop(&worker, peer, original),
        Ok(Some(original)) => match protocol_at(&worker, original) {
            Ok(protocol) => {
                serve(worker, Gather::on(stream), peer, Meant::Address(original), protocol, Security::Plain)
                    .await
            }
            Err(failure) => Exchange::refuse(&worker, Direction::Outbound, peer, &failure),
        },
        Err(error) => {
            tracing::warn!(%error, %peer, "the original destination of a connection is unknown; closed")
        }
    }
}

fn refuse_loop(worker: &Rc<Worker>, peer: SocketAddr, own: SocketAddr) {
    worker.telemetry.loop_refused(Direction::Outbound);
    Exchange::refuse(worker, Direction::Outbound, peer, &Failure::before(Reason::LoopDetected).detail(own));
}

/// A connection on an explicit listener.
pub async fn explicit(
    worker: Rc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    meant: Meant,
    protocol: AppProtocol,
    tls: Option<Arc<rustls::ServerConfig>>,
) {
    let Some(tls) = tls else {
        return serve(worker, Gather::on(stream), peer, meant, protocol, Security::Plain).await;
    };
    let accepting = TlsAcceptor::from(tls).accept(stream);
    let failure = match tokio::time::timeout(worker.settings.handshake_timeout, accepting).await {
        Ok(Ok(stream)) => {
            worker.telemetry.tls_handshake(Peer::Downstream, Ok(()));
            // Boxed: a TLS stream is large, and every layer above it would have room for it.
            let stream = Box::new(stream);
            return Box::pin(serve(worker, stream, peer, meant, protocol, Security::Tls)).await;
        }
        Ok(Err(error)) => HandshakeFailure::of_io(&error),
        Err(_) => HandshakeFailure::Timeout,
    };
    worker.telemetry.tls_handshake(Peer::Downstream, Err(failure));
}

/// A connection whose meaning is known: HTTP or not?
async fn serve(
    worker: Rc<Worker>,
    mut stream: impl Stream,
    downstream: SocketAddr,
    meant: Meant,
    protocol: AppProtocol,
    security: Security,
) {
    let _open = worker.telemetry.connection_opened(Direction::Outbound, Peer::Downstream, security);
    let connection = Rc::new(Connection {
        worker,
        meant,
        downstream,
        admitted: Admitted::default(),
        ending: Ending::default(),
    });
    let (mut read, limits) = (BytesMut::new(), &connection.worker.settings.http);
    let detected = match protocol {
        AppProtocol::Tcp => return Box::pin(opaque::carry(&connection, stream, None)).await,
        AppProtocol::Auto => tokio::select! {
            biased;
            detected = detect_within(limits, &mut stream, &mut read) => detected,
            spoke = Box::pin(ServerFirst::listen(&connection)) => {
                let stream = Prefix::on(stream, read.freeze());
                return Box::pin(opaque::carry(&connection, stream, Some(spoke))).await;
            }
            () = connection.worker.silence_ends() => return,
        },
        AppProtocol::Http1 | AppProtocol::Http2 | AppProtocol::Grpc => {
            detect_within(limits, &mut stream, &mut read).await
        }
    };
    let told = conclude(detected, read.len(), protocol == AppProtocol::Auto);
    let stream = Prefix::on(stream, read.freeze());
    let writes = if security == Security::Plain { Writes::Gathered } else { Writes::AtOnce };
    match told {
        Told::Http1 => Worker::serve_http1(connection, stream, Stage::All).await,
        Told::Http2 => Worker::serve_http2(connection, stream, writes, Stage::All).await,
        Told::Opaque => Box::pin(opaque::carry(&connection, stream, None)).await,
        Told::Gone => {}
    }
}

/// What is spoken at a captured destination, as far as policy says; an error if it may not be reached.
fn protocol_at(worker: &Worker, address: SocketAddr) -> Result<AppProtocol, Failure> {
    let snapshot = worker.snapshot();
    let destination = snapshot.destinations.of_address(address);
    if let Destination::Pending(service) = &destination {
        return Err(Failure::before(Reason::ServicePending).detail(service));
    }
    let protocol = plan::protocol(&destination);
    if !matches!(destination, Destination::External) {
        return Ok(worker.as_known(address, protocol));
    }
    let allowed = plan::external(&snapshot, address);
    worker.telemetry.external(match &allowed {
        Err(_) => External::Refused,
        Ok(()) if snapshot.revision.number == 0 => External::Pending,
        Ok(()) => External::Passed,
    });
    allowed.map(|()| protocol)
}
