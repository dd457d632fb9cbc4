//! Whom a request or an opaque stream goes to, and what is spoken there.

use std::{net::SocketAddr, sync::Arc};

use http::{Version, uri::Scheme};

use crate::{
    config::snapshot::{AppProtocol, BackendTls, MeshRecord, state::EndpointId},
    tls::Offer,
};

/// Whom to reach, and how.
#[derive(Clone, Debug)]
pub struct Target<'t> {
    /// Who it is: connections to the same are interchangeable.
    pub who: Who,
    /// The address to dial.
    pub address: SocketAddr,
    /// What is spoken there.
    pub leg: Leg<'t>,
}

/// What makes two upstreams the same.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Who {
    /// An endpoint of the policy.
    Endpoint(EndpointId),
    /// Our application.
    Application(SocketAddr),
    /// A destination outside the mesh.
    External(SocketAddr),
}

/// What is spoken to an upstream.
#[derive(Clone, Copy, Debug)]
pub enum Leg<'t> {
    /// HTTP/1.1 in the clear.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// TLS to an endpoint without a sidecar. Of an offer of both versions the endpoint's choice must be known before a
    /// request is sent: see [`Upstream::settled`].
    Tls(&'t Arc<BackendTls>, Offer),
    /// HTTP/2 over mutual TLS to the endpoint's sidecar.
    Mesh(&'t MeshRecord),
}

impl Leg<'_> {
    /// What is spoken in the clear: what policy says of the port, else what the client spoke.
    pub fn plain(protocol: AppProtocol, client: Version) -> Self {
        match protocol {
            AppProtocol::Http1 => Self::Http1,
            AppProtocol::Http2 | AppProtocol::Grpc => Self::Http2,
            AppProtocol::Auto | AppProtocol::Tcp if client == Version::HTTP_2 => Self::Http2,
            AppProtocol::Auto | AppProtocol::Tcp => Self::Http1,
        }
    }

    /// Whether HTTP/2 is spoken.
    pub const fn is_http2(&self) -> bool {
        matches!(self, Self::Http2 | Self::Mesh(_) | Self::Tls(_, Offer::Http2))
    }

    /// The scheme of what the application gets.
    pub const fn scheme(&self) -> Scheme {
        match self {
            Self::Tls(..) => Scheme::HTTPS,
            Self::Http1 | Self::Http2 | Self::Mesh(_) => Scheme::HTTP,
        }
    }
}
