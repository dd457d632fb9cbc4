//! Who is at the other end of a connection.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use rustls_pki_types::CertificateDer;
use tonic::{Request, Status};
use trama_proto::spiffe::SpiffeId;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{farewell::Cut, reason::Reason};

/// The bits of an IPv6 address that its network was given: the others are its own to choose.
const GIVEN: u32 = 64;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    /// Whoever may open the Unix socket.
    Socket {
        /// Ends the connection.
        cut: Cut,
    },
    /// Somebody on the network.
    Network {
        /// Where.
        address: SocketAddr,
        /// What its client certificate proves, if it has one.
        proof: Option<Proof>,
        /// Ends the connection.
        cut: Cut,
    },
}

/// An identity with its end: a connection may outlive the certificate by which it began.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    id: SpiffeId,
    expires: u64,
}

impl Peer {
    /// What a finished handshake says.
    pub(crate) fn of(address: SocketAddr, connection: &rustls::ServerConnection) -> Self {
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        Self::Network { address, proof: certificate.and_then(Proof::of), cut: Cut::default() }
    }

    /// Whoever has opened the Unix socket.
    pub(crate) fn of_socket() -> Self {
        Self::Socket { cut: Cut::default() }
    }

    /// Somebody whose certificate ends at `expires`.
    #[cfg(test)]
    pub(crate) fn proved(id: &str, expires: u64) -> Self {
        let id = SpiffeId::parse(id).unwrap();
        let (address, proof) = (([127, 0, 0, 1], 1).into(), Some(Proof { id, expires }));
        Self::Network { address, proof, cut: Cut::default() }
    }

    /// Somebody who shows no certificate.
    #[cfg(test)]
    pub(crate) fn unproved(address: SocketAddr) -> Self {
        Self::Network { address, proof: None, cut: Cut::default() }
    }

    /// Who sent a request.
    pub(crate) fn of_request<T>(request: &Request<T>) -> Result<&Self, Status> {
        request.extensions().get().ok_or_else(|| Reason::Internal.status("a connection without a peer"))
    }

    /// The identity that it proves at `now`, in seconds since 1970.
    pub(crate) fn identity(&self, now: u64) -> Result<&SpiffeId, Status> {
        let proof = match self {
            Self::Network { proof, .. } => proof.as_ref(),
            Self::Socket { .. } => None,
        };
        let missing = "a client certificate of this mesh is needed; join by a token to get one";
        let Proof { id, expires } = proof.ok_or_else(|| Reason::NoCertificate.status(missing))?;
        if now >= *expires {
            let problem = "the client certificate has expired; connect with the next one";
            return Err(Reason::CertificateExpired.status_of(problem, &[("identity", id.as_str())]));
        }
        Ok(id)
    }

    /// What ends the connection.
    pub(crate) fn cut(&self) -> &Cut {
        match self {
            Self::Socket { cut } | Self::Network { cut, .. } => cut,
        }
    }

    /// Whom the handshake has proved, for as long as the connection lives: for bounds, never to let somebody do something.
    pub(crate) fn proved_by_handshake(&self) -> Option<&SpiffeId> {
        match self {
            Self::Network { proof, .. } => proof.as_ref().map(|proof| &proof.id),
            Self::Socket { .. } => None,
        }
    }

    /// Where it is; `None`: on this machine, at the Unix socket.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Network { address, .. } => Some(address.ip()),
            Self::Socket { .. } => None,
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket { .. } => f.write_str("the Unix socket"),
            Self::Network { address, proof: None, .. } => write!(f, "{address}"),
            Self::Network { address, proof: Some(proof), .. } => write!(f, "{} at {address}", proof.id),
        }
    }
}

impl Proof {
    /// `None`: the authority vouches for it, but it names no workload.
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let id = trama_sidecar::tls::spiffe_id_of(certificate).ok()?;
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let expires = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
        Some(Self { id, expires })
    }
}

/// Whose address it is: of IPv6 the network's, for a machine has all addresses of one.
pub(crate) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() >> (Ipv6Addr::BITS - GIVEN) << (Ipv6Addr::BITS - GIVEN);
            Ipv6Addr::from_bits(network).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_one_source_and_an_ipv4_address_is_one_however_it_is_written() {
        let of = |text: &str| source(text.parse().unwrap());
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), ip("2001:db8:1:2::"));
        assert_eq!(of("::ffff:10.0.0.7"), ip("10.0.0.7"));
        assert_ne!(of("10.0.0.7"), of("10.0.0.8"));
    }

    #[test]
    fn an_identity_ends_with_its_certificate() {
        let id = "spiffe://mesh.test/ns/shop/sa/orders";
        let peer = Peer::proved(id, 100);
        assert_eq!(peer.identity(99).unwrap().as_str(), id);
        assert_eq!(peer.identity(100).unwrap_err().code(), tonic::Code::Unauthenticated);
        assert_eq!(Peer::of_socket().identity(1).unwrap_err().code(), tonic::Code::Unauthenticated);
    }
}
