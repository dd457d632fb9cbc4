//! Identities of workloads (SPIFFE-ID standard).

use std::{
    fmt::{self, Display, Formatter},
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A workload's identity: `spiffe://<trust domain>/<path>` (SPIFFE-ID standard, section 2).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SpiffeId(Arc<str>);

impl SpiffeId {
    /// Parses an id; the error says which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let rest = text.strip_prefix("spiffe://").ok_or("a SPIFFE id begins with spiffe://")?;
        let (domain, path) =
            rest.split_once('/').ok_or("a workload's SPIFFE id has a path after the trust domain")?;
        let domain_ok =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if domain.is_empty() || !domain.bytes().all(domain_ok) {
            return Err("a trust domain has only a-z, 0-9, dot, dash and underscore");
        }
        let path_ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/');
        let segments_ok = path.split('/').all(|s| !s.is_empty() && s != "." && s != "..");
        if text.len() > 2048 || !path.bytes().all(path_ok) || !segments_ok {
            return Err("a SPIFFE path has non-empty segments of letters, digits, dot, dash and underscore");
        }
        Ok(Self(text.into()))
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as a cheap handle for logs.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &str {
        self.0["spiffe://".len()..].split('/').next().unwrap_or_default()
    }

    /// The usual identity of the control plane of this one's trust domain.
    pub fn control_plane(&self) -> Self {
        Self(format!("spiffe://{}/ns/trama-system/sa/trama-control-plane", self.trust_domain()).into())
    }

    /// The namespace of a workload of the form `spiffe://<trust domain>/ns/<namespace>/…`; `None`: it has another form.
    pub fn namespace(&self) -> Option<&str> {
        let mut path = self.0["spiffe://".len()..].split('/').skip(1);
        (path.next() == Some("ns")).then(|| path.next()).flatten()
    }
}

impl Display for SpiffeId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for SpiffeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SpiffeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spiffe_id_is_parsed_or_refused_with_the_rule() {
        let id = SpiffeId::parse("spiffe://trama.local/ns/shop/sa/orders").unwrap();
        assert_eq!((id.trust_domain(), id.namespace()), ("trama.local", Some("shop")));
        let control_plane = id.control_plane();
        assert_eq!(control_plane.as_str(), "spiffe://trama.local/ns/trama-system/sa/trama-control-plane");
        assert_eq!(SpiffeId::parse(control_plane.as_str()).as_ref(), Ok(&control_plane));
        assert_eq!(SpiffeId::parse("spiffe://ns/machine/7").unwrap().namespace(), None);
        for bad in [
            "http://x/y",
            "spiffe://",
            "spiffe://x",
            "spiffe:///ns",
            "spiffe://UP/ns",
            "spiffe://x/",
            "spiffe://x/a//b",
            "spiffe://x/../b",
            "spiffe://x/a b",
            "spiffe://x/a?b",
        ] {
            assert!(SpiffeId::parse(bad).is_err(), "{bad}");
        }
    }
}
