//! Why a call is refused. Each status that leaves here has details: `google.rpc.ErrorInfo` with a reason of this list, for
//! programs, which should not have to read sentences (AIP-193). Nowhere else is a status made; a test of the sources holds
//! that.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Whose reasons these are.
pub const DOMAIN: &str = "trama.dev";

macro_rules! reasons {
    ($($reason:ident = $name:literal, $code:ident, $meaning:literal;)*) => {
        /// Why a call is refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $(#[doc = $meaning] $reason,)*
        }

        impl Reason {
            /// All of them, in the order of the book.
            pub const ALL: &'static [Self] = &[$(Self::$reason,)*];

            /// The name on the wire, which stays for ever.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$reason => $name,)* }
            }

            /// The code of a status with this reason.
            pub const fn code(self) -> Code {
                match self { $(Self::$reason => Code::$code,)* }
            }

            /// What it means, for the book.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$reason => $meaning,)* }
            }
        }
    };
}

reasons! {
    NoCertificate = "NO_CERTIFICATE", Unauthenticated,
        "The connection shows no client certificate of this mesh: join by a token to get one";
    CertificateExpired = "CERTIFICATE_EXPIRED", Unauthenticated,
        "The client certificate of the connection has ended: connect with the next one";
    TokenRefused = "TOKEN_REFUSED", Unauthenticated,
        "The join token is not known, has ended or was used by another key";
    NotAdmin = "NOT_ADMIN", PermissionDenied,
        "The identity is none of `admin.identities`, and this is not the Unix socket";
    ForeignHello = "FOREIGN_HELLO", PermissionDenied,
        "A Hello names another identity or namespace than the certificate";
    IdentityRefused = "IDENTITY_REFUSED", PermissionDenied,
        "A signing request is for another identity than the token or the certificate, or for none of this mesh";
    BadRequest = "BAD_REQUEST", InvalidArgument,
        "A field of the request cannot be used: a violation with field, value and remedy";
    PolicyRefused = "POLICY_REFUSED", InvalidArgument,
        "What would hold afterwards is not good, nothing is changed: a violation for each problem";
    NoHello = "NO_HELLO", InvalidArgument,
        "A policy stream begins with another message than the Hello";
    BadMessage = "BAD_MESSAGE", InvalidArgument,
        "A message that cannot be read, or that makes no sense where it stands";
    Compressed = "COMPRESSED", Unimplemented,
        "A compressed message: send it as it is";
    UnknownMethod = "UNKNOWN_METHOD", Unimplemented,
        "This version has no such method, or not on this socket";
    NotFound = "NOT_FOUND", NotFound,
        "There is no such resource, sidecar, trace or service";
    VersionChanged = "VERSION_CHANGED", Aborted,
        "A resource is not at the version that was expected, nothing is changed: read it again";
    RevisionOutOfRange = "REVISION_OUT_OF_RANGE", OutOfRange,
        "A watch begins where nobody remembers: list, and watch from there";
    MessageTooLarge = "MESSAGE_TOO_LARGE", OutOfRange,
        "A message has more bytes than are taken (`limits.messageBytes`, `traces.messageBytes`)";
    TooMuch = "TOO_MUCH", ResourceExhausted,
        "More than a limit, which the message names, or than the disk has room for";
    TooManyStreams = "TOO_MANY_STREAMS", ResourceExhausted,
        "There are as many policy streams as there may be (`limits.streams`): come back, or to another control plane";
    TooManyStreamsOfIdentity = "TOO_MANY_STREAMS_OF_IDENTITY", ResourceExhausted,
        "The identity has as many policy streams as it may have (`limits.streamsPerIdentity`)";
    TooManyCertificates = "TOO_MANY_CERTIFICATES", ResourceExhausted,
        "An address asks to join, or an identity to be renewed, more often than it may (`limits.certificatesPerSecond`)";
    Flood = "FLOOD", ResourceExhausted,
        "More messages a second than a stream may bring (`limits.messagesPerSecond`)";
    SlowConsumer = "SLOW_CONSUMER", DeadlineExceeded,
        "A push was not acknowledged, or a watch's event not read, in time (`timeouts.acknowledge`)";
    HelloLate = "HELLO_LATE", DeadlineExceeded,
        "A policy stream brings no Hello in time (`timeouts.hello`)";
    TooFarBehind = "TOO_FAR_BEHIND", Unavailable,
        "Too much has changed since the last push was taken: come back and say what is held";
    NotReady = "NOT_READY", Unavailable,
        "The control plane does not know the policy yet: come back";
    Ending = "ENDING", Unavailable,
        "The control plane ends: come back";
    StoreUnavailable = "STORE_UNAVAILABLE", Unavailable,
        "The store cannot be used at the moment; its log says why";
    StoreDamaged = "STORE_DAMAGED", DataLoss,
        "The store's file is damaged; its log says what is lost";
    PolicyBroken = "POLICY_BROKEN", FailedPrecondition,
        "The policy in force is not good, such as after an upgrade that has become stricter: mend it";
    SidecarUnable = "SIDECAR_UNABLE", FailedPrecondition,
        "The sidecar answers no such questions: upgrade it";
    SidecarAmbiguous = "SIDECAR_AMBIGUOUS", FailedPrecondition,
        "Sidecars of several identities have this name: say which one is meant by `namespace/name@identity`";
    SidecarBusy = "SIDECAR_BUSY", ResourceExhausted,
        "The sidecar is asked too much already: ask again";
    SidecarSilent = "SIDECAR_SILENT", DeadlineExceeded,
        "The sidecar has not answered in time";
    SidecarGone = "SIDECAR_GONE", Unavailable,
        "The sidecar's stream ended before it answered; it comes back if it lives";
    SidecarAnswerTooLarge = "SIDECAR_ANSWER_TOO_LARGE", ResourceExhausted,
        "The sidecar's answer has more bytes than are taken; its own admin port tells all of it";
    SidecarAnswerForeign = "SIDECAR_ANSWER_FOREIGN", Internal,
        "The sidecar's answer is that to another question";
    Internal = "INTERNAL", Internal,
        "A fault of the control plane's; its log says more";
}

