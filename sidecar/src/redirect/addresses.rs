//! The addresses of this network namespace, by family.
//!
//! From /proc, so that neither `ip` nor netlink is needed in the image. `thread-self` and not `self`: the
//! answer is about the calling thread's namespace, wherever the process's first thread may live.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address family that a pod can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    pub(super) const fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Self::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }
    }

    pub(super) const fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    /// An address that is for documentation only, so that nobody answers there (RFC 5737, RFC 3849).
    pub(super) const fn documentation(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        }
    }
}

/// Addresses other than loopback and link-local ones. A family without any is not present in the pod.
pub(super) fn own(family: Family) -> io::Result<Vec<IpAddr>> {
    let (path, parse): (_, fn(&str) -> Vec<IpAddr>) = match family {
        Family::V4 => ("/proc/thread-self/net/fib_trie", local_v4),
        Family::V6 => ("/proc/thread-self/net/if_inet6", global_v6),
    };
    match fs::read_to_string(path) {
        Ok(text) => Ok(parse(&text)),
        // A kernel without the family has no such file.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// The kernel's routing trie names each own address with a line `/32 host LOCAL` below it.
fn local_v4(trie: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut last: Option<Ipv4Addr> = None;
    for line in trie.lines().map(str::trim_start) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        }
        let Some(address) = last.filter(|_| line.starts_with("/32 host LOCAL")) else { continue };
        let address = IpAddr::V4(address);
        if !is_confined(address) && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// Lines of address, interface index, prefix length, scope, flags and name; hexadecimal.
fn global_v6(table: &str) -> Vec<IpAddr> {
    let address = |line: &str| u128::from_str_radix(line.split_whitespace().next()?, 16).ok();
    let all = table.lines().filter_map(address).map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)));
    all.filter(|a| !is_confined(*a)).collect()
}

fn is_confined(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.is_loopback() || a.is_link_local(),
        IpAddr::V6(a) => a.is_loopback() || a.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_link_local_do_not_make_a_family_present() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\nLocal:\n     \
            |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 10.91.0.0\n        /16 link UNICAST\n     \
            |-- 10.91.0.2\n        /32 host LOCAL\n     |-- 10.91.255.255\n        /32 link BROADCAST\n     \
            |-- 169.254.3.4\n        /32 host LOCAL\n     |-- 10.91.0.2\n        /32 host LOCAL\n";
        assert_eq!(local_v4(trie), ["10.91.0.2".parse::<IpAddr>().unwrap()]);
        let table = "fd910000000000000000000000000002 04 40 00 82     eth0\n\
            fe8000000000000000fc00fffe000001 04 40 20 80     eth0\n\
            00000000000000000000000000000001 01 80 10 80       lo\n";
        assert_eq!(global_v6(table), ["fd91::2".parse::<IpAddr>().unwrap()]);
        assert!(local_v4("").is_empty() && global_v6("").is_empty());
    }
}
