//! Ranges of addresses.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// An address with the number of its leading bits that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// Its bits beyond the prefix are not set.
    pub network: IpAddr,
    /// How many bits count.
    pub prefix: u8,
}

impl Cidr {
    /// All IPv4 addresses.
    pub const EVERY_IPV4: Self = Self { network: IpAddr::V4(Ipv4Addr::UNSPECIFIED), prefix: 0 };
    /// All IPv6 addresses.
    pub const EVERY_IPV6: Self = Self { network: IpAddr::V6(Ipv6Addr::UNSPECIFIED), prefix: 0 };

    /// Whether an address lies in it. A v4-mapped v6 address is v4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4() && mask(address, self.prefix) == self.network
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let network: IpAddr =
            address.parse().map_err(|_| "write an IPv4 or IPv6 address or CIDR".to_owned())?;
        // Connections are compared as IPv4, so that such a range would hold nothing.
        if network.to_canonical() != network {
            return Err(format!("it is IPv4 within IPv6: write {} and its prefix", network.to_canonical()));
        }
        let width = if network.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => width,
            Some(p) => p
                .parse()
                .ok()
                .filter(|p| *p <= width)
                .ok_or_else(|| format!("the prefix length is 0 to {width}"))?,
        };
        let masked = Self { network: mask(network, prefix), prefix };
        if masked.network == network {
            return Ok(masked);
        }
        Err(format!("bits beyond the prefix are set: write {}/{prefix} or {network}", masked.network))
    }
}

fn mask(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((a.to_bits() & keep).into())
        }
        IpAddr::V6(a) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((a.to_bits() & keep).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_its_own_addresses() {
        for (range, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("fd00::/8", "fd12::1", "10.0.0.1"),
        ] {
            let range: Cidr = range.parse().unwrap();
            assert!(range.contains(inside.parse().unwrap()), "{range:?} {inside}");
            assert!(!range.contains(outside.parse().unwrap()), "{range:?} {outside}");
        }
        assert!("::ffff:10.0.0.0/104".parse::<Cidr>().unwrap_err().contains("10.0.0.0"));
        let all: Cidr = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("8.8.8.8".parse().unwrap()));
    }
}
