//! The inbound story: from other sidecars, or plain callers, to our application.
//!
//! Meshed or plain is told by the port that a connection came in on, never by sniffing: on the mesh port everything is
//! mutual TLS, and plain traffic never arrives there.

mod authorize;
mod opaque;
mod request;

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use bytes::BytesMut;
use http::HeaderValue;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    accept::original_dst::{canonical, original_dst},
    authz,
    config::snapshot::{AppProtocol, Destination, Snapshot, SpiffeId},
    drain::Stage,
    error::{Failure, Reason},
    exchange::Exchange,
    filter::Admitted,
    http::{
        detect::{Told, conclude, detect_within},
        ending::Ending,
        fields,
        h2::Writes,
        io::{Gather, Prefix, Stream},
    },
    telemetry::{Direction, HandshakeFailure, Peer, Security},
    tls::{Carried, MeshPeer, MeshTarget},
    worker::{Served, Worker},
};

/// One downstream connection and the application's port that it means.
pub struct Connection {
    worker: Rc<Worker>,
    /// The caller, if it proved who it is.
    peer: Option<SpiffeId>,
    /// The same, as the application is told.
    caller: Option<HeaderValue>,
    downstream: SocketAddr,
    /// Where the application listens.
    application: SocketAddr,
    /// The service that the caller meant.
    service: Arc<str>,
    /// Whose filters have let it through.
    admitted: Admitted,
    /// What the application speaks, as far as policy says.
    protocol: AppProtocol,
    ending: Ending,
}

/// A connection on the mesh port: who is it, and whom does it mean?
pub async fn mesh(worker: Rc<Worker>, stream: TcpStream, downstream: SocketAddr) {
    let Ok(local) = stream.local_addr() else { return };
    let _open = worker.telemetry.connection_opened(Direction::Inbound, Peer::Downstream, Security::MutualTls);
    let (mut stream, peer) = match Box::pin(handshake(&worker, stream)).await {
        Ok(accepted) => accepted,
        Err(failure) => {
            tracing::debug!(%downstream, reason = failure.name(), "a mesh handshake was refused");
            return worker.telemetry.tls_handshake(Peer::Downstream, Err(failure));
        }
    };
    worker.telemetry.tls_handshake(Peer::Downstream, Ok(()));
    let MeshPeer { id, target, carried } = peer;
    match Connection::meshed(&worker, id, target, local, downstream) {
        Ok(connection) => {
            let connection = Rc::new(connection);
            match carried {
                Carried::Http2 => {
                    Worker::serve_http2(connection, stream, Writes::AtOnce, Stage::Inbound).await
                }
                Carried::Tcp => Box::pin(opaque::carry(&connection, stream)).await,
            }
        }
        Err(failure) => refuse(&worker, &mut stream, carried, downstream, &failure).await,
    }
}

/// Closes a mesh connection unserved. HTTP has no words for it that concern no request.
async fn refuse(
    worker: &Rc<Worker>,
    stream: &mut impl Stream,
    carried: Carried,
    downstream: SocketAddr,
    failure: &Failure,
) {
    Exchange::refuse(worker, Direction::Inbound, downstream, failure);
    if carried == Carried::Tcp {
        opaque::tell(stream, Some(failure)).await;
    }
}

async fn handshake(
    worker: &Worker,
    stream: TcpStream,
) -> Result<(Box<TlsStream<TcpStream>>, MeshPeer), HandshakeFailure> {
    let identity = worker.shared.certificates.identity.load_full().ok_or(HandshakeFailure::NoIdentity)?;
    let accepting = TlsAcceptor::from(Arc::clone(&identity.server)).accept(stream);
    let accepted = tokio::time::timeout(worker.settings.handshake_timeout, accepting).await;
    let stream = accepted.map_err(|_| HandshakeFailure::Timeout)?.map_err(|e| HandshakeFailure::of_io(&e))?;
    let peer = MeshPeer::of(stream.get_ref().1).ok_or(HandshakeFailure::WrongIdentity)?;
    if !worker.trusts(&peer.id) {
        return Err(HandshakeFailure::WrongIdentity);
    }
    // Boxed: a TLS stream is large, and every layer above it would have room for it.
    Ok((Box::new(stream), peer))
}

/// A captured plain connection: may it be, and where did it want to go?
pub async fn captured(worker: Rc<Worker>, stream: TcpStream, downstream: SocketAddr) {
    let (Ok(local), original) = (stream.local_addr(), original_dst(&stream)) else { return };
    let original = match original {
        Ok(Some(original)) => original,
        Ok(None) => {
            worker.telemetry.loop_refused(Direction::Inbound);
            let failure = Failure::before(Reason::LoopDetected).detail(local);
            return Exchange::refuse(&worker, Direction::Inbound, downstream, &failure);
        }
        Err(error) => {
            return tracing::warn!(%error, %downstream, "the original destination of a connection is unknown; closed");
        }
    };
    let _open = worker.telemetry.connection_opened(Direction::Inbound, Peer::Downstream, Security::Plain);
    match Connection::plain(&worker, original, local, downstream) {
        Ok(connection) => plain(Rc::new(connection), stream).await,
        Err(failure) => Exchange::refuse(&worker, Direction::Inbound, downstream, &failure),
    }
}

impl Served for Connection {
    fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    fn is_meshed(&self) -> bool {
        self.peer.is_some()
    }

