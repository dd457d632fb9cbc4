//! Sets of ports or addresses, as merged ranges.
//!
//! The kernel keeps intervals and nft prints them as it likes: 10.0.0.0/8 and 11.0.0.0/8 come back as
//! 10.0.0.0/7. Merged ranges are the one form in which two sets that mean the same are equal. Merging also
//! keeps nft from refusing a set whose members overlap.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::args::Ports;
use crate::config::snapshot::Cidr;

/// The packet's field that a set is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    DestinationPort,
    DestinationV4,
    DestinationV6,
}

/// A set of values of one field: disjoint, sorted, with gaps in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ranges {
    pub(super) field: Field,
    spans: Vec<(u128, u128)>,
}

impl Ranges {
    pub(super) fn ports<'a>(ports: impl IntoIterator<Item = &'a Ports>) -> Self {
        let spans = ports.into_iter().map(|p| (p.first.into(), p.last.into()));
        Self::merge(Field::DestinationPort, spans.collect())
    }

    /// The networks that belong to the field's family.
    pub(super) fn networks<'a>(field: Field, cidrs: impl IntoIterator<Item = &'a Cidr>) -> Self {
        let ours = |c: &&Cidr| c.network.is_ipv4() == (field == Field::DestinationV4);
        let spans = cidrs.into_iter().filter(ours).map(|c| block(field, bits(c.network), c.prefix));
        Self::merge(field, spans.collect())
    }

    /// Reads the right side of a match in nft's JSON: a value, a range, a prefix or a set of these.
    pub(super) fn from_json(field: Field, value: &Value) -> Option<Self> {
        let spans = match value.get("set") {
            Some(set) => set.as_array()?.iter().map(|v| span(field, v)).collect::<Option<_>>()?,
            None => vec![span(field, value)?],
        };
        Some(Self::merge(field, spans))
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    pub(super) fn contains_port(&self, port: u16) -> bool {
        self.field == Field::DestinationPort && self.contains(port.into())
    }

    pub(super) fn contains_address(&self, address: IpAddr) -> bool {
        let field = if address.is_ipv4() { Field::DestinationV4 } else { Field::DestinationV6 };
        self.field == field && self.contains(bits(address))
    }

    fn contains(&self, value: u128) -> bool {
        self.spans.iter().any(|(lo, hi)| (*lo..=*hi).contains(&value))
    }

    fn merge(field: Field, mut spans: Vec<(u128, u128)>) -> Self {
        spans.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(spans.len());
        for (lo, hi) in spans {
            match merged.last_mut() {
                Some(last) if lo <= last.1.saturating_add(1) => last.1 = last.1.max(hi),
                _ => merged.push((lo, hi)),
            }
        }
        Self { field, spans: merged }
    }
}

impl fmt::Display for Ranges {
    /// As nft reads it: `tcp dport { 22, 8000-8100 }`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.field {
            Field::DestinationPort => "tcp dport",
            Field::DestinationV4 => "ip daddr",
            Field::DestinationV6 => "ip6 daddr",
        };
        let members: Vec<String> = self.spans.iter().map(|(lo, hi)| member(self.field, *lo, *hi)).collect();
        write!(f, "{name} {{ {} }}", members.join(", "))
    }
}

/// One member of a set: a value, a prefix where the range is one, or both ends.
fn member(field: Field, lo: u128, hi: u128) -> String {
    if lo == hi {
        return text(field, lo);
    }
    let prefix = match field {
        Field::DestinationPort => None,
        Field::DestinationV4 => (0..32).find(|p| block(field, lo, *p) == (lo, hi)),
        Field::DestinationV6 => (0..128).find(|p| block(field, lo, *p) == (lo, hi)),
    };
    match prefix {
        Some(prefix) => format!("{}/{prefix}", text(field, lo)),
        None => format!("{}-{}", text(field, lo), text(field, hi)),
    }
}

fn text(field: Field, value: u128) -> String {
    match field {
        Field::DestinationPort => value.to_string(),
        Field::DestinationV4 => Ipv4Addr::from_bits(value as u32).to_string(),
        Field::DestinationV6 => Ipv6Addr::from_bits(value).to_string(),
    }
}

