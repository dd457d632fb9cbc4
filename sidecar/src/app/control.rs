//! The control side: one thread with a runtime of its own, where everything happens that no request waits for.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    runtime,
    sync::{mpsc, oneshot, watch},
};

use super::{
    Addresses, StartError,
    certificates::{self, ServerTls},
    doubts, ejections, identity,
    policy::{self, Source},
    settings,
    workers::Look,
};
use crate::{
    accept::listener::bind,
    admin::{self, Looking},
    authz::Gate,
    config::{
        bootstrap::{AccessLogTarget, Config},
        snapshot::{Snapshot, SpiffeId},
    },
    discovery::PolicyFile,
    drain::{Drain, Stage},
    telemetry::{LogOutput, ReceiverTls, TelemetryConfig, TelemetryHub},
    worker::{Answers, Ejection, Shared},
};

/// How long log and spans may take to get out at the end.
const FLUSH: Duration = Duration::from_secs(2);

/// What workers tell the control side.
pub(super) struct Told {
    pub(super) answers: Answers,
    pub(super) ejected: mpsc::Receiver<Ejection>,
}

/// The control thread.
pub(super) struct Control {
    telemetry: TelemetryHub,
    addresses: Addresses,
    listeners: HashMap<String, ServerTls>,
    state: Arc<State>,
    opened: watch::Receiver<bool>,
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Control {
    /// Loads the certificates, and starts the thread that keeps them and the policy current.
    pub(super) fn start(
        config: &Config,
        policy: Option<PathBuf>,
        (shared, told): (&Shared, Told),
        drain: Drain,
    ) -> Result<Self, StartError> {
        let configuration = serde_json::to_value(in_force(config, policy.clone())).unwrap_or_default();
        let source = Source::of(config, policy)?;
        let runtime =
            runtime::Builder::new_current_thread().enable_all().build().map_err(system("a runtime"))?;
        let _context = runtime.enter();
        let telemetry = TelemetryHub::start(telemetry_config(config, shared)).map_err(system("telemetry"))?;

        identity::keep(config, shared, &telemetry)?;
        certificates::keep_upstream(config, shared, &telemetry)?;
        let listeners = certificates::keep_listeners(config, &telemetry)?;
        let state = Arc::new(State {
            configuration,
            service: settings::own_service(config),
            shared: shared.clone(),
            drain,
            started: AtomicBool::new(false),
            serving: OnceLock::new(),
        });
        let answering: Arc<dyn admin::State> = state.clone();
        let opened = policy::follow(config, source, (shared, told.answers, &answering), &telemetry);
        ejections::tell(told.ejected);

        let sockets = sockets(config)?;
        let addresses = addresses(&sockets);
        admin::serve(sockets, answering, telemetry.clone()).map_err(system("the admin side"))?;
        drop(_context);

        let (end, ended) = oneshot::channel();
        let hub = telemetry.clone();
        let run = move || {
            runtime.block_on(async {
                // Ended by a word or by the sender's drop, which mean the same.
                ended.await.ok();
                hub.flush(FLUSH).await;
            });
        };
        let thread =
            std::thread::Builder::new().name("control".into()).spawn(run).map_err(system("a thread"))?;
        Ok(Self { telemetry, addresses, listeners, state, opened, end, thread })
    }

    /// Where the workers' telemetry comes from.
    pub(super) fn telemetry(&self) -> &TelemetryHub {
        &self.telemetry
    }

    /// Where admin, metrics and health are asked.
    pub(super) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Turns true when the listeners may open.
    pub(super) fn opened(&self) -> watch::Receiver<bool> {
        self.opened.clone()
    }

    /// The TLS of explicit listeners, by their names.
    pub(super) fn listeners(&self) -> &HashMap<String, ServerTls> {
        &self.listeners
    }

    /// The listeners are open, and so the workers can be asked.
    pub(super) fn serving(&self, looks: Vec<Look>, gate: Arc<Gate>) {
        // They open once.
        self.state.serving.set(Serving { looks, gate }).ok();
        self.state.started.store(true, Ordering::Relaxed);
    }

    /// Gets log and spans out, and ends.
    pub(super) fn stop(self) {
        self.end.send(()).ok();
        if self.thread.join().is_err() {
            tracing::error!("the control thread panicked");
        }
    }
}

/// Loads certificates and policy, and starts nothing. Gives what is no error and hardly meant.
pub(super) fn check(config: &Config, policy: Option<PathBuf>) -> Result<Vec<String>, StartError> {
    certificates::check(config)?;
    access_log(config).check().map_err(system("telemetry"))?;
    let Some(Source::File(path)) = Source::of(config, policy)? else { return Ok(Vec::new()) };
    let read = PolicyFile::new(path, policy::local(config), None).read().map_err(StartError::Policy)?;
    Ok(doubts::of(config, &read.snapshot))
}

/// The configuration, with what holds in place of what was left out.
fn in_force(config: &Config, policy: Option<PathBuf>) -> Config {
    let (workers, bind_address) = (Some(config.worker_count()), Some(config.bind_ip()));
    Config { policy_file: policy, workers, bind_address, ..config.clone() }
}

/// What the admin side is shown and may ask.
struct State {
    configuration: serde_json::Value,
    service: Arc<str>,
    shared: Shared,
    drain: Drain,
    started: AtomicBool,
    serving: OnceLock<Serving>,
}

/// What there is to be asked once the listeners are open.
struct Serving {
    looks: Vec<Look>,
    gate: Arc<Gate>,
}

impl admin::State for State {
    fn configuration(&self) -> serde_json::Value {
        self.configuration.clone()
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    fn now(&self) -> Duration {
        self.shared.started.elapsed()
    }

    fn service(&self) -> Arc<str> {
        Arc::clone(&self.service)
    }

    fn identity(&self) -> Option<SpiffeId> {
        self.shared.certificates.identity.load().as_ref().map(|own| own.id.clone())
    }

    fn gate(&self) -> Option<Arc<Gate>> {
        self.serving.get().map(|serving| Arc::clone(&serving.gate))
    }

    fn workers(&self) -> u32 {
        u32::try_from(self.serving.get().map_or(0, |serving| serving.looks.len())).unwrap_or(u32::MAX)
    }

    fn loads(&self, worker: u32) -> Looking {
        let serving = self.serving.get();
        let look = serving.and_then(|serving| serving.looks.get(usize::try_from(worker).ok()?)).cloned();
        Box::pin(async move {
            let (asker, answered) = oneshot::channel();
            look?.send(asker).await.ok()?;
            answered.await.ok()
        })
    }

    fn is_started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }

