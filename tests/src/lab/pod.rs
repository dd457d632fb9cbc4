//! One namespace as a pod: its addresses, what runs in it, and what this process does inside it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, Uid, move_into_link_name_space, set_thread_res_uid};

use super::{Fabric, GATEWAY_V4, GATEWAY_V6, LabError, ip};
use crate::process::{self, Process};
use crate::programs;

/// A pod: a handle that may be cloned; the lab lives as long as one of its pods.
#[derive(Debug, Clone)]
pub struct Pod {
    /// The name within the lab.
    pub name: String,
    /// The region that a test gave it.
    pub region: String,
    /// The network namespace.
    pub ns: String,
    /// Its IPv4 address.
    pub ip4: Ipv4Addr,
    /// Its IPv6 address.
    pub ip6: Ipv6Addr,
    fabric: Arc<Fabric>,
}

impl Pod {
    pub(super) fn create(
        fabric: Arc<Fabric>,
        number: u16,
        name: &str,
        region: &str,
    ) -> Result<Self, LabError> {
        let [high, low] = number.to_be_bytes();
        let pod = Self {
            name: name.to_owned(),
            region: region.to_owned(),
            ns: format!("{}-{name}", fabric.name),
            ip4: Ipv4Addr::new(10, 91, high, low),
            ip6: Ipv6Addr::new(0xfd91, 0, 0, 0, 0, 0, 0, number),
            fabric,
        };
        let (ns, fabric) = (&pod.ns, &pod.fabric.name);
        ip::run(&["netns", "add", ns])?;
        ip::batch(
            fabric,
            &[
                format!("link add veth{number} type veth peer name eth0 netns {ns}"),
                format!("link set veth{number} master br0 up"),
            ],
        )?;
        ip::batch(
            ns,
            &[
                "link set lo up".into(),
                format!("address add {}/16 dev eth0", pod.ip4),
                format!("address add {}/64 dev eth0 nodad", pod.ip6),
                "link set eth0 up".into(),
                format!("route add default via {GATEWAY_V4}"),
                format!("route add ::/0 via {GATEWAY_V6}"),
            ],
        )?;
        Ok(pod)
    }

    /// Starts a command in the pod as a user, in a process group of its own. Its output goes to a log.
    pub fn spawn(&self, command: &Command, uid: u32) -> Result<Process, LabError> {
        let program = PathBuf::from(command.get_program());
        let program = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = self.fresh(&format!("{program}.log"));
        Ok(Process::start(&format!("{program} in {}", self.name), &mut self.inner(command, uid)?, &log)?)
    }

    /// Runs a command in the pod to its end.
    pub fn run(&self, command: &Command, uid: u32, patience: Duration) -> Result<Output, LabError> {
        Ok(process::run(&mut self.inner(command, uid)?, patience)?)
    }

