//! Where the demo runs: as root in the pods of a lab, which are network namespaces; otherwise on addresses of the
//! loopback network.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;
use trama_tests::lab::Lab;

use crate::failure::{Failure, Result};

/// The user that the capture rules leave alone.
pub(crate) const SIDECAR_USER: u32 = 2102;
/// Nobody else can open the control plane's folder.
pub(crate) const CONTROL_PLANE_USER: u32 = 2103;
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
                "explicit mode, on loopback addresses; capture takes root and network namespaces"
            }
        }
    }
}

/// The place, made. It is taken down when this is dropped.
pub(crate) struct World {
    lab: Option<Lab>,
}

impl World {
    pub(crate) fn make(place: Place) -> Result<Self> {
        let lab = match place {
            Place::Namespaces => Some(Lab::new().map_err(Failure::on("make", "the network"))?),
            Place::Loopback => None,
        };
        Ok(Self { lab })
    }

    pub(crate) fn place(&self) -> Place {
        if self.lab.is_some() { Place::Namespaces } else { Place::Loopback }
    }

    /// Addresses of a service, which lie on no machine. Without capture nobody would find the way to them.
    pub(crate) fn service(&self) -> Vec<IpAddr> {
        self.lab.iter().flat_map(|lab| lab.service(10)).collect()
    }
}

/// Who runs a program: what the sidecar sends is not captured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum User {
    Application,
    Sidecar,
    ControlPlane,
    Root,
}

/// One application with its sidecar, or the control plane, and the address that belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) name: &'static str,
    pub(crate) account: &'static str,
    pub(crate) region: &'static str,
    pub(crate) address: IpAddr,
    namespace: Option<String>,
}

impl Pod {
    /// The number makes its address on the loopback network.
    pub(crate) fn new(
        world: &World,
        name: &'static str,
        account: &'static str,
        region: &'static str,
        number: u8,
    ) -> Result<Self> {
        let (address, namespace) = match &world.lab {
            None => (Ipv4Addr::new(127, 77, number, 1), None),
            Some(lab) => {
                let pod = lab.pod(name, region).map_err(Failure::on("make the pod", name))?;
                (pod.ip4, Some(pod.ns))
            }
        };
        Ok(Self { name, account, region, address: address.into(), namespace })
    }

    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, port)
    }

    /// What to put before a command line to run it in this pod by hand.
    pub(crate) fn prefix(&self) -> String {
        self.namespace.as_ref().map_or_else(String::new, |namespace| format!("ip netns exec {namespace} "))
    }

    /// A command in the pod that dies with the demo, whatever the demo dies of.
    pub(crate) fn command(&self, user: User, program: &Path) -> Command {
        let mut command = match &self.namespace {
            None => Command::new("setpriv"),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace, "setpriv"]);
                let id = match user {
                    User::Application => APPLICATION_USER,
                    User::Sidecar => SIDECAR_USER,
                    User::ControlPlane => CONTROL_PLANE_USER,
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