impl Reason {
    /// A status. `message` says to a person what is wrong, and what helps.
    pub(crate) fn status(self, message: impl Into<String>) -> Status {
        self.status_with(message, ErrorDetails::new(), &[])
    }

    /// The same, with what of the message a program may want by its name.
    pub(crate) fn status_of(self, message: impl Into<String>, metadata: &[(&str, &str)]) -> Status {
        self.status_with(message, ErrorDetails::new(), metadata)
    }

    /// The same with more details.
    pub(crate) fn status_with(
        self,
        message: impl Into<String>,
        mut details: ErrorDetails,
        metadata: &[(&str, &str)],
    ) -> Status {
        let metadata = metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        details.set_error_info(self.name(), DOMAIN, metadata.collect::<HashMap<_, _>>());
        Status::with_error_details(self.code(), message, details)
    }

    /// What a status of the gRPC library means, which has no details of its own.
    fn of_library(code: Code) -> Self {
        match code {
            Code::Unimplemented => Self::UnknownMethod,
            Code::OutOfRange => Self::MessageTooLarge,
            Code::NotFound => Self::NotFound,
            _ => Self::Internal,
        }
    }
}

/// The same status with details, if it has none yet.
pub(crate) fn named(status: Status) -> Status {
    if !status.details().is_empty() {
        return status;
    }
    let reason = Reason::of_library(status.code());
    let message = if status.message().is_empty() { reason.meaning() } else { status.message() };
    let details = ErrorDetails::with_error_info(reason.name(), DOMAIN, HashMap::new());
    Status::with_error_details(status.code(), message, details)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_status_has_its_reason_and_what_belongs_to_it() {
        for reason in Reason::ALL {
            let status = reason.status_of("words", &[("limit", "limits.streams")]);
            assert_eq!((status.code(), status.message()), (reason.code(), "words"));
            let info = status.get_details_error_info().unwrap();
            assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason.name(), DOMAIN));
            assert_eq!(info.metadata["limit"], "limits.streams");
        }
    }

    #[test]
    fn names_are_unique_and_in_capitals() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_')));
    }

    #[test]
    fn what_the_library_says_is_named_and_what_has_a_name_keeps_it() {
        let of = |status: Status| named(status).get_details_error_info().unwrap().reason;
        assert_eq!(of(Status::unimplemented("")), "UNKNOWN_METHOD");
        assert_eq!(of(Status::out_of_range("")), "MESSAGE_TOO_LARGE");
        assert_eq!(of(Status::data_loss("")), "INTERNAL");
        assert_eq!(of(Reason::Ending.status("")), "ENDING");
        assert_eq!(named(Status::unimplemented("words")).message(), "words");
        assert_eq!(named(Status::unimplemented("")).message(), Reason::UnknownMethod.meaning());
    }
}
