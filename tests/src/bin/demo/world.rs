//! Where the demo runs: as root in network namespaces, one per pod, joined by a bridge in a namespace of its own, so
//! that the machine's own network is not touched; otherwise on addresses of the loopback network.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::failure::{Failure, Result};

/// The namespace with the bridge; every namespace of the demo begins with this name.
const SWITCH: &str = "trama-demo";
/// The user that the capture rules leave alone.
pub(crate) const SIDECAR_USER: u32 = 2102;
/// Anybody else: `nobody` on Debian.
const APPLICATION_USER: u32 = 65534;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Namespaces,
    Loopback,
}

impl Place {
    /// Root may still lack the right to make namespaces, in a container.
    pub(crate) fn here() -> Self {
        let mut attempt = std::process::Command::new("unshare");
        let attempt = attempt.args(["--net", "--mount", "true"]).stderr(Stdio::null()).status();
        let permitted = attempt.is_ok_and(|status| status.success());
        if rustix::process::geteuid().is_root() && permitted { Self::Namespaces } else { Self::Loopback }
    }

    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Namespaces => "as root: a network namespace per pod, traffic is captured transparently",
            Self::Loopback => {
                "explicit mode, on loopback addresses (as root, traffic is captured transparently)"
            }
        }
    }
}

/// Who runs a program: what the sidecar sends is not captured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum User {
    Application,
    Sidecar,
    Root,
}

/// One application with its sidecar, and the address they share.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) name: &'static str,
    pub(crate) account: &'static str,
    pub(crate) region: &'static str,
    pub(crate) address: IpAddr,
    place: Place,
}

impl Pod {
    pub(crate) fn new(
        place: Place,
        name: &'static str,
        account: &'static str,
        region: &'static str,
        number: u8,
    ) -> Self {
        let address = match place {
            Place::Namespaces => Ipv4Addr::new(10, 77, number, 1),
            Place::Loopback => Ipv4Addr::new(127, 77, number, 1),
        };
        Self { name, account, region, address: address.into(), place }
    }

    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, port)
    }

    pub(crate) fn namespace(&self) -> String {
        format!("{SWITCH}-{}", self.name)
    }

    /// What to put before a command line to run it in this pod by hand.
    pub(crate) fn prefix(&self) -> String {
        match self.place {
            Place::Namespaces => format!("ip netns exec {} ", self.namespace()),
            Place::Loopback => String::new(),
        }
    }

    /// A command in the pod that dies with the demo, whatever the demo dies of.
    pub(crate) fn command(&self, user: User, program: &Path) -> Command {
        let mut command = match self.place {
            Place::Loopback => Command::new("setpriv"),
            Place::Namespaces => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &self.namespace(), "setpriv"]);
                let id = match user {
                    User::Application => APPLICATION_USER,
                    User::Sidecar => SIDECAR_USER,
                    User::Root => 0,
                };
                let id = id.to_string();
                command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
                command
            }
        };
        command.args(["--pdeathsig", "KILL"]).arg(program).kill_on_drop(true);
        // Ctrl-C is for the demo alone, which then takes the others down in order.
        command.process_group(0);
        command
    }
}

/// The network between the pods; it is taken down when this is dropped.
pub(crate) struct Network {
    place: Place,
}

impl Network {
    pub(crate) fn make(place: Place, pods: &[Pod]) -> Result<Self> {
        if place == Place::Loopback {
            return Ok(Self { place });
        }
        // What a demo that was killed left behind.
        remove_namespaces()?;
        let network = Self { place };
        ip(&["netns", "add", SWITCH])?;
        ip(&["-n", SWITCH, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", SWITCH, "link", "set", "bridge", "up"])?;
        pods.iter().try_for_each(plug_in)?;
        Ok(network)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if self.place == Place::Namespaces
            && let Err(failure) = remove_namespaces()
        {
            eprintln!("{failure}");
        }
    }
}

fn plug_in(pod: &Pod) -> Result<()> {
    let (namespace, port) = (pod.namespace(), format!("to-{}", pod.region));
    let port = if pod.account == "storefront" { "to-client".to_owned() } else { port };
    let port: String = port.chars().take(15).collect();
    ip(&["netns", "add", &namespace])?;
    ip(&["-n", SWITCH, "link", "add", &port, "type", "veth", "peer", "eth0", "netns", &namespace])?;
    ip(&["-n", SWITCH, "link", "set", &port, "master", "bridge", "up"])?;
    ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
    ip(&["-n", &namespace, "address", "add", &format!("{}/16", pod.address), "dev", "eth0"])?;
    ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
    // A service's address lies on no interface. A connection to it needs some route before it can be captured.
    ip(&["-n", &namespace, "route", "add", "default", "dev", "eth0"])
}

fn remove_namespaces() -> Result<()> {
    let list = std::process::Command::new("ip").args(["netns", "list"]).output();
    let list = list.map_err(Failure::on("run", "`ip netns list`"))?;
    let text = String::from_utf8_lossy(&list.stdout).into_owned();
    let names = text.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| name.starts_with(SWITCH)).try_for_each(|name| ip(&["netns", "delete", name]))
}

fn ip(arguments: &[&str]) -> Result<()> {
    let mut command = std::process::Command::new("ip");
    let output = command.args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(Failure::on("run", "`ip`"))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure(format!("`ip {}` failed: {why}", arguments.join(" "))))
}
