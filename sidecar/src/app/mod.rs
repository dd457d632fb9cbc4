//! The composition root: configuration, sockets, workers and the control side become one running sidecar.
//!
//! Two kinds of threads: workers, each with its own world, which carry traffic; and one control thread, which watches
//! policy and certificates, serves admin, metrics and health, and sends spans. A worker never waits for the control thread.

mod certificates;
mod control;
mod doubts;
mod ejections;
mod entropy;
mod identity;
mod policy;
mod settings;
mod sockets;
mod workers;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;

pub use self::sockets::Addresses;
use self::{
    control::{Control, Told},
    sockets::Sockets,
    workers::Workers,
};
use crate::{
    config::bootstrap::Config,
    drain::{Drain, DrainWatch, Stage},
    telemetry::TelemetryHub,
    worker::{Ejections, Needs, Shared},
};

/// Why a sidecar does not start. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket.
    #[error("cannot listen on {address} ({what}): {source}; {}", remedy(.source))]
    Listen {
        /// What for.
        what: &'static str,
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A certificate: the identity's, a listener's, or one for endpoints without a sidecar.
    #[error("{field}: {error}")]
    Certificates {
        /// The field of the configuration that names the files.
        field: String,
        /// Why they cannot be used.
        error: crate::tls::IdentityError,
    },
    /// The policy, when it is only checked.
    #[error("{0}")]
    Policy(trama_proto::Problems),
    /// The command line names a policy file, and the configuration a control plane.
    #[error("--policy: {}: excluded by `controlPlane` of the configuration; leave out one of the two: policy has one source", .0.display())]
    TwoSources(PathBuf),
    /// A thread, a runtime, an output.
    #[error("{what}: {source}")]
    System {
        /// What could not be had.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

/// What to do where nothing can listen on an address.
fn remedy(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::AddrInUse => {
            "another process listens there, perhaps another sidecar: end it, or give one of them another address or port"
        }
        ErrorKind::AddrNotAvailable => "no interface has this address: correct it in the configuration",
        ErrorKind::PermissionDenied => {
            "ports below 1024 take the capability NET_BIND_SERVICE: give it, or choose another port"
        }
        _ => "correct address and port in the configuration",
    }
}

/// Checks configuration, policy and certificates, and starts nothing. What is no error and hardly meant is given back.
pub fn validate(config: &Config, policy: Option<PathBuf>) -> Result<Vec<String>, StartError> {
    control::check(config, policy)
}

/// A sidecar that waits for its first policy: admin, metrics and health answer, and nothing carries traffic.
pub struct Starting {
    config: Config,
    shared: Shared,
    drain: Drain,
    control: Control,
    /// Where policy comes from, in words.
    source: String,
}

impl Starting {
    /// Loads the certificates and looks for a policy. One that is missing or bad is waited for.
    pub fn begin(config: Config, policy: Option<PathBuf>) -> Result<Self, StartError> {
        let (drain, watch) = Drain::new();
        let (needs, answers) = Needs::new();
        let (ejections, ejected) = Ejections::new();
        let shared = Shared {
            snapshot: Arc::new(ArcSwap::default()),
            certificates: certificates::none(&config),
            needs,
            ejections,
            drain: watch,
            started: Instant::now(),
        };
        let source = source(&config, policy.as_deref());
        let control = Control::start(&config, policy, (&shared, Told { answers, ejected }), drain.clone())?;
        Ok(Self { config, shared, drain, control, source })
    }

    /// Waits for the first policy, or until it was waited for long enough. `false`: it was told to drain before that.
    pub async fn opened(&self) -> bool {
        let mut opened = self.control.opened();
        tokio::select! {
            opened = opened.wait_for(|open| *open) => opened.is_ok(),
            () = self.shared.drain.clone().reach(Stage::All) => false,
        }
    }

    /// Where the sidecar's telling comes together.
    pub fn telemetry(&self) -> TelemetryHub {
        self.control.telemetry().clone()
    }

    /// Opens the listeners.
    pub fn open(self) -> Result<App, StartError> {
        let Self { config, shared, drain, control, source } = self;
        let drain = DropEnds(drain);
        let sockets = Sockets::bind(&config, control.listeners())?;
        let addresses = sockets.addresses(control.addresses());
        let settings = settings::of(&config, &addresses);
        let workers = Workers::start(sockets, &settings, &shared, control.telemetry())?;
        control.serving(workers.looks(), Arc::clone(&settings.gate));
        told(&config, &shared, &source, &addresses);
        entropy::gather(&config);
        let drain_deadline = config.timeouts.drain;
        Ok(App { addresses, drain, watch: shared.drain, drain_deadline, workers, control })
    }

    /// Ends it before it carried anything.
    pub fn stop(self) {
        self.control.stop();
    }
}

fn source(config: &Config, policy: Option<&Path>) -> String {
    match (policy, &config.control_plane) {
        (Some(file), _) => file.display().to_string(),
        (None, Some(control_plane)) => format!("control plane {}", control_plane.address),
        (None, None) => "none".to_owned(),
    }
}

/// The one line of the log that says what has been started.
fn told(config: &Config, shared: &Shared, policy: &str, addresses: &Addresses) {
    let identity = shared.certificates.identity.load();
    let identity = identity.as_ref().map_or_else(|| "none".to_owned(), |own| own.id.to_string());
    let (version, workers) = (env!("CARGO_PKG_VERSION"), config.worker_count());
    tracing::info!(policy, identity, workers, "trama-sidecar {version} listens: {addresses}");
}

/// How long what is cut off may take to say so in the log.
const CUT_OFF: Duration = Duration::from_secs(1);

/// A running sidecar. Dropped without [`App::stop`] it is cut off at once.
pub struct App {
    addresses: Addresses,
    drain: DropEnds,
    watch: DrainWatch,
    drain_deadline: Duration,
    workers: Workers,
    control: Control,
}

impl App {
    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// How its end is told.
    pub fn drain(&self) -> Drain {
        self.drain.0.clone()
    }

    /// How its end is heard.
    pub fn watch(&self) -> DrainWatch {
        self.watch.clone()
    }

    /// Drains all and waits until nothing is open, or the deadline. `false`: something was cut off.
    pub fn stop(mut self) -> bool {
        self.drain.0.advance(Stage::All);
        let drained = self.workers.join(self.drain_deadline);
        if !drained {
            self.drain.0.advance(Stage::Gone);
            self.workers.join(CUT_OFF);
        }
        self.control.stop();
        drained
    }
}

/// The workers' threads hold nothing that would end them: they are told.
struct DropEnds(Drain);

impl Drop for DropEnds {
    fn drop(&mut self) {
        self.0.advance(Stage::Gone);
    }
}
