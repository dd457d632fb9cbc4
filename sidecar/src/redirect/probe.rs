//! The live proof: connections that must be captured are, and those that must not be are not.
//!
//! For each family that the pod has, an address that nobody owns is dialled and must arrive at the outbound
//! capture port with that address as its original destination. If nobody listens on the port yet, this module
//! does for a moment; if the sidecar runs already, the arrival is read from the kernel's table of sockets. The
//! pod's own address and the sidecar's uid must not arrive there.
//!
//! The kernel takes a packet's owner from the credentials of the thread that made the socket, so another uid
//! needs no other process: a thread takes it on and ends. Inbound capture begins with a packet from another
//! machine and can't be probed from inside the pod; the comparison of the table stands for it.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::geteuid;
use rustix::thread::{Uid, set_thread_res_uid};
use socket2::SockRef;

use super::RedirectError;
use super::addresses::{self, Family};
use super::args::RuleOptions;
use super::ranges::{Field, Ranges};
use crate::accept::original_dst::original_dst;

/// A captured connection arrives within the machine: this is long for it.
const ARRIVAL: Duration = Duration::from_secs(2);
/// How long a connection that must leave the pod is watched for an arrival.
const BYPASS: Duration = Duration::from_millis(300);
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

    const fn note(text: String) -> Self {
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
        let uid = (geteuid().as_raw() == self.uid).then_some(NOBODY);
        let deadline = Instant::now() + ARRIVAL;
        // A sidecar may close a connection to nowhere before the table of sockets shows it: dial again.
        loop {
            let arrived = match dial(target, uid, ARRIVAL) {
                Ok(client) => self.arrival(&client, deadline),
                Err(e) => Err(e),
            };
            match arrived {
                Ok(Some(original)) if original == target => {
                    return Finding::ok(format!(
                        "{name}: {target} arrives at port {port} with its original destination"
                    ));
                }
                Ok(Some(original)) => {
                    return Finding::failed(format!("{name}: {target} arrives at port {port} as {original}"));
                }
                Ok(None) if Instant::now() < deadline => {}
                Ok(None) => {
                    return Finding::failed(format!(
                        "{name}: {target} is not captured: another answered there"
                    ));
                }
                Err(e) => {
                    return Finding::failed(format!("{name}: {target} is not captured at port {port}: {e}"));
                }
            }
        }
    }

    fn own_address_is_not(&self, address: IpAddr) -> Finding {
        let name = self.family.name();
        let direct = || {
            let listener = TcpListener::bind((address, 0))?;
            let client = dial(listener.local_addr()?, None, ARRIVAL)?;
            accept_from(&listener, &client, Instant::now() + ARRIVAL)
        };
        match direct() {
            Ok(Some(_)) => Finding::ok(format!("{name}: the pod's own address {address} bypasses capture")),
            Ok(None) => {
                Finding::failed(format!("{name}: the pod's own address {address} does not reach itself"))
            }
            Err(e) => {
                Finding::failed(format!("{name}: the pod's own address {address} does not reach itself: {e}"))
            }
        }
    }

    fn sidecar_is_not(&self) -> Finding {
        let (name, uid, target) = (self.family.name(), self.uid, self.target);
        let arrived = match dial(target, Some(uid), BYPASS) {
            Ok(client) => self.arrival(&client, Instant::now() + BYPASS),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                return Finding::note(format!(
                    "{name}: uid {uid} is not probed, for want of the capability SETUID"
                ));
            }
            // It left the pod, and nobody answered.
            Err(_) => Ok(None),
        };
        match arrived {
            Ok(None) => Finding::ok(format!("{name}: connections of uid {uid} bypass capture")),
            Ok(Some(_)) => {
                Finding::failed(format!("{name}: connections of uid {uid}, the sidecar's, are captured"))
            }
            Err(e) => Finding::failed(format!("{name}: uid {uid} can't be probed: {e}")),
        }
    }

    /// The original destination with which this connection came to the capture port, if it did.
    fn arrival(&self, client: &TcpStream, deadline: Instant) -> io::Result<Option<SocketAddr>> {
        match &self.watch {
            Watch::Ours(listener) => match accept_from(listener, client, deadline)? {
                Some(accepted) => Ok(Some(original_dst(&accepted)?.unwrap_or(accepted.local_addr()?))),
                None => Ok(None),
            },
            Watch::Sidecar if self.has_peer(client.local_addr()?)? => {
                self.tracked_destination(client).map(Some)
            }
            Watch::Sidecar => Ok(None),
        }
    }

    /// Whether a socket on the capture port has this peer.
    fn has_peer(&self, peer: SocketAddr) -> io::Result<bool> {
        for table in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
            match fs::read_to_string(table) {
                Ok(text) if sockets(&text).any(|s| s == (self.capture_port, peer)) => return Ok(true),
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(false)
    }

    /// Both ends of a connection on one machine share its tracking entry, and so the answer.
    fn tracked_destination(&self, client: &TcpStream) -> io::Result<SocketAddr> {
        let socket = SockRef::from(client);
        let address = match self.family {
            Family::V4 => socket.original_dst_v4(),
            Family::V6 => socket.original_dst_v6(),
        };
        address?.as_socket().ok_or_else(|| ErrorKind::Unsupported.into())
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

/// Connects as another user, or as ourselves.
fn dial(target: SocketAddr, uid: Option<u32>, patience: Duration) -> io::Result<TcpStream> {
    let dialler = thread::spawn(move || {
        if let Some(uid) = uid.map(Uid::from_raw) {
            set_thread_res_uid(uid, uid, uid)?;
        }
        TcpStream::connect_timeout(&target, patience)
    });
    dialler.join().unwrap_or_else(|_| Err(io::Error::other("the dialling thread ended early")))
}

/// The accepted end of `client`. Strangers that were captured meanwhile are closed.
fn accept_from(
    listener: &TcpListener,
    client: &TcpStream,
    deadline: Instant,
) -> io::Result<Option<TcpStream>> {
    let expected = client.local_addr()?;
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Ok((stream, peer)) if peer == expected => return Ok(Some(stream)),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(2));
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(e),
        }
    }
}

