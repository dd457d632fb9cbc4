//! The live proof: connections that must be captured are, and those that must not be are not.
//!
//! For each family that the pod has, an address that nobody owns is dialled and must arrive at the outbound
//! capture port with that address as its original destination. If nobody listens on the port yet, this module
//! does for a moment; if the sidecar runs already, the arrival is read from the kernel's table of sockets and
//! the sidecar never notices. The pod's own address and the sidecar's uid must not arrive there.
//!
//! A packet's owner is the user of the thread that made its socket, so another uid needs no other process: a
//! thread takes it on, makes a socket and ends. Inbound capture begins with a packet from another
//! machine and can't be probed from inside the pod; the comparison of the table stands for it.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::geteuid;
use rustix::thread::{Uid, set_thread_res_uid};
use socket2::{Domain, SockFilter, Socket, Type};

use super::RedirectError;
use super::addresses::{self, Family};
use super::args::RuleOptions;
use super::ranges::{Field, Ranges};
use super::sockets;
use crate::accept::original_dst::original_dst;

/// A captured connection arrives within the machine: this is long for it.
const ARRIVAL: Duration = Duration::from_secs(2);
/// How long a connection that must leave the pod is watched for an arrival.
const BYPASS: Duration = Duration::from_millis(300);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);
/// The user `nobody`: anyone but the sidecar, when the check itself runs as the sidecar's user.
const NOBODY: u32 = 65534;

/// What one check found out.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    /// Nothing to prove here, and why.
    Note,
    Failed,
}

impl Finding {
    pub(super) const fn ok(text: String) -> Self {
        Self { verdict: Verdict::Ok, text }
    }

    pub(super) const fn failed(text: String) -> Self {
        Self { verdict: Verdict::Failed, text }
    }

    pub(super) const fn note(text: String) -> Self {
        Self { verdict: Verdict::Note, text }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.verdict {
            Verdict::Ok => "ok   ",
            Verdict::Note => "note ",
            Verdict::Failed => "FAIL ",
        };
        write!(f, "{word} {}", self.text)
    }
}

/// Probes each family; a failed probe is a finding, an error is a machine on which nothing can be probed.
pub(super) fn run(options: &RuleOptions) -> Result<Vec<Finding>, RedirectError> {
    let mut findings = Vec::new();
    for family in Family::ALL {
        let own = addresses::own(family)
            .map_err(|source| RedirectError::Io { what: "read this pod's addresses from /proc", source })?;
        if own.is_empty() {
            findings.push(Finding::note(format!("{}: not present in this pod", family.name())));
            continue;
        }
        match Probe::new(family, own, options) {
            Ok(probe) => findings.extend(probe.run()),
            Err(finding) => findings.push(finding),
        }
    }
    Ok(findings)
}

/// One family's probe: who watches the capture port, and the address to dial.
struct Probe {
    family: Family,
    own: Vec<IpAddr>,
    target: SocketAddr,
    watch: Watch,
    capture_port: u16,
    uid: u32,
}

/// Who holds the capture port.
enum Watch {
    Ours(TcpListener),
    Sidecar,
}

/// Where a dialled connection came out.
enum Arrival {
    /// At the capture port, with this original destination.
    Captured(SocketAddr),
    /// Not there, whoever may have answered.
    Elsewhere,
    /// Nobody could be reached.
    Nowhere(io::Error),
}

impl Probe {
    fn new(family: Family, own: Vec<IpAddr>, options: &RuleOptions) -> Result<Self, Finding> {
        let name = family.name();
        let capture_port = options.outbound_capture_port;
        let Some(target) = target(family, &own, options) else {
            return Err(Finding::note(format!("{name}: no route leads out of the pod, or all is excluded")));
        };
        let watch = match TcpListener::bind((family.loopback(), capture_port)) {
            Ok(listener) => Watch::Ours(listener),
            Err(e) if e.kind() == ErrorKind::AddrInUse => Watch::Sidecar,
            Err(e) => {
                let at = SocketAddr::new(family.loopback(), capture_port);
                return Err(Finding::failed(format!(
                    "{name}: {at}, where captured traffic goes, can't be used: {e}"
                )));
            }
        };
        Ok(Self { family, own, target, watch, capture_port, uid: options.uid })
    }

