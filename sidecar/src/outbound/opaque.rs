//! Opaque bytes to whoever is meant: a service's endpoint, or an address that policy does not know.

use std::{rc::Rc, sync::Arc};

use bytes::BytesMut;
use tokio::io::AsyncReadExt;

use super::{Connection, Meant, attempts::target_of, verdict::Verdict};
use crate::{
    balance::Attempts as Tried,
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
            to_endpoint(worker, None, &direct.endpoint, exchange).await
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
    let mut tried = Tried::default();
    let mut last = None;
    for made in 1..=ATTEMPTS {
        tried.last_chance = made == ATTEMPTS;
        let choice = match worker.loads.borrow_mut().pick(cluster, &tried, worker.now(), worker.draw()) {
            Ok(choice) => choice,
            Err(reason) => return Err(last.unwrap_or_else(|| Failure::before(reason))),
        };
        exchange.record().attempts = made;
        match to_endpoint(worker, Some(cluster), &choice.endpoint, exchange).await {
            Ok(stream) => return Ok(stream),
            // No endpoint's doing.
            Err(failure) if failure.reason == Reason::CircuitOpen => return Err(failure),
            Err(failure) => last = Some(failure),
        }
        tried.failed(&choice, true);
    }
    Err(last.unwrap_or_else(|| Failure::before(Reason::NoEndpoint)))
}

/// `cluster`: whose choice the endpoint was, if it was anybody's.
async fn to_endpoint(
    worker: &Rc<Worker>,
    cluster: Option<&Cluster>,
    endpoint: &Arc<Endpoint>,
    exchange: &mut Exchange,
) -> Result<BoxStream, Failure> {
    let target = target_of(endpoint, http::Version::HTTP_11);
    let circuit = cluster.map(|c| Circuit { limits: c.circuit, state: Arc::clone(&c.state) });
    let began = exchange.attempt(endpoint, target.address);
    exchange.record().upstream_protocol = Some(Protocol::Tcp);
    let dialled = worker.upstream.tunnel(&target, circuit.as_ref()).await;
    let verdict = dialled.as_ref().map_or_else(Verdict::of_failure, |_| Verdict::Good);
    verdict.note(worker, cluster, endpoint, began);
    dialled
}