/// Local port and peer of each socket in a table of /proc/net/tcp's form: hexadecimal, and every 32 bits of
/// an address in the machine's own byte order.
fn sockets(table: &str) -> impl Iterator<Item = (u16, SocketAddr)> + '_ {
    table.lines().skip(1).filter_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let (_, local_port) = columns.next()?.split_once(':')?;
        let (peer, peer_port) = columns.next()?.split_once(':')?;
        let port = |hex| u16::from_str_radix(hex, 16).ok();
        Some((port(local_port)?, SocketAddr::new(table_address(peer)?, port(peer_port)?)))
    })
}

fn table_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    if hex.len() == 8 {
        return Some(IpAddr::from(word(0)?));
    }
    let mut bytes = [0; 16];
    for (n, chunk) in bytes.chunks_exact_mut(4).enumerate() {
        chunk.copy_from_slice(&word(n * 8)?);
    }
    Some(IpAddr::from(bytes).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_table_of_sockets_is_read() {
        let v4 = "  sl  local_address rem_address   st\n   \
            0: 0100007F:3A99 0200 5B0A 01\n   1: 0100007F:3A99 02005B0A:9C40 01 00000000:00000000\n";
        assert_eq!(sockets(v4).collect::<Vec<_>>(), [(15001, "10.91.0.2:40000".parse().unwrap())]);
        let v6 = "header\n 0: 00000000000000000000000001000000:3A99 000091FD000000000000000002000000:9C40 01\n \
            1: 0000000000000000FFFF00000100007F:3A99 0000000000000000FFFF000002005B0A:9C41 01\n";
        assert_eq!(
            sockets(v6).collect::<Vec<_>>(),
            [(15001, "[fd91::2]:40000".parse().unwrap()), (15001, "10.91.0.2:40001".parse().unwrap())]
        );
    }

    #[test]
    fn neighbours_are_near_and_not_oneself() {
        assert_eq!(neighbour("10.91.0.2".parse().unwrap(), 1), "10.91.0.3".parse::<IpAddr>().unwrap());
        assert_eq!(neighbour("fd91::2".parse().unwrap(), 3), "fd91::1".parse::<IpAddr>().unwrap());
    }
}
