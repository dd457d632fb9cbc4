//! What is counted once per process, mostly by the control side.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;

use super::identity::IdentityMetrics;
use crate::config::snapshot::Revision;

/// What became of a policy that arrived.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PolicyUpdate {
    /// It is in force.
    Accepted,
    /// It is what was in force already.
    Unchanged,
    /// It has an error; the old one stays in force.
    Refused,
}

/// What became of a push of the control plane.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PushResult {
    /// It is in force, and acknowledged.
    Acknowledged,
    /// Something in it cannot be used; it was told so.
    Refused,
    /// It was older than what is held, or made no sense; the stream was ended.
    Fault,
    /// It, or something in it, is of a later version; that was ignored.
    Unknown,
}

/// What certificates in files are for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CertificateUse {
    /// The workload's identity.
    Identity,
    /// An explicit listener.
    Listener,
    /// TLS to endpoints without a sidecar.
    Upstream,
}

/// How many endpoints are ejected now, by service and region.
pub type EjectedNow = BTreeMap<(Arc<str>, Arc<str>), u64>;

/// Counts and values of the process as a whole.
#[derive(Debug)]
pub struct ProcessMetrics {
    started: SystemTime,
    revision: AtomicU64,
    updates: [AtomicU64; 3],
    from_disk: AtomicBool,
    store_failures: AtomicU64,
    certificates: [[AtomicU64; 2]; CertificateUse::ALL.len()],
    connected: AtomicBool,
    stream_failures: AtomicU64,
    pushes: [AtomicU64; PushResult::ALL.len()],
    identity: IdentityMetrics,
    ejected: ArcSwap<EjectedNow>,
    pub(crate) log_dropped: AtomicU64,
    pub(crate) spans_exported: AtomicU64,
    pub(crate) spans_dropped: AtomicU64,
}

impl PolicyUpdate {
    /// Every outcome, in the order of the counters.
    pub(crate) const ALL: [Self; 3] = [Self::Accepted, Self::Unchanged, Self::Refused];

    /// The label's value.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

impl PushResult {
    /// Every outcome, in the order of the counters.
    pub(crate) const ALL: [Self; 4] = [Self::Acknowledged, Self::Refused, Self::Fault, Self::Unknown];

    /// The label's value.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Refused => "refused",
            Self::Fault => "fault",
            Self::Unknown => "unknown",
        }
    }
}

impl CertificateUse {
    /// Every use, in the order of the counters.
    pub(crate) const ALL: [Self; 3] = [Self::Identity, Self::Listener, Self::Upstream];

    /// The label's value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Listener => "listener",
            Self::Upstream => "upstream",
        }
    }
}

impl ProcessMetrics {
    pub(crate) fn new(started: SystemTime) -> Self {
        Self {
            started,
            revision: AtomicU64::new(0),
            updates: Default::default(),
            from_disk: AtomicBool::new(false),
            store_failures: AtomicU64::new(0),
            certificates: Default::default(),
            connected: AtomicBool::new(false),
            stream_failures: AtomicU64::new(0),
            pushes: Default::default(),
            identity: IdentityMetrics::default(),
            ejected: ArcSwap::default(),
            log_dropped: AtomicU64::new(0),
            spans_exported: AtomicU64::new(0),
            spans_dropped: AtomicU64::new(0),
        }
    }

    /// Counts a policy that arrived; `in_force` is the revision afterwards.
    pub fn policy_update(&self, update: PolicyUpdate, in_force: Revision) {
        self.updates[update as usize].fetch_add(1, Ordering::Relaxed);
        self.revision.store(in_force.number, Ordering::Relaxed);
        if update == PolicyUpdate::Accepted {
            self.from_disk.store(false, Ordering::Relaxed);
        }
    }

    /// The last good policy, from disk, is in force.
    pub fn policy_from_disk(&self, in_force: Revision) {
        self.revision.store(in_force.number, Ordering::Relaxed);
        self.from_disk.store(true, Ordering::Relaxed);
    }