    fn run(&self) -> Vec<Finding> {
        let mut findings = vec![self.application_is_captured()];
        findings.extend(self.own.first().map(|address| self.own_address_is_not(*address)));
        findings.push(self.sidecar_is_not());
        findings
    }

    fn application_is_captured(&self) -> Finding {
        let (name, target, port) = (self.family.name(), self.target, self.capture_port);
        match self.dial_as(self.application(), ARRIVAL) {
            Ok(Arrival::Captured(original)) if original == target => {
                Finding::ok(format!("{name}: {target} arrives at port {port} with its original destination"))
            }
            Ok(Arrival::Captured(original)) => {
                Finding::failed(format!("{name}: {target} arrives at port {port} as {original}"))
            }
            Ok(Arrival::Elsewhere) => {
                Finding::failed(format!("{name}: {target} does not arrive at port {port}"))
            }
            Ok(Arrival::Nowhere(e)) => {
                Finding::failed(format!("{name}: {target} does not arrive at port {port}: {e}"))
            }
            Err(e) if self.application().is_some() => Finding::failed(format!(
                "{name}: can't be probed as the sidecar's user, uid {}, nor as another ({e}): run it as root",
                self.uid
            )),
            Err(e) => Finding::failed(format!("{name}: can't be probed: {e}")),
        }
    }

    fn own_address_is_not(&self, address: IpAddr) -> Finding {
        let subject = format!("{}: the pod's own address {address}", self.family.name());
        let direct = || {
            let listener = TcpListener::bind((address, 0))?;
            let own = listener.local_addr()?;
            let client = socket_of(self.application(), own)?;
            client.connect_timeout(&own.into(), ARRIVAL)?;
            accept_from(&listener, &client, Instant::now() + ARRIVAL)
        };
        match direct() {
            Ok(Some(_)) => Finding::ok(format!("{subject} bypasses capture")),
            Ok(None) => Finding::failed(format!("{subject} does not reach itself")),
            Err(e) => Finding::failed(format!("{subject} does not reach itself: {e}")),
        }
    }

    fn sidecar_is_not(&self) -> Finding {
        let (name, uid) = (self.family.name(), self.uid);
        match self.dial_as(Some(uid), BYPASS) {
            Ok(Arrival::Captured(_)) => {
                Finding::failed(format!("{name}: connections of uid {uid}, the sidecar's, are captured"))
            }
            Ok(Arrival::Elsewhere | Arrival::Nowhere(_)) => {
                Finding::ok(format!("{name}: connections of uid {uid} bypass capture"))
            }
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                Finding::note(format!("{name}: uid {uid} is not probed, for want of the capability SETUID"))
            }
            Err(e) => Finding::failed(format!("{name}: uid {uid} can't be probed: {e}")),
        }
    }

    /// The user to dial as, if we are the sidecar's.
    fn application(&self) -> Option<u32> {
        (geteuid().as_raw() == self.uid).then_some(NOBODY)
    }

    /// Dials the target as a user, or as ourselves.
    fn dial_as(&self, uid: Option<u32>, patience: Duration) -> io::Result<Arrival> {
        let deadline = Instant::now() + patience;
        let client = socket_of(uid, self.target)?;
        match &self.watch {
            Watch::Ours(listener) => match client.connect_timeout(&self.target.into(), patience) {
                Ok(()) => accepted_by_us(listener, &client, deadline),
                Err(e) => Ok(Arrival::Nowhere(e)),
            },
            Watch::Sidecar => match knock(&client, self.target)? {
                Ok(()) => self.seen_by_the_kernel(&client, deadline),
                Err(e) => Ok(Arrival::Nowhere(e)),
            },
        }
    }

    /// Looks for the other end of a half-open connection at the sidecar's port.
    fn seen_by_the_kernel(&self, client: &Socket, deadline: Instant) -> io::Result<Arrival> {
        let local = client.local_addr()?.as_socket().ok_or(ErrorKind::Unsupported)?;
        loop {
            if sockets::exists(self.capture_port, local)? {
                // Both ends of a connection on one machine share its tracking entry, and so the answer.
                let original = match self.family {
                    Family::V4 => client.original_dst_v4()?,
                    Family::V6 => client.original_dst_v6()?,
                };
                return original
                    .as_socket()
                    .map(Arrival::Captured)
                    .ok_or_else(|| ErrorKind::Unsupported.into());
            }
            if let Some(e) = client.take_error()? {
                return Ok(Arrival::Nowhere(e));
            }
            if Instant::now() >= deadline {
                return Ok(Arrival::Elsewhere);
            }
            thread::sleep(PAUSE);
        }
    }
}

