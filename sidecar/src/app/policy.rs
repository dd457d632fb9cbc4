//! Which policy holds: its source's, else the last good one of the disk, else none yet.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use trama_proto::{Problems, discovery::v1::Node};

use super::{StartError, certificates};
use crate::{
    admin,
    config::{
        bootstrap::{self, Config, Startup, WithoutPolicy},
        convert::Local,
        snapshot::{Origin, Snapshot, SpiffeId, UnknownDestination},
    },
    discovery::{
        self, Accepted, Beginning, ControlPlane, Kept, Policies, PolicyFile, PolicyStream, Slots, ToKeep,
    },
    telemetry::{PolicyUpdate, TelemetryHub},
    worker::{Answers, Shared},
};

/// How often it is said that there is no policy.
const REMINDER: Duration = Duration::from_secs(10);

/// Where policy comes from.
pub(super) enum Source {
    File(PathBuf),
    ControlPlane(bootstrap::ControlPlane),
}

impl Source {
    /// The one source, if there is any. `file` is the command line's, or else the configuration's, which excludes a control plane itself.
    pub(super) fn of(config: &Config, file: Option<PathBuf>) -> Result<Option<Self>, StartError> {
        match (file, &config.control_plane) {
            (Some(file), Some(_)) => Err(StartError::TwoSources(file)),
            (Some(file), None) => Ok(Some(Self::File(file))),
            (None, Some(control_plane)) => Ok(Some(Self::ControlPlane(control_plane.clone()))),
            (None, None) => Ok(None),
        }
    }
}

/// Follows the source of policy from now on, on the runtime that this is called on. What it gives turns true when the
/// listeners may open: with the first policy, or when it has been waited for long enough.
pub(super) fn follow(
    config: &Config,
    source: Option<Source>,
    (shared, answers, asked): (&Shared, Answers, &Arc<dyn admin::State>),
    telemetry: &TelemetryHub,
) -> watch::Receiver<bool> {
    let open = watch::Sender::new(false);
    let opened = open.subscribe();
    let Some(source) = source else {
        let outbound = fate(config.startup.without_policy);
        tracing::warn!(
            "no policy, and nowhere to have one from: outbound traffic {outbound}; name a file by --policy, or a `controlPlane`"
        );
        shared.snapshot.store(Arc::new(without_policy(config, Origin::Nowhere)));
        open.send_replace(true);
        return opened;
    };
    shared.snapshot.store(Arc::new(without_policy(config, Origin::Awaited)));
    let (keep, last_good) = keeper(config, telemetry);
    let Answers { questions, changes } = answers;
    let mut taker =
        Taker { shared: shared.clone(), changes, telemetry: telemetry.clone(), open: open.clone(), keep };
    // In this order: the first reading comes before the first complaint that there is none.
    match source {
        Source::File(path) => {
            let file = PolicyFile::new(path, local(config), last_good);
            tokio::spawn(file.watch(move |read| taker.take(read)));
        }
        Source::ControlPlane(control_plane) => {
            let beginning = Beginning {
                control_plane: way_to(&control_plane, shared),
                node: node(config),
                local: local(config),
                last_good,
                always: always(config),
                questions,
                asked: Arc::clone(asked),
            };
            let stream = PolicyStream::new(beginning, telemetry.clone());
            tokio::spawn(stream.follow(move |pushed| taker.take(pushed)));
        }
    }
    tokio::spawn(wait(config.startup, shared.clone(), open));
    opened
}

/// Where the control plane is, and who is at both ends of the way there: for policy, identity and spans.
pub(super) fn way_to(control_plane: &bootstrap::ControlPlane, shared: &Shared) -> ControlPlane {
    let expected = control_plane.identity.as_deref().map(SpiffeId::parse);
    ControlPlane {
        address: control_plane.address.clone(),
        pinned: control_plane.bundle.clone(),
        gives_identity: control_plane.join.is_some(),
        // One that is ill-formed does not come so far.
        expected: expected.and_then(Result::ok),
        identity: shared.certificates.identity.clone(),
    }
}

