//! Which of the addresses that a captured connection may have dialled are this pod's to serve.

use std::net::{IpAddr, UdpSocket};

/// Whether others are served at an address: this pod has it, and it is not loopback.
///
/// Capture rewrites the destination before the kernel looks whether it may have come from outside. So what a neighbour
/// sends to 127.0.0.1 arrives as well, and to dial what was dialled would open what listens on loopback alone. An address
/// that only passes through this network may not be dialled either: the sidecar would be an open proxy.
///
/// `local` is the address that capture put in its place: the pod's first, and mostly the same.
pub fn serves(dialled: IpAddr, local: IpAddr) -> bool {
    let has = || UdpSocket::bind((dialled, 0)).is_ok();
    !dialled.is_loopback() && (dialled == local || has())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn loopback_and_others_addresses_are_not_served() {
        let first = ip("203.0.113.1");
        assert!(serves(first, first), "what capture left as it was is ours");
        for dialled in ["127.0.0.1", "127.0.0.53", "::1", "203.0.113.77", "2001:db8::77"] {
            assert!(!serves(ip(dialled), first), "{dialled}");
            assert!(!serves(ip(dialled), ip("127.0.0.1")), "{dialled}");
        }
        assert!(!serves(ip("127.0.0.1"), ip("127.0.0.1")));
    }
}
