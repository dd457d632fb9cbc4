//! The kernel's table of TCP sockets: /proc/net/tcp and tcp6 (proc_pid_net(5)).

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

/// Whether this network namespace has a socket with this local port and peer.
pub(super) fn exists(local_port: u16, peer: SocketAddr) -> io::Result<bool> {
    for table in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
        match fs::read_to_string(table) {
            Ok(text) if entries(&text).any(|entry| entry == (local_port, peer)) => return Ok(true),
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(false)
}

/// Local port and peer of each socket in a table of /proc/net/tcp's form: hexadecimal, and every 32 bits of
/// an address in the machine's own byte order.
fn entries(table: &str) -> impl Iterator<Item = (u16, SocketAddr)> + '_ {
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
        assert_eq!(entries(v4).collect::<Vec<_>>(), [(15001, "10.91.0.2:40000".parse().unwrap())]);
        let v6 = "header\n 0: 00000000000000000000000001000000:3A99 000091FD000000000000000002000000:9C40 01\n \
            1: 0000000000000000FFFF00000100007F:3A99 0000000000000000FFFF000002005B0A:9C41 01\n";
        assert_eq!(
            entries(v6).collect::<Vec<_>>(),
            [(15001, "[fd91::2]:40000".parse().unwrap()), (15001, "10.91.0.2:40001".parse().unwrap())]
        );
    }
}