    /// Runs code of this process inside the pod's network, on a thread of its own. Sockets made there belong
    /// to the pod for ever, wherever they are used.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        self.enter(None, work)
    }

    /// The same as another user: sockets made there have that owner. The thread has no privileges left.
    pub fn inside_as<T: Send>(&self, uid: u32, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        self.enter(Some(uid), work)
    }

    /// Waits until somebody in the pod listens on a TCP port. It looks and does not connect, so that no server
    /// meets a client that says nothing.
    pub fn wait_port(&self, port: u16, patience: Duration) -> Result<(), LabError> {
        let deadline = Instant::now() + patience;
        self.inside(|| {
            while !is_listening(port) {
                if Instant::now() >= deadline {
                    let (name, awaited) = (self.name.clone(), format!("listener on port {port}"));
                    return Err(
                        process::ProcessError::Late { name, awaited, patience, log: String::new() }.into()
                    );
                }
                thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        })?
    }

    /// How many bytes have arrived for a TCP port of the pod and are not read.
    pub fn unread(&self, port: u16) -> Result<usize, LabError> {
        self.inside(|| unread(port))
    }

    /// Delays every packet that the pod sends.
    pub fn delay(&self, delay: Duration) -> Result<(), LabError> {
        let tc = programs::find("tc").ok_or(LabError::Missing { program: "tc", package: "iproute2" })?;
        let mut command = Command::new(tc);
        command.args(["qdisc", "replace", "dev", "eth0", "root", "netem", "limit", "100000", "delay"]);
        command.arg(format!("{}us", delay.as_micros()));
        let output = self.run(&command, 0, Duration::from_secs(10))?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.success() {
            true => Ok(()),
            false if stderr.contains("qdisc kind is unknown") => Err(LabError::NoNetem),
            false => Err(LabError::Command { command: "tc qdisc replace … netem".into(), stderr }),
        }
    }

    /// Both addresses.
    #[must_use]
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.ip4.into(), self.ip6.into()]
    }

    /// Writes a new file into the lab's folder, which every user may read and write.
    pub fn file(&self, name: &str, content: &[u8]) -> Result<PathBuf, LabError> {
        let path = self.fresh(name);
        fs::write(&path, content)
            .map_err(|source| LabError::Io { what: "write a file for a pod", source })?;
        Ok(path)
    }

    /// A path in the lab's folder that nothing else has.
    fn fresh(&self, name: &str) -> PathBuf {
        static FILES: AtomicU32 = AtomicU32::new(0);
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        self.fabric.folder.join(format!("{}-{number}-{name}", self.name))
    }

    /// The command as it has to be started from outside: the same, but in the namespace and as the user.
    fn inner(&self, command: &Command, uid: u32) -> Result<Command, LabError> {
        let nsenter = programs::find("nsenter")
            .ok_or(LabError::Missing { program: "nsenter", package: "util-linux" })?;
        let mut outer = Command::new(nsenter);
        outer.arg(format!("--net=/run/netns/{}", self.ns));
        outer.args([format!("--setuid={uid}"), format!("--setgid={uid}")]);
        outer.arg("--").arg(self.reachable(command.get_program(), uid)?).args(command.get_args());
        programs::copy_surroundings(command, &mut outer);
        Ok(outer)
    }

    /// The program, where the user can run it: builds in root's home are copied into the lab's folder.
    fn reachable(&self, program: &OsStr, uid: u32) -> Result<PathBuf, LabError> {
        let path = programs::find(&program.to_string_lossy()).unwrap_or_else(|| program.into());
        if uid == 0 || programs::is_open_to_all(&path) || !path.is_file() {
            return Ok(path);
        }
        let copy = self.fabric.folder.join(path.file_name().unwrap_or_default());
        let made = match copy.exists() {
            true => Ok(()),
            // Whole or not at all: another pod's process may be starting from the same copy.
            false => {
                let partial = self.fabric.folder.join(format!("{}.partial", self.ns));
                fs::copy(&path, &partial).and_then(|_| fs::rename(&partial, &copy))
            }
        };
        made.map_err(|source| LabError::Io { what: "copy a program for a pod", source })?;
        Ok(copy)
    }

    fn enter<T: Send>(&self, uid: Option<u32>, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let enter = || -> io::Result<()> {
            let namespace = File::open(format!("/run/netns/{}", self.ns))?;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            if let Some(uid) = uid.map(Uid::from_raw) {
                set_thread_res_uid(uid, uid, uid)?;
            }
            Ok(())
        };
        let joined = thread::scope(|scope| scope.spawn(|| enter().map(|()| work())).join());
        match joined {
            Ok(entered) => entered.map_err(|source| LabError::Io { what: "enter a pod's network", source }),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Whether a socket listens on the port in the calling thread's namespace. The tables' fourth column is the
/// state, 0A for listening.
fn is_listening(port: u16) -> bool {
    let suffix = format!(":{port:04X}");
    ["tcp", "tcp6"].iter().any(|table| {
        let table = fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
        table.lines().skip(1).any(|line| {
            let mut columns = line.split_whitespace().skip(1);
            columns.next().is_some_and(|local| local.ends_with(&suffix)) && columns.nth(1) == Some("0A")
        })
    })
}

/// The sum of what lies in the port's receive queues. The tables' second column is the local address, the fifth says how
/// much waits to be acknowledged and how much to be read.
fn unread(port: u16) -> usize {
    let suffix = format!(":{port:04X}");
    let waits = |line: &str| {
        let mut columns = line.split_whitespace().skip(1);
        columns.next().filter(|local| local.ends_with(&suffix))?;
        usize::from_str_radix(columns.nth(2)?.split_once(':')?.1, 16).ok()
    };
    let tables = ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")));
    tables.iter().flatten().flat_map(|table| table.lines().skip(1)).filter_map(waits).sum()
}
