//! Opaque bytes to whoever is meant: a service's endpoint, or an address that policy does not know.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use bytes::BytesMut;
use tokio::io::AsyncReadExt;

use super::{
    Connection, Meant,
    plan::{self, OPAQUE_ATTEMPTS, of_connection, target_of},
    verdict::Verdict,
};
use crate::{
    balance::{Attempts as Tried, retry},
    config::snapshot::{Cluster, Destination, Endpoint, Snapshot, SpiffeId, Transport},
    error::{Failure, Reason},
    exchange::{Exchange, Tentative},
    http::io::{Prefix, Stream},
    telemetry::{Direction, Protocol},
    upstream::{BoxStream, Circuit, Leg, Target, Who, relay},
    worker::{Changes, Worker},
};

/// A server that spoke before its client: then it is not HTTP. Or why the connection is closed without its client having
/// spoken.
pub(super) struct ServerFirst {
    stream: Result<BoxStream, Failure>,
    exchange: Exchange,
    /// Of the policy that has let the connection begin.
    changes: Changes,
}

impl ServerFirst {
    /// Waits a moment for the client, then dials; never ready if the server is silent too.
    pub(super) async fn listen(connection: &Connection) -> Self {
        tokio::time::sleep(connection.worker.settings.server_first_after).await;
        // Not told in time is told in the client's protocol, and so when it has spoken.
        known(connection).await;
        // The client may still speak first, and then the connection is HTTP's.
        let (changes, mut begun) = (connection.worker.changes(), Tentative::new(begin(connection)));
        let destination = match admit(connection, begun.exchange()).await {
            Ok(destination) => destination,
            Err(refused) => return Self { stream: Err(refused), exchange: begun.happened(), changes },
        };
        if let Ok(mut stream) = dial(connection, destination, begun.exchange()).await {
            let mut read = BytesMut::new();
            if let Ok(1..) = stream.read_buf(&mut read).await {
                if let Meant::Address(address) = connection.meant {
                    connection.worker.speaks_first(address, &read);
                }
                let stream: BoxStream = Box::new(Prefix::on(stream, read.freeze()));
                return Self { stream: Ok(stream), exchange: begun.happened(), changes };
            }
        }
        drop(begun);
        std::future::pending().await
    }

    /// The client has spoken, or is known not to be waited for.
    async fn at_once(connection: &Connection) -> Self {
        let (changes, mut exchange) = (connection.worker.changes(), begin(connection));
        let stream = match admit(connection, &mut exchange).await {
            Ok(destination) => dial(connection, destination, &mut exchange).await,
            Err(refused) => Err(refused),
        };
        Self { stream, exchange, changes }
    }
}

/// Carries a connection until both sides have closed.
pub(super) async fn carry(connection: &Connection, stream: impl Stream, server: Option<ServerFirst>) {
    let ServerFirst { stream: upstream, mut exchange, changes } = match server {
        Some(server) => server,
        None => ServerFirst::at_once(connection).await,
    };
    match upstream {
        Ok(upstream) => {
            let idle = connection.worker.settings.tcp_idle_timeout;
            let reached = Reached::by(&mut exchange);
            let refused = changes.refused(async || {
                if let Some(reached) = &reached {
                    reached.may_be(&connection.worker.snapshot())?;
                }
                begins_anew(connection).await
            });
            exchange.relayed(&relay(stream, upstream, idle, refused).await);
        }
        Err(failure) => {
            exchange.failed(&failure);
            exchange.abandon();
        }
    }
}

/// Whom a connection has reached, and as whom: `None`, without mutual TLS.
struct Reached {
    address: SocketAddr,
    identity: Option<SpiffeId>,
}

impl Reached {
    fn by(exchange: &mut Exchange) -> Option<Self> {
        match exchange.serving() {
            Some(Endpoint { address, transport: Transport::Mesh(mesh), .. }) => {
                Some(Self { address: *address, identity: Some(mesh.identity.clone()) })
            }
            Some(Endpoint { address, .. }) => Some(Self { address: *address, identity: None }),
            None => exchange.record().upstream.map(|address| Self { address, identity: None }),
        }
    }

    /// An endpoint with a mesh record is reached by mutual TLS as whom the record names, or not at all.
    fn may_be(&self, snapshot: &Snapshot) -> Result<(), Failure> {
        let Some(Transport::Mesh(mesh)) =
            snapshot.destinations.of_endpoint(self.address).map(|e| &e.transport)
        else {
            return Ok(());
        };
        match &self.identity {
            Some(identity) if *identity == mesh.identity => Ok(()),
            Some(_) => Err(Failure::before(Reason::IdentityMismatch).detail(&mesh.identity)),
            None => Err(Failure::before(Reason::PlainRefused).detail(self.address)),
        }
    }
}

