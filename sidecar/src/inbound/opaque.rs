//! Opaque bytes to our application.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Connection;
use crate::{
    error::{Failure, Reason},
    exchange::{Exchange, Tentative},
    http::io::{Prefix, Stream},
    telemetry::{Direction, Protocol},
    tls::Opening,
    upstream::{BoxStream, Leg, Target, Who, relay},
    worker::Changes,
};

/// Carries a connection until both sides have closed.
pub(super) async fn carry(connection: &Connection, mut stream: impl Stream) {
    let (changes, mut exchange) = (connection.worker.changes(), begin(connection));
    let application = match admit(connection, &mut exchange).await {
        Ok(()) => dial(connection).await,
        Err(refused) => Err(refused),
    };
    if connection.peer.is_some() {
        tell(&mut stream, application.as_ref().err()).await;
    }
    carry_on(connection, stream, ServerFirst { stream: application, exchange, changes }).await;
}

/// Tells the calling sidecar whether the application is reached, and no byte else.
pub(super) async fn tell(stream: &mut impl Stream, refused: Option<&Failure>) {
    let said = Opening::say(stream, refused.map(|failure| failure.reason)).await;
    if said.is_ok() && refused.is_some() {
        // Who has gone does not hear it.
        stream.shutdown().await.ok();
    }
}

/// The application's stream, or why the connection is closed.
pub(super) struct ServerFirst {
    stream: Result<BoxStream, Failure>,
    exchange: Exchange,
    /// Of the policy that has let the connection begin.
    changes: Changes,
}

/// Carries a connection whose server has spoken already, or closes it.
pub(super) async fn carry_on(connection: &Connection, stream: impl Stream, server: ServerFirst) {
    let ServerFirst { stream: application, mut exchange, changes } = server;
    match application {
        Ok(application) => {
            let idle = connection.worker.settings.tcp_idle_timeout;
            let refused = changes.refused(async || begins_anew(connection).await);
            exchange.relayed(&relay(stream, application, idle, refused).await);
        }
        Err(failure) => {
            exchange.failed(&failure);
            exchange.abandon();
        }
    }
}

/// Whether a connection like this one may begin. To the filters it is one of its own, which ends at once.
async fn begins_anew(connection: &Connection) -> Result<(), Failure> {
    admit(connection, Tentative::new(begin(connection)).exchange()).await
}

/// Policy lets the connection be, and the application's filters see it begin.
async fn admit(connection: &Connection, exchange: &mut Exchange) -> Result<(), Failure> {
    let snapshot = connection.worker.snapshot();
    connection.may_be(&snapshot)?;
    connection.authorize(&snapshot, exchange, None)?;
    exchange.admit(connection.chain(&snapshot), connection.peer.as_ref(), &connection.admitted).await
}

/// The application's stream, once it has spoken first: then it is not HTTP. Waits a moment for the client before it
/// dials, and for ever if the application is silent too.
pub(super) async fn server_first(connection: &Connection) -> ServerFirst {
    tokio::time::sleep(connection.worker.settings.server_first_after).await;
    // The client may still speak first, and then the connection is HTTP's.
    let (changes, mut begun) = (connection.worker.changes(), Tentative::new(begin(connection)));
    if let Err(refused) = admit(connection, begun.exchange()).await {
        return ServerFirst { stream: Err(refused), exchange: begun.happened(), changes };
    }
    if let Ok(mut stream) = dial(connection).await {
        let mut read = BytesMut::new();
        if let Ok(1..) = stream.read_buf(&mut read).await {
            connection.worker.speaks_first(connection.application, &read);
            let stream: BoxStream = Box::new(Prefix::on(stream, read.freeze()));
            return ServerFirst { stream: Ok(stream), exchange: begun.happened(), changes };
        }
    }
    drop(begun);
    std::future::pending().await
}

fn begin(connection: &Connection) -> Exchange {
    let worker = &connection.worker;
    let mut exchange = Exchange::begin(worker, Direction::Inbound, &worker.snapshot(), connection.downstream);
    connection.describe(&mut exchange);
    let record = exchange.record();
    record.protocol = Protocol::Tcp;
    record.upstream = Some(connection.application);
    exchange
}

async fn dial(connection: &Connection) -> Result<BoxStream, Failure> {
    let application = connection.application;
    let target = Target { who: Who::Application(application), address: application, leg: Leg::Http1 };
    connection.worker.upstream.tunnel(&target, None).await.map_err(|mut failure| {
        failure.reason = Reason::ApplicationUnreachable;
        failure
    })
}
