//! Where a captured connection was meant to go.
//!
//! REDIRECT rewrites a connection's destination; the kernel keeps the first one in its connection tracking
//! and tells it by SO_ORIGINAL_DST (netfilter_ipv4.h, netfilter_ipv6/ip6_tables.h).

use std::io;
use std::net::{SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;

use rustix::io::Errno;
use socket2::SockRef;

/// The address that the peer dialled, or nothing if the connection came without being redirected.
///
/// A tracked connection that was not redirected answers with its own local address, an untracked one with
/// an error: both mean that nobody captured it. A connection that was meant for the very address and port
/// that accepted it looks the same; either way its target is ourselves.
pub fn original_dst(socket: impl AsFd) -> io::Result<Option<SocketAddr>> {
    let socket = SockRef::from(&socket);
    let local = canonical(socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?);
    // IPv4 over a dual-stack socket is tracked as IPv4: the v6 option knows nothing of it.
    let original = match local {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    match original {
        Ok(address) => Ok(address.as_socket().map(canonical).filter(|original| *original != local)),
        Err(e) if is_untracked(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// No entry, or connection tracking isn't even loaded in this namespace.
fn is_untracked(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOPROTOOPT))
}

/// `::ffff:10.0.0.1` is written 10.0.0.1. The flow label doesn't name a destination, and the scope only that of a link-local
/// address, which cannot be dialled without.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(near) if near.ip().is_unicast_link_local() => {
            SocketAddrV6::new(*near.ip(), near.port(), 0, near.scope_id()).into()
        }
        _ => SocketAddr::new(address.ip().to_canonical(), address.port()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_that_nobody_redirected_has_none() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            let dialled = if address.starts_with("127") { "127.0.0.1" } else { "::1" };
            let _client = TcpStream::connect((dialled, port)).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            assert_eq!(original_dst(&accepted).unwrap(), None, "{address}");
        }
    }

    #[test]
    fn mapped_addresses_are_written_as_ipv4() {
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:80".parse().unwrap();
        assert_eq!(canonical(mapped), "10.0.0.1:80".parse().unwrap());
    }

    #[test]
    fn only_a_link_local_address_keeps_its_scope() {
        let of =
            |ip: &str, flow, scope| SocketAddr::from(SocketAddrV6::new(ip.parse().unwrap(), 80, flow, scope));
        assert_eq!(canonical(of("fe80::1", 7, 3)), of("fe80::1", 0, 3));
        assert_eq!(canonical(of("fd91::1", 7, 3)), of("fd91::1", 0, 0));
    }
}
