//! `host [ ":" port ]`, byte by byte: in Host, in an absolute request-target, after CONNECT.
//!
//! Stricter than RFC 3986: a name has unreserved characters only (no percent-encoding, no sub-delims such as the comma
//! of a list), no userinfo (RFC 9110 section 4.2.4), and an address in brackets is an IPv6 address without a zone.

use super::bytes::{host_run, is_host};

/// Whether a whole Host value is one that the guard lets through: an authority, or nothing.
pub(in crate::http) fn is_host_value(value: &[u8]) -> bool {
    let mut authority = Authority::default();
    value.iter().all(|byte| authority.push(*byte)) && (value.is_empty() || authority.is_complete())
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Authority {
    at: At,
    port: u32,
    colons: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Start,
    Name,
    Ipv6,
    AfterIpv6,
    /// After the colon, with the number of digits seen.
    Port(u8),
}

impl Authority {
    /// Whether the byte may stand here.
    pub(super) fn push(&mut self, byte: u8) -> bool {
        let next = match (self.at, byte) {
            (At::Start, b'[') => At::Ipv6,
            (At::Ipv6, b']') if self.colons >= 2 => At::AfterIpv6,
            // Eight colons: `1:2:3:4:5:6:7::`.
            (At::Ipv6, b':') if self.colons < 8 => {
                self.colons += 1;
                At::Ipv6
            }
            (At::Ipv6, b'.') => At::Ipv6,
            (At::Ipv6, byte) if byte.is_ascii_hexdigit() => At::Ipv6,
            (At::Name | At::AfterIpv6, b':') => At::Port(0),
            (At::Start | At::Name, byte) if is_host(byte) => At::Name,
            (At::Port(digits @ 0..=4), b'0'..=b'9') => {
                self.port = self.port * 10 + u32::from(byte - b'0');
                At::Port(digits + 1)
            }
            _ => return false,
        };
        self.at = next;
        self.port <= 65_535
    }

    /// Takes the leading bytes that only lengthen a name.
    pub(super) fn take_name(&mut self, input: &[u8]) -> usize {
        match self.at {
            At::Name => host_run(input),
            _ => 0,
        }
    }

    pub(super) fn is_empty(self) -> bool {
        self.at == At::Start
    }

    /// Whether a host, with or without a port, is complete.
    pub(super) fn is_complete(self) -> bool {
        match self.at {
            At::Start | At::Ipv6 => false,
            At::Name | At::AfterIpv6 | At::Port(_) => true,
        }
    }

    /// Whether a host and a port are complete.
    pub(super) fn has_port(self) -> bool {
        matches!(self.at, At::Port(1..)) && self.port > 0
    }
}

#[cfg(test)]
mod tests {
    use super::Authority;

    fn parse(text: &str) -> Option<Authority> {
        let mut authority = Authority::default();
        text.bytes().all(|byte| authority.push(byte)).then_some(authority)
    }

    #[test]
    fn hosts_and_ports() {
        for good in ["a", "a.b:80", "10.0.0.1", "[::1]", "[::1]:8080", "a_b-c~d", "a:", "[1:2:3:4:5:6:7::]"] {
            assert!(parse(good).is_some_and(Authority::is_complete), "{good}");
        }
        let bad = [
            "a,b",
            "a b",
            "u@a",
            "a:80:80",
            "[::1",
            "[1]",
            "[::1%25eth0]",
            "a:x",
            "a:65536",
            "a%41",
            "[::1]a",
            ":80",
        ];
        for bad in bad {
            assert!(!parse(bad).is_some_and(Authority::is_complete), "{bad}");
        }
        assert!(parse("a:443").is_some_and(Authority::has_port));
        assert!(!parse("a:0").is_some_and(Authority::has_port));
        assert!(!parse("a:").is_some_and(Authority::has_port));
    }
}
