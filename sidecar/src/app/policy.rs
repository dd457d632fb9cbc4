//! Which policy holds: its source's, else the last good one of the disk, else none yet.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use trama_proto::Problems;

use super::certificates;
use crate::{
    config::{
        bootstrap::{Config, Startup, WithoutPolicy},
        convert::Local,
        snapshot::{Origin, Snapshot, UnknownDestination},
    },
    discovery::{self, Accepted, Kept, LastGood, PolicyFile},
    telemetry::{PolicyUpdate, TelemetryHub},
    worker::Shared,
};

/// How often it is said that there is no policy.
const REMINDER: Duration = Duration::from_secs(10);

/// Follows the policy file from now on, on the runtime that this is called on. What it gives turns true when the
/// listeners may open: with the first policy, or when it has been waited for long enough.
pub(super) fn follow(
    config: &Config,
    path: Option<PathBuf>,
    shared: &Shared,
    telemetry: &TelemetryHub,
) -> watch::Receiver<bool> {
    let open = watch::Sender::new(false);
    let opened = open.subscribe();
    let Some(path) = path else {
        shared.snapshot.store(Arc::new(without_policy(config, Origin::Nowhere)));
        open.send_replace(true);
        return opened;
    };
    shared.snapshot.store(Arc::new(without_policy(config, Origin::Awaited)));
    let (keep, last_good) = keeper(config, telemetry);
    let file = PolicyFile::new(path, local(config), last_good.clone());
    let on_disk = last_good.map(|kept| kept.revision.digest);
    let mut taker =
        Taker { shared: shared.clone(), telemetry: telemetry.clone(), open: open.clone(), keep, on_disk };
    // In this order: the first reading comes before the first complaint that there is none.
    tokio::spawn(file.watch(move |read| taker.take(read)));
    tokio::spawn(wait(config.startup, shared.clone(), open));
    opened
}

/// What a sidecar is to policy.
pub(super) fn local(config: &Config) -> Local {
    Local { namespace: config.node.namespace.clone(), region: config.node.region.clone() }
}

/// Puts what the source says in force, and has it kept.
struct Taker {
    shared: Shared,
    telemetry: TelemetryHub,
    open: watch::Sender<bool>,
    keep: Option<watch::Sender<Option<Kept>>>,
    /// The digest of what is kept, or is about to be.
    on_disk: Option<u64>,
}

impl Taker {
    fn take(&mut self, read: Result<Accepted, Problems>) {
        let process = self.telemetry.process();
        let Ok(Accepted { snapshot, content }) = read else {
            return process.policy_update(PolicyUpdate::Refused, self.shared.snapshot.load().revision);
        };
        certificates::named_by(&snapshot, &self.shared, &self.telemetry);
        let (revision, origin) = (snapshot.revision, snapshot.origin);
        self.shared.snapshot.store(Arc::new(snapshot));
        match origin {
            Origin::LastGood => process.policy_from_disk(revision),
            _ => process.policy_update(PolicyUpdate::Accepted, revision),
        }
        self.open.send_replace(true);
        // A start with the policy that is kept already writes nothing.
        if let Some(keep) = self.keep.as_ref().filter(|_| self.on_disk != Some(revision.digest)) {
            self.on_disk = Some(revision.digest);
            keep.send_replace(Some(Kept { revision, content }));
        }
    }
}

/// Opens the listeners without a policy when it was waited for long enough, and complains as long as there is none.
async fn wait(startup: Startup, shared: Shared, open: watch::Sender<bool>) {
    let end = Instant::now() + startup.wait_for_policy;
    while shared.snapshot.load().origin == Origin::Awaited {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            open.send_replace(true);
            let outbound = match startup.without_policy {
                WithoutPolicy::PassThrough => "is passed on plainly",
                WithoutPolicy::Refuse => "is refused",
            };
            tracing::error!("still no policy: outbound traffic {outbound} until there is one");
            sleep(REMINDER).await;
        } else {
            tracing::error!(
                ?left,
                "no policy yet: the listeners stay closed until there is one, or time is up"
            );
            sleep(left.min(REMINDER)).await;
        }
    }
}

/// What holds while there is no policy at all.
fn without_policy(config: &Config, origin: Origin) -> Snapshot {
    let mut snapshot = Snapshot { origin, ..Snapshot::default() };
    snapshot.mesh.unknown = match config.startup.without_policy {
        WithoutPolicy::PassThrough => UnknownDestination::PassThrough,
        WithoutPolicy::Refuse => UnknownDestination::Refuse,
    };
    // The policy may be one that demands mutual TLS. Without an identity nobody could come in by it.
    snapshot.mesh.strict = origin == Origin::Awaited
        && config.identity.is_some()
        && config.startup.plain_inbound == WithoutPolicy::Refuse;
    snapshot
}

/// What is kept on disk, and where policies are put that are to be kept.
fn keeper(config: &Config, telemetry: &TelemetryHub) -> (Option<watch::Sender<Option<Kept>>>, Option<Kept>) {
    let Some(folder) = config.state_directory.clone() else {
        tracing::info!("stateDirectory is not set: a start without a good policy file will have no policy");
        return (None, None);
    };
    let (store, last_good, torn) = LastGood::open(folder.clone());
    for torn in torn {
        tracing::error!("a kept policy is lost: {torn}");
        telemetry.process().policy_store_failed();
    }
    let accepted = watch::Sender::new(None);
    let hub = telemetry.clone();
    tokio::spawn(discovery::keep(store, accepted.clone(), move |error| {
        let folder = folder.display();
        tracing::error!("stateDirectory {folder}: the policy cannot be kept: {error}; traffic goes on");
        hub.process().policy_store_failed();
    }));
    (Some(accepted), last_good)
}
