//! Opaque bytes to whoever is meant: a service's endpoint, or an address that policy does not know.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use bytes::BytesMut;
use tokio::io::AsyncReadExt;

use super::{Connection, Meant, attempts::target_of};
use crate::{
    balance::{Attempts as Tried, Event, outlier},
    config::snapshot::{Cluster, Destination, Endpoint, UnknownDestination},
    error::{Failure, Reason},
    exchange::Exchange,
    http::io::{Prefixed, Stream},
    telemetry::{Direction, Protocol},
    upstream::{BoxStream, Circuit, Leg, Target, Who, relay},
    worker::Worker,
};

/// Connections tried before giving up. Nothing was sent yet, so that each may be tried.
const ATTEMPTS: u32 = 3;

/// A server that spoke before its client: then it is not HTTP.
pub(super) struct ServerFirst {
    stream: BoxStream,
    exchange: Exchange,
}

/// An exchange that has not happened unless it is taken out: the client may still speak first, and then the connection is
/// HTTP's.
struct Pending(Option<Exchange>);

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(exchange) = self.0.take() {
            exchange.forget();
        }
    }
}

impl ServerFirst {
    /// Waits a moment for the client, then dials; never ready if the server is silent too.
    pub(super) async fn listen(connection: &Connection) -> Self {
        tokio::time::sleep(connection.worker.settings.server_first_after).await;
        let mut pending = Pending(Some(begin(connection)));
        let Some(exchange) = &mut pending.0 else { return std::future::pending().await };
        if let Ok(mut stream) = dial(connection, exchange).await {
            let mut read = BytesMut::new();
            if let Ok(1..) = stream.read_buf(&mut read).await {
                if let Meant::Address(address) = connection.meant {
                    connection.worker.speaks_first(address, &read);
                }
                if let Some(exchange) = pending.0.take() {
                    return Self { stream: Box::new(Prefixed::new(read.freeze(), stream)), exchange };
                }
            }
        }
        drop(pending);
        std::future::pending().await
    }
}

/// Carries a connection until both sides have closed.
pub(super) async fn carry(connection: &Connection, stream: impl Stream, server: Option<ServerFirst>) {
    let (upstream, exchange) = match server {
        Some(ServerFirst { stream, exchange }) => (stream, exchange),
        None => {
            let mut exchange = begin(connection);
            match dial(connection, &mut exchange).await {
                Ok(upstream) => (upstream, exchange),
                Err(failure) => {
                    exchange.failed(&failure);
                    return exchange.abandon();
                }
            }
        }
    };
    let idle = connection.worker.settings.tcp_idle_timeout;
    exchange.relayed(&relay(stream, upstream, idle).await);
}

/// Counts and logs a connection that is closed unserved.
pub(super) fn refuse(worker: &Rc<Worker>, downstream: SocketAddr, failure: &Failure) {
    let mut exchange = Exchange::begin(worker, Direction::Outbound, &worker.snapshot(), downstream);
    exchange.record().protocol = Protocol::Tcp;
    exchange.failed(failure);
    exchange.abandon();
}

fn begin(connection: &Connection) -> Exchange {
    let worker = &connection.worker;
    let mut exchange =
        Exchange::begin(worker, Direction::Outbound, &worker.snapshot(), connection.downstream);
    exchange.record().protocol = Protocol::Tcp;
    exchange
}

async fn dial(connection: &Connection, exchange: &mut Exchange) -> Result<BoxStream, Failure> {
    let worker = &connection.worker;
    let snapshot = worker.snapshot();
    let destination = match &connection.meant {
        Meant::Address(address) => snapshot.destinations.of_address(*address),
        Meant::Service(label, port) => {
            let service = snapshot.destinations.of_name(label, *port).cloned();
            service.map_or(Destination::External, Destination::Service)
        }
        Meant::Authority => Destination::External,
    };
    match (destination, &connection.meant) {
        (Destination::Service(service), _) => {
            exchange.to_service(Some(&service.service.label));
            to_cluster(worker, &service.cluster, exchange).await
        }
        (Destination::Direct(direct), _) => {
            exchange.to_service(direct.owner.as_ref().map(|owner| &owner.service.label));
            to_endpoint(worker, &direct.endpoint, None, exchange).await
        }
        (Destination::External, Meant::Address(address)) => {
            if snapshot.mesh.unknown == UnknownDestination::Refuse {
                return Err(Failure::before(snapshot.refusal(Reason::DestinationRefused)).detail(address));
            }
            exchange.to_external(*address);
            let target = Target { who: Who::External(*address), address: *address, leg: Leg::Http1 };
            worker.upstream.tunnel(&target, None).await
        }
        (Destination::External, _) => Err(Failure::before(snapshot.refusal(Reason::UnknownAuthority))),
    }
}

async fn to_cluster(
    worker: &Rc<Worker>,
    cluster: &Arc<Cluster>,
    exchange: &mut Exchange,
) -> Result<BoxStream, Failure> {
    let circuit = Circuit { limits: cluster.circuit, state: Arc::clone(&cluster.state) };
    let mut tried = Tried::default();
    for made in 1.. {
        tried.last_chance = made >= ATTEMPTS;
        let choice = worker.loads.borrow_mut().pick(cluster, &tried, worker.now(), worker.draw());
        let choice = choice.map_err(Failure::before)?;
        exchange.record().attempts = made;
        let began = worker.now();
        let dialled = to_endpoint(worker, &choice.endpoint, Some(&circuit), exchange).await;
        let now = worker.now();
        let after = now.saturating_sub(began);
        match dialled {
            Ok(stream) => {
                worker.loads.borrow_mut().observe(&choice.endpoint, Event::Answered { after }, now);
                outlier::succeeded(&choice.endpoint.health);
                return Ok(stream);
            }
            // No endpoint's doing.
            Err(failure) if failure.reason == Reason::CircuitOpen => return Err(failure),
            Err(failure) => {
                worker.loads.borrow_mut().observe(&choice.endpoint, Event::Failed { after }, now);
                if outlier::counts(&failure) && outlier::failed(cluster, &choice.endpoint, now).is_some() {
                    worker.telemetry.ejected(&cluster.service.label, &choice.endpoint.region);
                }
                if tried.last_chance {
                    return Err(failure);
                }
                tried.failed(&choice, true);
            }
        }
    }
    Err(Failure::before(Reason::NoEndpoint))
}

async fn to_endpoint(
    worker: &Rc<Worker>,
    endpoint: &Arc<Endpoint>,
    circuit: Option<&Circuit>,
    exchange: &mut Exchange,
) -> Result<BoxStream, Failure> {
    let target = target_of(endpoint, http::Version::HTTP_11);
    exchange.attempt(endpoint, target.address, Protocol::Tcp);
    worker.upstream.tunnel(&target, circuit).await
}
