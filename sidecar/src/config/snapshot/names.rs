//! The names that policy and requests share.

use std::{fmt, sync::Arc};

/// Which policy a decision was made under: a rising number and a digest of the content.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Revision {
    /// Rises with each accepted change; 0 is the empty policy before the first.
    pub number: u64,
    /// A digest of the content, the same for the same policy on every sidecar.
    pub digest: u64,
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.number, self.digest)
    }
}

/// Where a snapshot comes from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Origin {
    /// Nowhere: no source of policy is configured.
    #[default]
    Nowhere,
    /// Nowhere yet: its source has not given one.
    Awaited,
    /// Its source.
    Source,
    /// The disk: it is the last good one, and its source has not given one since the start.
    LastGood,
}

impl Origin {
    /// The word for it on the admin side.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nowhere => "nowhere",
            Self::Awaited => "awaited",
            Self::Source => "source",
            Self::LastGood => "last_good",
        }
    }
}

/// A service's name and namespace.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServiceName {
    /// The name, a DNS label.
    pub name: Arc<str>,
    /// The namespace, a DNS label.
    pub namespace: Arc<str>,
    /// `namespace/name`, as metrics and logs say it.
    pub label: Arc<str>,
}

impl ServiceName {
    /// Joins a name and its namespace.
    pub fn new(name: &str, namespace: &str) -> Self {
        Self { name: name.into(), namespace: namespace.into(), label: format!("{namespace}/{name}").into() }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

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
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an application speaks on a port.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum AppProtocol {
    /// Told by the first bytes; the upstream is spoken to in the version that the client spoke.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge (RFC 9113 section 3.3).
    Http2,
    /// gRPC: HTTP/2, and our own errors are gRPC statuses.
    Grpc,
    /// Opaque bytes.
    Tcp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spiffe_id_is_parsed_or_refused_with_the_rule() {
        let id = SpiffeId::parse("spiffe://trama.local/ns/shop/sa/orders").unwrap();
        assert_eq!(id.trust_domain(), "trama.local");
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