    fn unserved(&self, failure: &Failure, told: usize) {
        let snapshot = self.worker.snapshot();
        let mut exchange = Exchange::begin(&self.worker, Direction::Inbound, &snapshot, self.downstream);
        self.describe(&mut exchange);
        exchange.unserved(failure, told);
    }
}

impl Connection {
    /// Of a caller who has proved to be this one, to the port that he names.
    fn meshed(
        worker: &Rc<Worker>,
        peer: SpiffeId,
        target: Option<MeshTarget>,
        local: SocketAddr,
        downstream: SocketAddr,
    ) -> Result<Self, Failure> {
        let Some(MeshTarget { port, service }) = target else {
            return Err(Failure::before(Reason::PortRefused).detail("the SNI names none"));
        };
        let service = service.unwrap_or_else(|| Arc::clone(&worker.settings.service));
        let mut meant = canonical(local);
        meant.set_port(port);
        let connection = Self::to(worker, meant, downstream, service)?;
        let caller = connection.told(&peer);
        Ok(Self { peer: Some(peer), caller, ..connection })
    }

    /// Of nobody who has proved who he is, to the address that was captured. May it be?
    fn plain(
        worker: &Rc<Worker>,
        original: SocketAddr,
        local: SocketAddr,
        downstream: SocketAddr,
    ) -> Result<Self, Failure> {
        let snapshot = worker.snapshot();
        authz::plain_passes(&snapshot, original.port())?;
        if !worker.own_addresses.serves(original.ip(), local.ip().to_canonical()) {
            let refused = Failure::before(Reason::PortRefused);
            return Err(refused.detail(format_args!("address {}", original.ip())));
        }
        let service = match snapshot.destinations.of_address(original) {
            Destination::Direct(direct) => direct.owner.map(|owner| Arc::clone(&owner.service.label)),
            _ => None,
        };
        let service = service.unwrap_or_else(|| Arc::clone(&worker.settings.service));
        // Not at the local address: capture puts the pod's first one there, and the pod may have several.
        Self::to(worker, original, downstream, service)
    }

    /// Finds the application behind a port of this pod.
    fn to(
        worker: &Rc<Worker>,
        meant: SocketAddr,
        downstream: SocketAddr,
        service: Arc<str>,
    ) -> Result<Self, Failure> {
        let application = worker.settings.gate.application(meant)?;
        let protocol = worker.snapshot().destinations.of_address(application).spoken_here();
        let protocol = worker.as_known(application, protocol);
        Ok(Self {
            worker: Rc::clone(worker),
            peer: None,
            caller: None,
            downstream,
            application,
            service,
            admitted: Admitted::default(),
            protocol,
            ending: Ending::default(),
        })
    }

    /// How the application is told of a caller who has proved who it is. Made once: it is the same for each request.
    fn told(&self, peer: &SpiffeId) -> Option<HeaderValue> {
        let own = self.worker.shared.certificates.identity.load();
        fields::caller_value(own.as_ref()?.id.as_str(), peer.as_str())
    }

    /// Whether policy still lets it be, which it did when the connection came.
    fn may_be(&self, snapshot: &Snapshot) -> Result<(), Failure> {
        if self.peer.is_some() { Ok(()) } else { authz::plain_passes(snapshot, self.application.port()) }
    }
}

/// A plain connection whose target is known: HTTP or not?
async fn plain(connection: Rc<Connection>, stream: TcpStream) {
    let mut stream = Gather::on(stream);
    let (mut read, limits) = (BytesMut::new(), &connection.worker.settings.http);
    let detected = match connection.protocol {
        AppProtocol::Tcp => return Box::pin(opaque::carry(&connection, stream)).await,
        AppProtocol::Auto => tokio::select! {
            biased;
            detected = detect_within(limits, &mut stream, &mut read) => detected,
            spoke = Box::pin(opaque::server_first(&connection)) => {
                let stream = Prefix::on(stream, read.freeze());
                return Box::pin(opaque::carry_on(&connection, stream, spoke)).await;
            }
            () = connection.worker.silence_ends() => return,
        },
        AppProtocol::Http1 | AppProtocol::Http2 | AppProtocol::Grpc => {
            detect_within(limits, &mut stream, &mut read).await
        }
    };
    let told = conclude(detected, read.len(), connection.protocol == AppProtocol::Auto);
    let stream = Prefix::on(stream, read.freeze());
    match told {
        Told::Http1 => Worker::serve_http1(connection, stream, Stage::Inbound).await,
        Told::Http2 => Worker::serve_http2(connection, stream, Writes::Gathered, Stage::Inbound).await,
        Told::Opaque => Box::pin(opaque::carry(&connection, stream)).await,
        Told::Gone => {}
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A connection as it comes: of a caller with this identity on the mesh port, or captured. Else by which name it is
    /// refused.
    pub(crate) fn arrives(
        worker: &Rc<Worker>,
        caller: Option<&SpiffeId>,
        at: SocketAddr,
    ) -> Result<Rc<Connection>, &'static str> {
        let downstream = SocketAddr::from(([127, 0, 0, 1], 4));
        let arrived = match caller {
            Some(id) if !worker.trusts(id) => return Err(HandshakeFailure::WrongIdentity.name()),
            Some(id) => {
                let target = MeshTarget { port: at.port(), service: None };
                Connection::meshed(worker, id.clone(), Some(target), at, downstream)
            }
            None => Connection::plain(worker, at, at, downstream),
        };
        arrived.map(Rc::new).map_err(|failure| failure.reason.name())
    }
}
