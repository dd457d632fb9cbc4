//! Names of namespaces, and their removal: a lab's own, and those of processes that were killed.

use std::fs;
use std::path::Path;
use std::process;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use super::ip;

const PREFIX: &str = "trama";

/// `trama-<this process>-<number>`; pods append their own name.
pub(super) fn fresh_name() -> String {
    static LABS: AtomicU32 = AtomicU32::new(0);
    format!("{PREFIX}-{}-{}", process::id(), LABS.fetch_add(1, Ordering::Relaxed))
}

/// Removes a lab: its processes, namespaces and folder. Failures have nobody to tell: what stays behind is
/// swept away by the next process's first lab.
pub(super) fn remove(lab: &str) {
    for namespace in names("/run/netns".as_ref()).filter(|n| belongs(n, lab)) {
        for pid in ip::run(&["netns", "pids", &namespace]).unwrap_or_default().split_whitespace() {
            let pid = pid.parse().ok().filter(|pid| *pid != process::id()).and_then(to_pid);
            let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
        }
        let _ = ip::run(&["netns", "delete", &namespace]);
    }
    let _ = fs::remove_dir_all(std::env::temp_dir().join(lab));
}

/// Removes the labs of processes that no longer live; once per process.
pub(super) fn stale() {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| {
        let folder = std::env::temp_dir();
        let mut labs: Vec<String> = names("/run/netns".as_ref())
            .chain(names(&folder))
            .filter_map(|n| lab_of_the_dead(&n, is_alive))
            .collect();
        labs.sort_unstable();
        labs.dedup();
        labs.iter().for_each(|lab| remove(lab));
    });
}

fn belongs(namespace: &str, lab: &str) -> bool {
    namespace.strip_prefix(lab).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The lab that a name belongs to, if its process is gone.
fn lab_of_the_dead(name: &str, is_alive: impl Fn(u32) -> bool) -> Option<String> {
    let mut parts = name.strip_prefix(PREFIX)?.strip_prefix('-')?.split('-');
    let pid: u32 = parts.next()?.parse().ok()?;
    let number: u32 = parts.next()?.parse().ok()?;
    (!is_alive(pid)).then(|| format!("{PREFIX}-{pid}-{number}"))
}

fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

fn names(folder: &Path) -> impl Iterator<Item = String> + use<> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
}

fn to_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(pid.try_into().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_labs_of_the_dead_are_swept() {
        let alive = |pid| pid == 7;
        assert_eq!(lab_of_the_dead("trama-8-0-orders-1", alive), Some("trama-8-0".into()));
        assert_eq!(lab_of_the_dead("trama-8-12", alive), Some("trama-8-12".into()));
        for name in
            ["trama-7-0-orders-1", "trama-orders-1", "trama-8", "trama", "tramas-8-1", "cni-8-1", "8-1"]
        {
            assert_eq!(lab_of_the_dead(name, alive), None, "{name}");
        }
        assert!(belongs("trama-8-1", "trama-8-1") && belongs("trama-8-1-a", "trama-8-1"));
        assert!(!belongs("trama-8-10", "trama-8-1"));
    }
}
