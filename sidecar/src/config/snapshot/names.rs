//! The names that policy and requests share.

use std::{fmt, sync::Arc};

pub use trama_proto::spiffe::SpiffeId;

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