/// Who we are, to the control plane.
fn node(config: &Config) -> Node {
    let node = &config.node;
    Node {
        // Told by the identity in force.
        identity: String::new(),
        name: node.display_name(),
        namespace: node.namespace.clone(),
        region: node.region.clone(),
        zone: node.zone.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        // Told by the way to the control plane.
        addresses: Vec::new(),
    }
}

/// What is known to be needed before any request comes: our own service, whose filters stand before the application, and
/// those that listeners are for.
fn always(config: &Config) -> BTreeSet<Arc<str>> {
    let listeners = config.listeners.iter().filter_map(|listener| listener.service.as_ref());
    let listeners = listeners.map(|service| format!("{}/{}", service.namespace, service.name));
    config.node.service_label().into_iter().chain(listeners).map(Arc::from).collect()
}

/// What a sidecar is to policy.
pub(super) fn local(config: &Config) -> Local {
    Local { namespace: config.node.namespace.clone(), region: config.node.region.clone() }
}

/// Puts what the source says in force, and has it kept.
struct Taker {
    shared: Shared,
    /// Told of each change: requests wait for it.
    changes: watch::Sender<()>,
    telemetry: TelemetryHub,
    open: watch::Sender<bool>,
    keep: Option<watch::Sender<Option<ToKeep>>>,
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
        self.changes.send_replace(());
        match origin {
            Origin::LastGood => process.policy_from_disk(revision),
            _ => process.policy_update(PolicyUpdate::Accepted, revision),
        }
        self.open.send_replace(true);
        if let Some(keep) = &self.keep {
            keep.send_replace(Some(ToKeep { revision, content }));
        }
    }
}

/// Opens the listeners without a policy when it was waited for long enough, and complains as long as there is none.
async fn wait(startup: Startup, shared: Shared, open: watch::Sender<bool>) {
    let end = Instant::now() + startup.wait_for_policy;
    let mut is_first = true;
    while shared.snapshot.load().origin == Origin::Awaited {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            open.send_replace(true);
            let outbound = fate(startup.without_policy);
            tracing::error!("still no policy: outbound traffic {outbound} until there is one");
            sleep(REMINDER).await;
        } else {
            let seconds = left.as_secs_f64().round();
            // A control plane takes a moment to answer: there is nothing wrong with that.
            if is_first {
                tracing::info!(
                    "no policy yet: the listeners stay closed until there is one, for at most {seconds} s"
                );
            } else {
                tracing::error!(
                    "still no policy: the listeners stay closed until there is one, or for {seconds} s"
                );
            }
            sleep(left.min(REMINDER)).await;
        }
        is_first = false;
    }
}

/// What becomes of outbound traffic without a policy.
fn fate(without_policy: WithoutPolicy) -> &'static str {
    match without_policy {
        WithoutPolicy::PassThrough => "is passed on plainly",
        WithoutPolicy::Refuse => "is refused",
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
        && config.has_identity()
        && config.startup.plain_inbound == WithoutPolicy::Refuse;
    snapshot
}

/// What is kept on disk, and where policies are put that are to be kept.
fn keeper(
    config: &Config,
    telemetry: &TelemetryHub,
) -> (Option<watch::Sender<Option<ToKeep>>>, Option<Kept>) {
    let Some(folder) = config.state_directory.clone() else {
        tracing::info!("stateDirectory is not set: a start without its source of policy will have none");
        return (None, None);
    };
    let (store, last_good, torn) = Slots::open(folder.clone());
    for torn in torn {
        tracing::error!("a kept policy is lost: {torn}");
        telemetry.process().policy_store_failed();
    }
    let accepted = watch::Sender::new(None);
    let hub = telemetry.clone();
    let mut policies = Policies::new(store, last_good.as_ref());
    tokio::spawn(discovery::keep(
        move |policy| policies.save(policy),
        accepted.clone(),
        move |_, saved| {
            let Err(error) = saved else { return };
            let folder = folder.display();
            tracing::error!("stateDirectory {folder}: the policy cannot be kept: {error}; traffic goes on");
            hub.process().policy_store_failed();
        },
    ));
    (Some(accepted), last_good)
}
