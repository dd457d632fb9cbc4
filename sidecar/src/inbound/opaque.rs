//! Opaque bytes to our application.

use bytes::BytesMut;
use tokio::io::AsyncReadExt;

use super::Connection;
use crate::{
    error::{Failure, Reason},
    exchange::Exchange,
    http::io::{Prefixed, Stream},
    telemetry::{Direction, Protocol},
    upstream::{BoxStream, Leg, Target, Who, relay},
};

/// Carries a connection until both sides have closed.
pub(super) async fn carry(connection: &Connection, stream: impl Stream) {
    let mut exchange = begin(connection);
    match dial(connection).await {
        Ok(application) => carried(connection, exchange, stream, application).await,
        Err(failure) => {
            exchange.failed(&failure);
            exchange.abandon();
        }
    }
}

/// Carries a connection whose server has spoken already.
pub(super) async fn carry_on(connection: &Connection, stream: impl Stream, server: BoxStream) {
    carried(connection, begin(connection), stream, server).await;
}

/// The application's stream, once it has spoken first: then it is not HTTP. Waits a moment for the client before it
/// dials, and for ever if the application is silent too.
pub(super) async fn server_first(connection: &Connection) -> BoxStream {
    tokio::time::sleep(connection.worker.settings.server_first_after).await;
    if let Ok(mut stream) = dial(connection).await {
        let mut read = BytesMut::new();
        if let Ok(1..) = stream.read_buf(&mut read).await {
            connection.worker.speaks_first(connection.application, &read);
            return Box::new(Prefixed::new(read.freeze(), stream));
        }
    }
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

async fn carried(connection: &Connection, exchange: Exchange, stream: impl Stream, application: BoxStream) {
    let idle = connection.worker.settings.tcp_idle_timeout;
    exchange.relayed(&relay(stream, application, idle).await);
}
