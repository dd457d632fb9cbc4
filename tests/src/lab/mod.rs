//! The network lab: real network namespaces as pods, with a bridge between them.
//!
//! ```text
//!   trama-PID-N-orders-1          trama-PID-N                 trama-PID-N-storefront
//!   eth0 10.91.0.1, fd91::1 ──── br0 10.91.255.254 ────────── eth0 10.91.0.2, fd91::2
//! ```
//!
//! Nothing touches the machine's own namespace. Every pod's default route leads to the bridge's namespace,
//! which answers "unreachable" for what nobody owns: so a service's virtual address ([`Lab::service`]) can be
//! dialled, is captured if there are capture rules, and fails at once if there are none.
//!
//! Namespaces are named after this process and go when the last value of a lab is dropped, also in a panic.
//! What a killed process left behind is swept away by the next lab. It takes root; without it, an error says so.

mod error;
mod ip;
mod pod;
mod sweep;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

pub use self::error::LabError;
pub use self::pod::Pod;
use crate::programs;

/// The bridge's end of every pod's default route.
const GATEWAY_V4: &str = "10.91.255.254";
const GATEWAY_V6: &str = "fd91::ffff";

/// A network of pods.
#[derive(Debug, Clone)]
pub struct Lab {
    fabric: Arc<Fabric>,
}

/// The bridge's namespace, and all that goes with the lab.
#[derive(Debug)]
struct Fabric {
    name: String,
    folder: PathBuf,
    pods: AtomicU16,
}

impl Lab {
    /// An empty network.
    pub fn new() -> Result<Self, LabError> {
        if !rustix::process::geteuid().is_root() {
            return Err(LabError::NotRoot);
        }
        for (program, package) in [("ip", "iproute2"), ("nsenter", "util-linux"), ("sh", "dash")] {
            programs::find(program).ok_or(LabError::Missing { program, package })?;
        }
        sweep::stale();
        let name = sweep::fresh_name();
        let folder = std::env::temp_dir().join(&name);
        let fabric = Arc::new(Fabric { name, folder, pods: AtomicU16::new(0) });
        fabric.build()?;
        Ok(Self { fabric })
    }

    /// A pod with an IPv4 and an IPv6 address. Its name must be unique in this lab, and short.
    pub fn pod(&self, name: &str, region: &str) -> Result<Pod, LabError> {
        let number = self.fabric.pods.fetch_add(1, Ordering::Relaxed) + 1;
        Pod::create(Arc::clone(&self.fabric), number, name, region)
    }

    /// The virtual addresses of a service: routed, and owned by nobody.
    #[must_use]
    pub fn service(&self, number: u8) -> [IpAddr; 2] {
        let v6 = Ipv6Addr::new(0xfd92, 0, 0, 0, 0, 0, 0, number.into());
        [Ipv4Addr::new(10, 92, 0, number).into(), v6.into()]
    }

    /// A folder that goes with the lab. Every user may read and write it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.fabric.folder
    }
}

impl Fabric {
    fn build(&self) -> Result<(), LabError> {
        open_folder(&self.folder).map_err(|source| LabError::Io { what: "make the lab's folder", source })?;
        ip::run(&["netns", "add", &self.name])?;
        ip::batch(
            &self.name,
            &[
                "link set lo up".into(),
                "link add br0 type bridge mcast_snooping 0".into(),
                format!("address add {GATEWAY_V4}/16 dev br0"),
                format!("address add {GATEWAY_V6}/64 dev br0 nodad"),
                "link set br0 up".into(),
                "route add unreachable default".into(),
                "route add unreachable ::/0 metric 1".into(),
            ],
        )?;
        // Only a router answers "unreachable"; and it must to everyone, not to one in a second.
        ip::set_sysctls(
            &self.name,
            &[
                ("net/ipv4/ip_forward", "1"),
                ("net/ipv6/conf/all/forwarding", "1"),
                ("net/ipv4/icmp_ratelimit", "0"),
                ("net/ipv6/icmp/ratelimit", "0"),
            ],
        )
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        sweep::remove(&self.name);
    }
}

fn open_folder(folder: &Path) -> std::io::Result<()> {
    fs::create_dir(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777))
}