    /// Counts a policy that could not be kept on disk, or a kept one that could not be read.
    pub fn policy_store_failed(&self) {
        self.store_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// The identity's part.
    pub fn identity(&self) -> &IdentityMetrics {
        &self.identity
    }

    /// Who is ejected, for the scrape that asks now.
    pub fn ejected(&self, now: EjectedNow) {
        self.ejected.store(Arc::new(now));
    }

    pub(crate) fn ejected_now(&self) -> Arc<EjectedNow> {
        self.ejected.load_full()
    }

    /// There is a stream of policy.
    pub fn control_plane_found(&self) {
        self.connected.store(true, Ordering::Relaxed);
    }

    /// There is none any more, or it could not be had.
    pub fn control_plane_lost(&self) {
        self.connected.store(false, Ordering::Relaxed);
        self.stream_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a push of the control plane.
    pub fn policy_push(&self, result: PushResult) {
        self.pushes[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn is_control_plane_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    pub(crate) fn stream_failures(&self) -> u64 {
        self.stream_failures.load(Ordering::Relaxed)
    }

    pub(crate) fn policy_pushes(&self, result: PushResult) -> u64 {
        self.pushes[result as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn policy_updates(&self, update: PolicyUpdate) -> u64 {
        self.updates[update as usize].load(Ordering::Relaxed)
    }

    /// Counts files that were read again; what cannot be used is refused.
    pub fn certificates_read(&self, of: CertificateUse, accepted: bool) {
        self.certificates[of as usize][usize::from(accepted)].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn certificate_updates(&self, of: CertificateUse, accepted: bool) -> u64 {
        self.certificates[of as usize][usize::from(accepted)].load(Ordering::Relaxed)
    }

    pub(crate) fn policy_revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }

    pub(crate) fn is_policy_from_disk(&self) -> bool {
        self.from_disk.load(Ordering::Relaxed)
    }

    pub(crate) fn policy_store_failures(&self) -> u64 {
        self.store_failures.load(Ordering::Relaxed)
    }

    pub(crate) fn started(&self) -> SystemTime {
        self.started
    }
}

/// What the kernel says of this process.
#[derive(Debug)]
pub(crate) struct Usage {
    /// Memory that is really there, in bytes.
    pub(crate) resident: u64,
    /// Processor time in user and kernel mode.
    pub(crate) cpu: Duration,
    /// Open file descriptors.
    pub(crate) descriptors: u64,
}

impl Usage {
    /// Reads it from /proc (proc_pid_stat(5), proc_pid_statm(5)); `None` where there is none.
    pub(crate) fn read() -> Option<Self> {
        let statm = fs::read_to_string("/proc/self/statm").ok()?;
        let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        Some(Self {
            resident: pages * rustix::param::page_size() as u64,
            cpu: cpu_time(&stat, rustix::param::clock_ticks_per_second())?,
            descriptors: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
        })
    }
}

/// The fields utime and stime. They are counted from after the command's name, which may hold spaces and parentheses.
fn cpu_time(stat: &str, ticks_per_second: u64) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / ticks_per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_may_hold_anything() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 12345 1 1";
        assert_eq!(cpu_time(stat, 100), Some(Duration::from_secs(3)));
    }

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::read().unwrap();
        assert!(usage.resident > 100_000 && usage.descriptors >= 3, "{usage:?}");
    }

    #[test]
    fn a_refused_policy_is_counted_and_leaves_the_revision() {
        let process = ProcessMetrics::new(SystemTime::UNIX_EPOCH);
        let revision = Revision { number: 7, digest: 1 };
        process.policy_update(PolicyUpdate::Accepted, revision);
        process.policy_update(PolicyUpdate::Refused, revision);
        assert_eq!(process.policy_revision(), 7);
        process.policy_from_disk(Revision { number: 5, digest: 1 });
        assert!(process.is_policy_from_disk() && process.policy_revision() == 5);
        process.policy_update(PolicyUpdate::Refused, revision);
        assert!(process.is_policy_from_disk());
        process.policy_update(PolicyUpdate::Accepted, revision);
        assert!(!process.is_policy_from_disk());
        assert_eq!(PolicyUpdate::ALL.map(|u| process.policy_updates(u)), [2, 0, 2]);
    }
}