/// An address and port that is routed out of the pod, not our own, and not excluded. The neighbours of an own
/// address serve where no default route leads to the documentation's networks.
fn target(family: Family, own: &[IpAddr], options: &RuleOptions) -> Option<SocketAddr> {
    let excluded_ports = Ranges::ports(&options.exclude_outbound_ports);
    let port = (9..=u16::MAX).find(|p| !excluded_ports.contains_port(*p))?;
    let field = if family == Family::V4 { Field::DestinationV4 } else { Field::DestinationV6 };
    let excluded = Ranges::networks(field, &options.exclude_outbound_cidrs);
    let neighbours = own.iter().flat_map(|a| (1..4).map(|n| neighbour(*a, n)));
    let routed = |a: &IpAddr| {
        UdpSocket::bind((family.unspecified(), 0)).and_then(|socket| socket.connect((*a, port))).is_ok()
    };
    std::iter::once(family.documentation())
        .chain(neighbours)
        .find(|a| !own.contains(a) && !excluded.contains_address(*a) && routed(a))
        .map(|a| SocketAddr::new(a, port))
}

fn neighbour(address: IpAddr, distance: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => IpAddr::V4((a.to_bits() ^ u32::from(distance)).into()),
        IpAddr::V6(a) => IpAddr::V6((a.to_bits() ^ u128::from(distance)).into()),
    }
}

/// A socket that belongs to another user, or to ourselves.
fn socket_of(uid: Option<u32>, target: SocketAddr) -> io::Result<Socket> {
    let maker = thread::spawn(move || {
        if let Some(uid) = uid.map(Uid::from_raw) {
            set_thread_res_uid(uid, uid, uid)?;
        }
        Socket::new(Domain::for_address(target), Type::STREAM, None)
    });
    maker.join().unwrap_or_else(|_| Err(io::Error::other("the thread that makes a socket ended early")))
}

/// Begins a connection that never completes: a filter drops what comes back. A running sidecar could close a
/// connection before anyone had looked; a half-open one stays in the kernel's table, and the sidecar does not
/// even meet it. The inner error is that the target can't be reached.
fn knock(client: &Socket, target: SocketAddr) -> io::Result<io::Result<()>> {
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K: how many bytes to keep
    client.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])?;
    client.set_nonblocking(true)?;
    match client.connect(&target.into()) {
        Err(e) if Errno::from_io_error(&e) == Some(Errno::INPROGRESS) => Ok(Ok(())),
        result => Ok(result),
    }
}

fn accepted_by_us(listener: &TcpListener, client: &Socket, deadline: Instant) -> io::Result<Arrival> {
    match accept_from(listener, client, deadline)? {
        Some(accepted) => Ok(Arrival::Captured(original_dst(&accepted)?.unwrap_or(accepted.local_addr()?))),
        None => Ok(Arrival::Elsewhere),
    }
}

/// The accepted end of `client`. Strangers that were captured meanwhile are closed.
fn accept_from(listener: &TcpListener, client: &Socket, deadline: Instant) -> io::Result<Option<TcpStream>> {
    let expected = client.local_addr()?.as_socket();
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Ok((stream, peer)) if Some(peer) == expected => return Ok(Some(stream)),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                thread::sleep(PAUSE);
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_near_and_not_oneself() {
        assert_eq!(neighbour("10.91.0.2".parse().unwrap(), 1), "10.91.0.3".parse::<IpAddr>().unwrap());
        assert_eq!(neighbour("fd91::2".parse().unwrap(), 3), "fd91::1".parse::<IpAddr>().unwrap());
    }
}
