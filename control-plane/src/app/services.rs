//! Which services stand on which socket.

use std::{io, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tonic::{
    server::NamedService,
    service::{Routes, interceptor::InterceptedService},
    transport::Server,
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower_layer::layer_fn;
use trama_proto::{
    admin::v1::admin_service_server::AdminServiceServer,
    identity::v1::identity_service_server::IdentityServiceServer,
};

use super::named::Named;
use crate::{
    admin::Admin,
    identity::Identities,
    mirror::Mirror,
    serve::{Connection, CountCalls},
    stream::{Policy, PolicyServer},
    traces::TraceServer,
};

/// A peer that is silent for so long is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// And gone if it does not answer for so long.
const DEAD: Duration = Duration::from_secs(20);
/// Calls at one time on a connection. A sidecar has one stream and now and then a renewal, or sends spans.
const CALLS: u32 = 64;
const HEADER_BYTES: u32 = 16 * 1024;
/// A signing request has a few hundred bytes.
const IDENTITY_BYTES: usize = 64 * 1024;

/// What is served.
pub(super) struct Parts {
    pub(super) policy: Policy,
    pub(super) identities: Identities,
    pub(super) admin: Admin,
    pub(super) traces: TraceServer,
    pub(super) message_bytes: usize,
}

impl Parts {
    /// Serves until the end is told.
    pub(super) fn serve<T, U>(
        self,
        tls: mpsc::Receiver<io::Result<Connection<T>>>,
        unix: mpsc::Receiver<io::Result<Connection<U>>>,
        mirror: &Arc<Mirror>,
        ending: watch::Receiver<bool>,
    ) -> Vec<JoinHandle<()>>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        U: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { policy, identities, admin, traces, message_bytes } = self;
        let reporter = HealthReporter::new();
        tokio::spawn(report(reporter.clone(), Arc::clone(mirror)));
        let common = || {
            let looking = admin.clone();
            let admin = AdminServiceServer::new(admin.clone()).max_decoding_message_size(message_bytes);
            let health = tonic_health::server::HealthService::from_health_reporter(reporter.clone());
            let mut routes = Routes::new(admin);
            routes = routes.add_service(tonic_health::pb::health_server::HealthServer::new(health));
            match reflection() {
                // What there is to ask for is told to those who may ask.
                Ok(reflection) => routes.add_service(InterceptedService::new(reflection, move |request| {
                    looking.let_look(request)
                })),
                Err(error) => {
                    tracing::error!(%error, "there is no reflection");
                    routes
                }
            }
        };
        let network = common()
            .add_service(PolicyServer::new(policy, message_bytes))
            .add_service(IdentityServiceServer::new(identities).max_decoding_message_size(IDENTITY_BYTES))
            .add_service(traces);
        vec![serve(network, received(tls), ending.clone()), serve(common(), received(unix), ending)]
    }
}

fn serve<T>(
    routes: Routes,
    connections: impl Stream<Item = io::Result<Connection<T>>> + Send + 'static,
    mut ending: watch::Receiver<bool>,
) -> JoinHandle<()>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut server = Server::builder()
        .layer(layer_fn(Named::new))
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(DEAD))
        .max_concurrent_streams(Some(CALLS))
        .http2_max_header_list_size(Some(HEADER_BYTES))
        .layer(CountCalls);
    let router = server.add_routes(routes);
    tokio::spawn(async move {
        let end = async move {
            ending.wait_for(|ending| *ending).await.ok();
        };
        if let Err(error) = router.serve_with_incoming_shutdown(connections, end).await {
            tracing::error!(%error, "a server ended");
        }
    })
}

fn received<T>(mut connections: mpsc::Receiver<T>) -> impl Stream<Item = T> {
    stream::poll_fn(move |context| connections.poll_recv(context))
}

fn reflection() -> Result<
    tonic_reflection::server::v1::ServerReflectionServer<impl tonic_reflection::server::v1::ServerReflection>,
    tonic_reflection::server::Error,
> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(trama_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
}

/// The policy stream serves once the policy is known; the rest serves at once.
async fn report(reporter: HealthReporter, mirror: Arc<Mirror>) {
    let policy = <PolicyServer as NamedService>::NAME;
    let others = [
        <AdminServiceServer<Admin> as NamedService>::NAME,
        <IdentityServiceServer<Identities> as NamedService>::NAME,
        TraceServer::NAME,
    ];
    for name in others {
        reporter.set_service_status(name, ServingStatus::Serving).await;
    }
    for name in ["", policy] {
        reporter.set_service_status(name, ServingStatus::NotServing).await;
    }
    mirror.reach(0).await;
    for name in ["", policy] {
        reporter.set_service_status(name, ServingStatus::Serving).await;
    }
}
