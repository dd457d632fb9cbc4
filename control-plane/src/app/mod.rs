//! The program: what opens the store, serves, and keeps house.

mod keep;
mod named;
mod services;

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use tokio::{
    sync::{Mutex, watch},
    task::JoinHandle,
    time,
};

use crate::{
    admin::{self, Admin},
    clock,
    config::Config,
    identity::{self, Authority, Identities, IdentityError, SealingKey, Trusted},
    mirror::Mirror,
    serve::{self, Credentials, SocketError},
    store::{self, Embedded, Store, StoreError},
    stream::{self, Policy, Seats},
    telemetry::Metrics,
    traces::{Forwarder, ReceiverError, TraceServer, Traces},
};

/// Why the control plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be opened.
    #[error("store.path: {0}")]
    Store(#[from] StoreError),
    /// The authority cannot work.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The control plane's own identity is none.
    #[error("workload: {0}")]
    Workload(&'static str),
    /// The admin socket cannot be opened.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Spans cannot be sent on.
    #[error(transparent)]
    Receiver(#[from] ReceiverError),
    /// A port cannot be opened.
    #[error("ports.{port}: {address}: {source}; give it an address and port that are free")]
    Listen {
        /// Which one.
        port: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Something that the machine owes us.
    #[error("{what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

/// Where a running control plane is reached: the real ports where the configuration says 0.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// For sidecars.
    pub sidecars: SocketAddr,
    /// For Prometheus.
    pub metrics: SocketAddr,
    /// For probes.
    pub health: SocketAddr,
}

/// A running control plane.
pub struct App {
    addresses: Addresses,
    ending: watch::Sender<bool>,
    drain: time::Duration,
    servers: Vec<JoinHandle<()>>,
    keepers: Vec<JoinHandle<()>>,
}

impl App {
    /// Opens everything and serves, on the runtime that this is called on.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let embedded = open(&config).await?;
        Self::over(config, embedded).await
    }

    async fn over(config: Config, embedded: Arc<Embedded>) -> Result<Self, StartError> {
        let store: Arc<dyn Store> = embedded.clone();
        let metrics = Arc::new(Metrics::default());
        let authority = authority(&config, Arc::clone(&store)).await?;
        let id = config.identity().map_err(StartError::Workload)?;
        let credentials = Credentials::first(&authority, id, clock::seconds()).await?;
        metrics.own_certificate(credentials.expires());
        let trusted = Arc::new(Trusted::new(authority.bundle(clock::seconds()).await?));
        let (trusted, roots) = watch::channel(trusted);

        let mirror = Arc::new(Mirror::default());
        let limits = &config.limits;
        let seats = Seats::new(limits.streams as usize, limits.streams_per_identity as usize);
        let seats = Arc::new(seats);
        let (ending, is_ending) = watch::channel(false);
        let traces = Arc::new(Traces::new(&config.traces, Arc::clone(&metrics), is_ending.clone()));
        let forwarder = Forwarder::new(&traces, &config.traces.forward)?;
        let parts = services::Parts {
            policy: Policy(Arc::new(stream::Shared {
                mirror: Arc::clone(&mirror),
                seats: Arc::clone(&seats),
                metrics: Arc::clone(&metrics),
                limits: limits.clone(),
                timeouts: config.timeouts.clone(),
                roots,
                ending: is_ending.clone(),
            })),
            identities: Identities::new(Arc::clone(&authority), limits, Arc::clone(&metrics)),
            admin: Admin(Arc::new(admin::Shared {
                store: Arc::clone(&store),
                mirror: Arc::clone(&mirror),
                seats,
                authority: Arc::clone(&authority),
                metrics: Arc::clone(&metrics),
                traces: Arc::clone(&traces),
                admins: config.admin.identities.clone(),
                token_lifetime: config.certificates.join_token_lifetime,
                patience: config.timeouts.acknowledge,
                ending: is_ending.clone(),
                changing: Mutex::default(),
            })),
            traces: TraceServer::new(Arc::clone(&traces), config.traces.message_bytes as usize),
            message_bytes: limits.message_bytes as usize,
        };

        let sockets = Sockets::open(&config)?;
        let addresses = sockets.addresses;
        serve::serve_http(sockets.metrics, sockets.health, Arc::clone(&metrics), Arc::clone(&mirror))
            .map_err(system("metrics and health"))?;
        let tls = serve::accept_tls(
            sockets.sidecars,
            credentials.config(),
            limits,
            &config.timeouts,
            Arc::clone(&metrics),
        );
        let unix = serve::accept_unix(serve::open_unix(&config.admin.socket)?);
        let keepers = vec![
            tokio::spawn(Arc::clone(&mirror).follow(store)),
            tokio::spawn(keep::revision(Arc::clone(&mirror), Arc::clone(&metrics))),
            tokio::spawn(keep::identities(
                authority,
                credentials,
                trusted,
                metrics,
                config.certificates.lifetime,
            )),
            tokio::spawn(keep::copy(embedded, config.store.copy_every)),
            tokio::spawn(keep::traces(traces)),
        ];
        let mut servers = parts.serve(tls, unix, &mirror, is_ending.clone());
        servers.extend(forwarder.map(|forwarder| tokio::spawn(forwarder.run(is_ending))));
        tracing::info!(sidecars = %addresses.sidecars, admin = %config.admin.socket.display(), "serving");
        Ok(Self { addresses, ending, drain: config.timeouts.drain, servers, keepers })
    }

    /// Where it is reached.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Asks everybody to come back later, waits for what is open, and ends.
    pub async fn stop(self) {
        self.ending.send_replace(true);
        let deadline = time::Instant::now() + self.drain;
        for mut server in self.servers {
            if time::timeout_at(deadline, &mut server).await.is_err() {
                server.abort();
            }
        }
        for keeper in self.keepers {
            keeper.abort();
            keeper.await.ok();
        }
    }
}

async fn open(config: &Config) -> Result<Arc<Embedded>, StartError> {
    let settings = store::Settings::new(&config.store.path, clock::milliseconds());
    let store = Embedded::open(settings).await?;
    if let Some(told) = store.restored() {
        tracing::error!("{told}");
    }
    Ok(Arc::new(store))
}

async fn authority(config: &Config, store: Arc<dyn Store>) -> Result<Arc<Authority>, StartError> {
    let certificates = &config.certificates;
    let settings = identity::Settings {
        trust_domain: config.trust_domain.clone(),
        leaf_lifetime: certificates.lifetime,
        root_lifetime: certificates.root_lifetime,
        overlap: certificates.overlap,
        skew: certificates.clock_skew,
    };
    let key = SealingKey::from_file(&config.store.sealing_key)?;
    Ok(Arc::new(Authority::open(store, key, settings, clock::seconds()).await?))
}

/// The ports, open.
struct Sockets {
    sidecars: tokio::net::TcpListener,
    metrics: TcpListener,
    health: TcpListener,
    addresses: Addresses,
}

impl Sockets {
    fn open(config: &Config) -> Result<Self, StartError> {
        let bind = |port, number| {
            let address = SocketAddr::new(config.bind_ip(), number);
            let failed = |source| StartError::Listen { port, address, source };
            let listener = TcpListener::bind(address).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            Ok::<_, StartError>((listener, address))
        };
        let (sidecars, at) = bind("sidecars", config.ports.sidecars)?;
        let (metrics, metrics_at) = bind("metrics", config.ports.metrics)?;
        let (health, health_at) = bind("health", config.ports.health)?;
        let sidecars = tokio::net::TcpListener::from_std(sidecars).map_err(system("a socket"))?;
        let addresses = Addresses { sidecars: at, metrics: metrics_at, health: health_at };
        Ok(Self { sidecars, metrics, health, addresses })
    }
}

fn system(what: &'static str) -> impl Fn(std::io::Error) -> StartError {
    move |source| StartError::System { what, source }
}