    fn draining(&self) -> Option<admin::Drain> {
        match self.drain.stage() {
            Stage::Serving => None,
            Stage::Inbound => Some(admin::Drain::Inbound),
            Stage::All | Stage::Gone => Some(admin::Drain::All),
        }
    }

    fn drain(&self, what: admin::Drain) {
        let stage = match what {
            admin::Drain::Inbound => Stage::Inbound,
            admin::Drain::All => Stage::All,
        };
        if self.drain.stage() < stage && stage == Stage::Inbound {
            tracing::info!("draining what comes in: callers are asked to go elsewhere, own calls go on");
        }
        self.drain.advance(stage);
    }
}

fn sockets(config: &Config) -> Result<admin::Sockets, StartError> {
    let open = |what, address: SocketAddr| {
        bind(address).map_err(|source| StartError::Listen { what, address, source })
    };
    let ip = config.bind_ip();
    Ok(admin::Sockets {
        admin: open("admin", SocketAddr::new(config.admin.address, config.admin.port))?,
        metrics: open("metrics", SocketAddr::new(ip, config.ports.metrics))?,
        health: open("health", SocketAddr::new(ip, config.ports.health))?,
    })
}

fn addresses(sockets: &admin::Sockets) -> Addresses {
    Addresses {
        admin: sockets.admin.local_addr().ok(),
        metrics: sockets.metrics.local_addr().ok(),
        health: sockets.health.local_addr().ok(),
        ..Addresses::default()
    }
}

fn access_log(config: &Config) -> LogOutput {
    match &config.telemetry.access_log {
        AccessLogTarget::Stdout => LogOutput::Stdout,
        AccessLogTarget::Off => LogOutput::None,
        AccessLogTarget::File(path) => LogOutput::File(path.clone()),
    }
}

fn telemetry_config(config: &Config, shared: &Shared) -> TelemetryConfig {
    let (otlp_endpoint, otlp_tls) = receiver(config, shared);
    TelemetryConfig {
        access_log: access_log(config),
        otlp_endpoint,
        otlp_tls,
        service: config.node.service.clone().unwrap_or_else(|| config.node.display_name()),
        namespace: config.node.namespace.clone(),
        region: config.node.region.clone(),
    }
}

/// Who receives spans: whom the configuration names, else the control plane, where there is one.
fn receiver(config: &Config, shared: &Shared) -> (Option<String>, Option<ReceiverTls>) {
    match (&config.telemetry.otlp_endpoint, &config.control_plane) {
        (Some(endpoint), _) => (Some(endpoint.clone()), certificates::of_receiver(config, shared)),
        (None, Some(control_plane)) => {
            let endpoint = format!("https://{}", control_plane.address);
            (Some(endpoint), policy::way_to(control_plane, shared).receiver_tls())
        }
        (None, None) => (None, None),
    }
}

fn system(what: &'static str) -> impl Fn(std::io::Error) -> StartError {
    move |source| StartError::System { what, source }
}