fn begin(connection: &Connection) -> Exchange {
    let worker = &connection.worker;
    let mut exchange =
        Exchange::begin(worker, Direction::Outbound, &worker.snapshot(), connection.downstream);
    exchange.record().protocol = Protocol::Tcp;
    exchange
}

/// Whether a connection like this one may begin. To the filters it is one of its own, which ends at once.
async fn begins_anew(connection: &Connection) -> Result<(), Failure> {
    match admit(connection, Tentative::new(begin(connection)).exchange()).await {
        // Nobody has refused it.
        Err(failure) if failure.reason == Reason::ServicePending => Ok(()),
        admitted => admitted.map(drop),
    }
}

/// Who is meant, once policy and its service's filters have let the connection begin.
async fn admit(connection: &Connection, exchange: &mut Exchange) -> Result<Destination, Failure> {
    let worker = &connection.worker;
    let label = |destination: &Destination| destination.service().map(|s| Arc::clone(&s.service.label));
    let mut destination = of_connection(&connection.meant, &worker.snapshot());
    exchange.to_service(label(&destination).as_ref());
    while let Some(service) = destination.service().filter(|service| !service.whole) {
        let later = worker.whole(service).await?;
        destination = of_connection(&connection.meant, &later);
        exchange.to_service(label(&destination).as_ref());
    }
    if let Destination::Pending(service) = &destination {
        return Err(Failure::before(Reason::ServicePending).detail(service));
    }
    let service = destination.service();
    let chain = service.and_then(|service| service.filters.as_ref());
    exchange.admit(chain, None, &connection.admitted).await?;
    if let (Destination::External, Meant::Address(address)) = (&destination, &connection.meant) {
        plan::external(&worker.snapshot(), *address)?;
    }
    Ok(destination)
}

/// Waits until all is known that concerns whoever is meant, for as long as it takes.
async fn known(connection: &Connection) {
    let worker = &connection.worker;
    let mut destination = of_connection(&connection.meant, &worker.snapshot());
    while let Some(service) = destination.service().filter(|service| !service.whole) {
        let later = worker.told(service).await;
        destination = of_connection(&connection.meant, &later);
    }
}

async fn dial(
    connection: &Connection,
    destination: Destination,
    exchange: &mut Exchange,
) -> Result<BoxStream, Failure> {
    let worker = &connection.worker;
    match (destination, &connection.meant) {
        (Destination::Service(service), _) => to_cluster(worker, &service.cluster, exchange).await,
        (Destination::Direct(direct), _) => to_endpoint(worker, None, &direct.endpoint, exchange).await,
        (Destination::Pending(service), _) => Err(Failure::before(Reason::ServicePending).detail(service)),
        (Destination::External, Meant::Address(address)) => {
            exchange.to_external(*address);
            let target = Target { who: Who::External(*address), address: *address, leg: Leg::Http1 };
            worker.upstream.tunnel(&target, None).await
        }
        (Destination::External, _) => {
            Err(Failure::before(worker.snapshot().refusal(Reason::UnknownAuthority)))
        }
    }
}

async fn to_cluster(
    worker: &Rc<Worker>,
    cluster: &Arc<Cluster>,
    exchange: &mut Exchange,
) -> Result<BoxStream, Failure> {
    let mut tried = Tried::default();
    let mut last = None;
    for made in 1..=OPAQUE_ATTEMPTS {
        tried.last_chance = made == OPAQUE_ATTEMPTS;
        let choice = match worker.loads.borrow_mut().pick(cluster, &tried, worker.now(), worker.draw()) {
            Ok(choice) => choice,
            Err(reason) => return Err(last.unwrap_or_else(|| Failure::before(reason))),
        };
        exchange.record().attempts = made;
        match to_endpoint(worker, Some(cluster), &choice.endpoint, exchange).await {
            Ok(stream) => return Ok(stream),
            // No endpoint's doing, or what any other would say as well.
            Err(failure) if !retry::elsewhere_may_help(failure.reason) => return Err(failure),
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
    if dialled.is_ok() {
        exchange.connected();
    }
    let verdict =
        dialled.as_ref().map_or_else(|failure| Verdict::of_failure(failure, true), |_| Verdict::Good);
    verdict.note(worker, cluster, endpoint, began);
    dialled
}