/// First and last address of a network.
fn block(field: Field, network: u128, prefix: u8) -> (u128, u128) {
    let host = width(field) - u32::from(prefix);
    let ones = 1u128.checked_shl(host).map_or(u128::MAX, |n| n - 1);
    (network & !ones, network | ones)
}

const fn width(field: Field) -> u32 {
    match field {
        Field::DestinationPort => 16,
        Field::DestinationV4 => 32,
        Field::DestinationV6 => 128,
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => a.to_bits().into(),
        IpAddr::V6(a) => a.to_bits(),
    }
}

fn span(field: Field, value: &Value) -> Option<(u128, u128)> {
    if let Some(prefix) = value.get("prefix") {
        let length = u8::try_from(prefix.get("len")?.as_u64()?).ok()?;
        return Some(block(field, scalar(field, prefix.get("addr")?)?, length));
    }
    if let Some(range) = value.get("range") {
        return Some((scalar(field, range.get(0)?)?, scalar(field, range.get(1)?)?));
    }
    let value = scalar(field, value)?;
    Some((value, value))
}

fn scalar(field: Field, value: &Value) -> Option<u128> {
    match field {
        Field::DestinationPort => value.as_u64().map(u128::from),
        Field::DestinationV4 | Field::DestinationV6 => value.as_str()?.parse().ok().map(bits),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn networks(field: Field, cidrs: &[&str]) -> Ranges {
        let cidrs: Vec<Cidr> = cidrs.iter().map(|c| c.parse().unwrap()).collect();
        Ranges::networks(field, &cidrs)
    }

    #[test]
    fn overlapping_and_adjacent_members_merge() {
        let ports: Vec<Ports> = ["90", "22", "23-30", "25"].iter().map(|p| p.parse().unwrap()).collect();
        assert_eq!(Ranges::ports(&ports).to_string(), "tcp dport { 22-30, 90 }");
        let v4 = networks(Field::DestinationV4, &["11.0.0.0/8", "10.0.0.0/8", "10.1.0.0/16", "fd00::/8"]);
        assert_eq!(v4.to_string(), "ip daddr { 10.0.0.0/7 }");
        let three = networks(Field::DestinationV4, &["10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8"]);
        assert_eq!(three.to_string(), "ip daddr { 10.0.0.0-12.255.255.255 }");
        assert_eq!(networks(Field::DestinationV6, &["::/0", "10.0.0.0/8"]).to_string(), "ip6 daddr { ::/0 }");
    }

    #[test]
    fn every_spelling_of_nft_means_the_same() {
        let v4 = networks(Field::DestinationV4, &["10.0.0.0/8", "11.0.0.0/8", "1.2.3.4"]);
        for spelling in [
            json!({"set": [{"prefix": {"addr": "10.0.0.0", "len": 7}}, "1.2.3.4"]}),
            json!({"set": ["1.2.3.4", {"range": ["10.0.0.0", "11.255.255.255"]}]}),
        ] {
            assert_eq!(Ranges::from_json(Field::DestinationV4, &spelling), Some(v4.clone()));
        }
        let ports = Ranges::ports(&["22".parse().unwrap(), "23".parse().unwrap()]);
        assert_eq!(
            Ranges::from_json(Field::DestinationPort, &json!({"range": [22, 23]})),
            Some(ports.clone())
        );
        assert_eq!(Ranges::from_json(Field::DestinationPort, &json!({"set": [23, 22]})), Some(ports));
        assert_eq!(Ranges::from_json(Field::DestinationPort, &json!("@named")), None);
    }

    #[test]
    fn membership_is_told_by_family() {
        let v4 = networks(Field::DestinationV4, &["0.0.0.0/0"]);
        assert!(v4.contains_address("8.8.8.8".parse().unwrap()));
        assert!(!v4.contains_address("::1".parse().unwrap()));
        assert!(!v4.contains_port(80));
    }
}
