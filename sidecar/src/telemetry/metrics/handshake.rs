//! How a TLS handshake ended, as a metric label: the words an operator looks for when a peer is refused.

use std::io;

use rustls::{CertificateError, Error};

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum HandshakeFailure {
    /// The peer's certificate is no longer valid.
    Expired,
    /// The peer's certificate is not valid yet: a clock is wrong.
    NotYetValid,
    /// The peer's certificate was signed by nobody we trust, or its signature is wrong.
    UnknownIssuer,
    /// The peer showed no certificate.
    Missing,
    /// The certificate is good, and somebody else's.
    WrongIdentity,
    /// The certificate cannot be used for another reason.
    BadCertificate,
    /// The peer refused us, our certificate perhaps.
    RefusedByPeer,
    /// It did not end in time.
    Timeout,
    /// The peer closed before the end.
    Closed,
    /// No protocol version, cipher suite, group or ALPN in common.
    Incompatible,
    /// This sidecar has no certificate of its own.
    NoIdentity,
    /// Anything else: garbage, or a broken rule of the protocol.
    Protocol,
}

impl HandshakeFailure {
    /// Every failure, in the order of the documentation.
    pub const ALL: &'static [Self] = &[
        Self::Expired,
        Self::NotYetValid,
        Self::UnknownIssuer,
        Self::Missing,
        Self::WrongIdentity,
        Self::BadCertificate,
        Self::RefusedByPeer,
        Self::Timeout,
        Self::Closed,
        Self::Incompatible,
        Self::NoIdentity,
        Self::Protocol,
    ];

    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::UnknownIssuer => "unknown_issuer",
            Self::Missing => "missing",
            Self::WrongIdentity => "wrong_identity",
            Self::BadCertificate => "bad_certificate",
            Self::RefusedByPeer => "refused_by_peer",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Incompatible => "incompatible",
            Self::NoIdentity => "no_identity",
            Self::Protocol => "protocol",
        }
    }

    /// What an acceptor's or connector's error means: they wrap rustls's error in an I/O error.
    pub fn of_io(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
        match (inner, error.kind()) {
            (Some(error), _) => Self::of(error),
            (None, io::ErrorKind::TimedOut) => Self::Timeout,
            (None, _) => Self::Closed,
        }
    }

    /// What rustls's error means.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::NoCertificatesPresented => Self::Missing,
            Error::InvalidCertificate(certificate) => Self::of_certificate(certificate),
            Error::AlertReceived(_) => Self::RefusedByPeer,
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Self::Incompatible,
            _ => Self::Protocol,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
            CertificateError::NotValidForName
            | CertificateError::NotValidForNameContext { .. }
            | CertificateError::ApplicationVerificationFailure => Self::WrongIdentity,
            _ => Self::BadCertificate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_certificate_is_named_by_its_reason() {
        let certificate = |e| HandshakeFailure::of(&Error::InvalidCertificate(e)).name();
        assert_eq!(certificate(CertificateError::Expired), "expired");
        assert_eq!(certificate(CertificateError::UnknownIssuer), "unknown_issuer");
        assert_eq!(certificate(CertificateError::ApplicationVerificationFailure), "wrong_identity");
        assert_eq!(certificate(CertificateError::Revoked), "bad_certificate");
        assert_eq!(HandshakeFailure::of(&Error::NoCertificatesPresented).name(), "missing");
    }

    #[test]
    fn an_io_error_is_looked_into() {
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, Error::NoCertificatesPresented);
        assert_eq!(HandshakeFailure::of_io(&wrapped), HandshakeFailure::Missing);
        assert_eq!(HandshakeFailure::of_io(&io::ErrorKind::UnexpectedEof.into()), HandshakeFailure::Closed);
        assert_eq!(HandshakeFailure::of_io(&io::ErrorKind::TimedOut.into()), HandshakeFailure::Timeout);
    }
}
