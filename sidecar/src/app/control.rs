//! The control side: one thread with a runtime of its own, where everything happens that no request waits for.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use tokio::{runtime, sync::oneshot};
use trama_proto::{Problems, document::Document};

use super::{Addresses, StartError};
use crate::{
    config::{
        bootstrap::{AccessLogTarget, Config},
        convert::{Local, convert},
        snapshot::{Snapshot, state::Registry},
    },
    telemetry::{LogOutput, TelemetryConfig, TelemetryHub},
    tls::{Identity, IdentityFiles},
    worker::Shared,
};

/// How long log and spans may take to get out at the end.
const FLUSH: Duration = Duration::from_secs(2);

/// The control thread.
pub(super) struct Control {
    telemetry: TelemetryHub,
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Control {
    /// Loads identity and policy, and starts the thread that keeps them current.
    pub(super) fn start(
        config: &Config,
        policy: Option<PathBuf>,
        shared: &Shared,
    ) -> Result<Self, StartError> {
        let system = |what| move |source| StartError::System { what, source };
        if let Some(files) = identity_files(config) {
            shared.identity.store(Some(Arc::new(Identity::load(&files, 1)?)));
        }
        if let Some(policy) = &policy {
            shared.snapshot.store(Arc::new(first_policy(config, policy)?));
        }
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("control")
            .build()
            .map_err(system("the control runtime"))?;
        let telemetry = {
            let _context = runtime.enter();
            TelemetryHub::start(telemetry_config(config)).map_err(system("telemetry"))?
        };
        let (end, ended) = oneshot::channel();
        let hub = telemetry.clone();
        let thread = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || {
                runtime.block_on(async {
                    // Ended by a word or by the sender's drop, which mean the same.
                    ended.await.ok();
                    hub.flush(FLUSH).await;
                });
            })
            .map_err(system("the control thread"))?;
        Ok(Self { telemetry, end, thread })
    }

    /// Where the workers' telemetry comes from.
    pub(super) fn telemetry(&self) -> &TelemetryHub {
        &self.telemetry
    }

    /// The listeners are open.
    pub(super) fn serving(&self, _addresses: Addresses) {}

    /// Gets log and spans out, and ends.
    pub(super) fn stop(self) {
        self.end.send(()).ok();
        if self.thread.join().is_err() {
            tracing::error!("the control thread panicked");
        }
    }
}

/// Loads identity and policy, and starts nothing.
pub(super) fn check(config: &Config, policy: Option<&Path>) -> Result<(), StartError> {
    if let Some(files) = identity_files(config) {
        Identity::load(&files, 1)?;
    }
    policy.map_or(Ok(()), |policy| first_policy(config, policy).map(drop))
}

fn first_policy(config: &Config, path: &Path) -> Result<Snapshot, StartError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| StartError::System { what: "the policy file", source })?;
    let documents =
        Document::parse(&path.display().to_string(), &text).map_err(|p| StartError::Policy(Problems(p)))?;
    let local = Local { namespace: config.node.namespace.clone(), region: config.node.region.clone() };
    convert(&documents, &local, &mut Registry::default(), 1).map_err(StartError::Policy)
}

fn identity_files(config: &Config) -> Option<IdentityFiles> {
    config.identity.as_ref().map(|identity| IdentityFiles {
        certificate: identity.certificate.clone(),
        key: identity.key.clone(),
        bundle: identity.bundle.clone(),
    })
}

fn telemetry_config(config: &Config) -> TelemetryConfig {
    let access_log = match &config.telemetry.access_log {
        AccessLogTarget::Stdout => LogOutput::Stdout,
        AccessLogTarget::Off => LogOutput::None,
        AccessLogTarget::File(path) => LogOutput::File(path.clone()),
    };
    TelemetryConfig {
        access_log,
        otlp_endpoint: config.telemetry.otlp_endpoint.clone(),
        service: config.node.service.clone().unwrap_or_else(|| config.node.display_name()),
        namespace: config.node.namespace.clone(),
        region: config.node.region.clone(),
    }
}
