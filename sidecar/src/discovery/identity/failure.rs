//! Why there is no new certificate, and what to do.

use std::path::PathBuf;

use rustls::{CertificateError, Error as TlsError};
use tonic::{Code, Status};

use crate::{
    discovery::control_plane::Unreachable,
    telemetry::{IdentityFailure as Reason, IdentityRequest},
    tls::{KeyError, Unfit},
};

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("controlPlane.join.token: {}: {problem}", path.display())]
    Token { path: PathBuf, problem: String },
    #[error("the signing request: {0}")]
    Request(#[from] KeyError),
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    #[error("the control plane does not answer in time")]
    Late,
    #[error("the control plane refuses: {}", status.message())]
    Refused { request: IdentityRequest, status: Box<Status> },
    #[error("the certificate that was given cannot be used: {0}")]
    Unfit(#[from] Unfit),
    #[error("the certificate that was given is for {given}")]
    Foreign { given: String },
    #[error("the certificate that was given is not valid: {0}")]
    Invalid(TlsError),
}

impl Failure {
    /// The one word for it.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Token { .. } => Reason::NoToken,
            Self::Request(_) => Reason::BadRequest,
            Self::Late => Reason::Unreachable,
            Self::Unreachable(Unreachable::Authorities(_)) => Reason::Untrusted,
            Self::Unreachable(unreachable) => {
                unreachable.tls().map_or(Reason::Unreachable, |error| match error {
                    TlsError::InvalidCertificate(_) => of_certificate(error, Reason::Untrusted),
                    TlsError::AlertReceived(_) => Reason::CertificateRefused,
                    _ => Reason::Unreachable,
                })
            }
            Self::Refused { request, status } => match (status.code(), request) {
                (Code::Unauthenticated, IdentityRequest::Join) => Reason::TokenRefused,
                (Code::Unauthenticated, IdentityRequest::Renew) => Reason::CertificateRefused,
                (Code::PermissionDenied, _) => Reason::IdentityRefused,
                (Code::InvalidArgument, _) => Reason::BadRequest,
                _ => Reason::Unavailable,
            },
            Self::Unfit(_) | Self::Foreign { .. } => Reason::BadAnswer,
            Self::Invalid(error) => of_certificate(error, Reason::BadAnswer),
        }
    }

    /// Whether the same proof would be refused again, so that it has to be another one.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(
            self.reason(),
            Reason::NoToken | Reason::TokenRefused | Reason::IdentityRefused | Reason::BadRequest
        )
    }

    /// What a person can do.
    pub(super) fn remedy(&self) -> &'static str {
        match self.reason() {
            Reason::NoToken => {
                "put a token into this file, of `tramactl join-token` for the identity of `controlPlane.join`"
            }
            Reason::TokenRefused => {
                "a token is good for one key and for some minutes: make a new one with `tramactl join-token` and put it \
                 into the file of `controlPlane.join.token`, which is read again when it changes"
            }
            Reason::IdentityRefused => {
                "the token, or the certificate, is for another identity: make the token for that of `controlPlane.join`"
            }
            Reason::CertificateRefused => {
                "the control plane does not take our certificate: is the clock right, and is it the same control plane? \
                 Once the certificate has ended, a new token joins anew"
            }
            Reason::Untrusted => {
                "whoever answers is not the control plane that is pinned: take the bundle that comes with the token for \
                 `controlPlane.bundle`, and see `controlPlane.identity`"
            }
            Reason::Clock => "the clocks of this machine and of the control plane differ: set them by NTP",
            Reason::Unreachable | Reason::Unavailable => "it is tried again; is the control plane up?",
            Reason::BadRequest | Reason::BadAnswer => {
                "sidecar and control plane do not understand each other: are their versions meant for each other?"
            }
        }
    }
}

fn of_certificate(error: &TlsError, otherwise: Reason) -> Reason {
    use CertificateError as E;
    match error {
        TlsError::InvalidCertificate(
            E::NotValidYet | E::NotValidYetContext { .. } | E::Expired | E::ExpiredContext { .. },
        ) => Reason::Clock,
        _ => otherwise,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn refused(request: IdentityRequest, code: Code) -> Failure {
        Failure::Refused { request, status: Box::new(Status::new(code, "no")) }
    }

    fn broken_off(error: TlsError) -> Failure {
        let error = io::Error::new(io::ErrorKind::InvalidData, error);
        Failure::Unreachable(Unreachable::Connect { address: "a:1".to_owned(), error })
    }

    #[test]
    fn a_refused_proof_is_told_from_what_may_pass() {
        use IdentityRequest::{Join, Renew};
        for (failure, reason, refusal) in [
            (refused(Join, Code::Unauthenticated), Reason::TokenRefused, true),
            (refused(Renew, Code::Unauthenticated), Reason::CertificateRefused, false),
            (refused(Join, Code::PermissionDenied), Reason::IdentityRefused, true),
            (refused(Join, Code::InvalidArgument), Reason::BadRequest, true),
            (refused(Join, Code::Unavailable), Reason::Unavailable, false),
            (refused(Renew, Code::Unknown), Reason::Unavailable, false),
            (Failure::Late, Reason::Unreachable, false),
        ] {
            assert_eq!((failure.reason(), failure.is_refusal()), (reason, refusal), "{failure}");
        }
    }

    #[test]
    fn a_clock_that_differs_has_a_name_of_its_own() {
        let invalid = TlsError::InvalidCertificate;
        for error in [CertificateError::NotValidYet, CertificateError::Expired] {
            assert_eq!(broken_off(invalid(error.clone())).reason(), Reason::Clock);
            assert_eq!(Failure::Invalid(invalid(error)).reason(), Reason::Clock);
        }
        let unknown = || invalid(CertificateError::UnknownIssuer);
        assert_eq!(broken_off(unknown()).reason(), Reason::Untrusted);
        assert_eq!(Failure::Invalid(unknown()).reason(), Reason::BadAnswer);
        let alert = TlsError::AlertReceived(rustls::AlertDescription::CertificateExpired);
        assert_eq!(broken_off(alert).reason(), Reason::CertificateRefused);
        let gone = io::Error::from(io::ErrorKind::ConnectionRefused);
        let gone = Failure::Unreachable(Unreachable::Connect { address: "a:1".to_owned(), error: gone });
        assert_eq!(gone.reason(), Reason::Unreachable);
    }
}
