//! The composition root: configuration, sockets, workers and the control side become one running sidecar.
//!
//! Two kinds of threads: workers, each with its own world, which carry traffic; and one control thread, which watches
//! policy and identity, serves admin, metrics and health, and sends spans. A worker never waits for the control thread.

mod control;
mod settings;
mod sockets;
mod workers;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};

pub use self::sockets::Addresses;
use self::{control::Control, sockets::Sockets, workers::Workers};
use crate::{
    config::bootstrap::Config,
    drain::{Drain, DrainWatch, Stage},
    worker::Shared,
};

/// Why a sidecar does not start. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket.
    #[error("cannot listen on {address} ({what}): {source}; is the port taken by another process?")]
    Listen {
        /// What for.
        what: &'static str,
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The identity.
    #[error("identity: {0}")]
    Identity(#[from] crate::tls::IdentityError),
    /// The policy.
    #[error("{0}")]
    Policy(trama_proto::Problems),
    /// A thread, a runtime, an output.
    #[error("{what}: {source}")]
    System {
        /// What could not be had.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

/// Checks configuration, policy and identity, and starts nothing.
pub fn validate(config: &Config, policy: Option<PathBuf>) -> Result<(), StartError> {
    control::check(config, policy.as_deref())
}

/// A running sidecar. Dropped without [`App::stop`] it is cut off at once.
pub struct App {
    addresses: Addresses,
    drain: Drain,
    watch: DrainWatch,
    drain_deadline: Duration,
    workers: Workers,
    control: Control,
}

impl App {
    /// Starts a sidecar: identity and policy first, listeners after them, so that nothing is ever served by an empty
    /// policy.
    pub fn start(config: Config, policy: Option<PathBuf>) -> Result<Self, StartError> {
        let (drain, watch) = Drain::new();
        let shared = Shared {
            snapshot: Arc::new(ArcSwap::default()),
            identity: Arc::new(ArcSwapOption::empty()),
            drain: watch.clone(),
            started: Instant::now(),
        };
        let control = Control::start(&config, policy, &shared, drain.clone())?;
        let sockets = Sockets::bind(&config)?;
        let addresses = sockets.addresses(control.addresses());
        let settings = settings::of(&config, &addresses);
        let workers = Workers::start(sockets, &settings, &shared, control.telemetry())?;
        control.serving();
        Ok(Self { addresses, drain, watch, drain_deadline: config.timeouts.drain, workers, control })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// How its end is told.
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// How its end is heard.
    pub fn watch(&self) -> DrainWatch {
        self.watch.clone()
    }

    /// Drains all and waits until nothing is open, or the deadline. `false`: something was cut off.
    pub fn stop(self) -> bool {
        self.drain.advance(Stage::All);
        let drained = self.workers.join(self.drain_deadline);
        self.control.stop();
        drained
    }
}
