//! Why a request was not served: the closed set of named reasons.
//!
//! A [`Reason`] is a word that an operator reads in the access log, in a metric label and in our own answers, so a name
//! never changes its meaning. Each says which status the caller gets and whose fault it is; a [`Failure`] adds what
//! happened this time and whether the request may safely be tried elsewhere.

use std::fmt;

use http::StatusCode;

/// Whose doing a failure was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The peer that sent the request.
    Downstream,
    /// The peer that the request was sent to.
    Upstream,
    /// The policy: it worked as told.
    Policy,
    /// This sidecar, its limits included.
    Sidecar,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $status:ident, $fault:ident;)*) => {
        /// The named reason of a failure.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name: access log, metric label `reason`, header and body of our own answers.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The status that the caller sees, where an answer can still be given.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }

            /// The reason of this name.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.name() == name)
            }

            /// Whose doing it was.
            pub const fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault,)* }
            }
        }
    };
}

reasons! {
    /// The HTTP/1 guard or the HTTP/2 codec refused the bytes (RFC 9112 sections 2 to 7, RFC 9113 section 8.1.1).
    MalformedRequest = "malformed_request", BAD_REQUEST, Downstream;
    /// The request's head is over a limit of ours.
    HeadersTooLarge = "headers_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, Downstream;
    /// The request's head did not arrive in time.
    RequestHeaderTimeout = "request_header_timeout", REQUEST_TIMEOUT, Downstream;
    /// The downstream peer went away before it had its answer.
    DownstreamClosed = "downstream_closed", BAD_REQUEST, Downstream;
    /// The request's body broke off or was malformed.
    DownstreamBody = "downstream_body", BAD_REQUEST, Downstream;
    /// CONNECT or an upgrade that policy does not allow.
    UpgradeRefused = "upgrade_refused", NOT_IMPLEMENTED, Policy;
    /// No sidecar of a service that we know has this authority.
    UnknownAuthority = "unknown_authority", NOT_FOUND, Downstream;
    /// The destination is in no policy, and policy refuses such destinations.
    DestinationRefused = "destination_refused", FORBIDDEN, Policy;
    /// No rule of the service's routes matches.
    NoRoute = "no_route", NOT_FOUND, Policy;
    /// The matching rule names no backend that exists.
    NoBackend = "no_backend", INTERNAL_SERVER_ERROR, Policy;
    /// There is no policy yet.
    PolicyPending = "policy_pending", SERVICE_UNAVAILABLE, Sidecar;
    /// The control plane has not told in time what concerns the service, or some of it was refused.
    ServicePending = "service_pending", SERVICE_UNAVAILABLE, Sidecar;
    /// The service has no ready endpoint.
    NoEndpoint = "no_endpoint", SERVICE_UNAVAILABLE, Upstream;
    /// Every endpoint lies in a region that the service's residency forbids.
    ResidencyExhausted = "residency_exhausted", SERVICE_UNAVAILABLE, Policy;
    /// The endpoint did not accept a connection in time.
    ConnectTimeout = "connect_timeout", SERVICE_UNAVAILABLE, Upstream;
    /// The endpoint refused the connection, or no way leads there.
    ConnectFailed = "connect_failed", SERVICE_UNAVAILABLE, Upstream;
    /// The TLS handshake with the endpoint failed.
    TlsFailed = "tls_failed", SERVICE_UNAVAILABLE, Upstream;
    /// The endpoint's certificate carries another identity, or other names, than policy says.
    IdentityMismatch = "identity_mismatch", SERVICE_UNAVAILABLE, Upstream;
    /// We have no usable certificate of our own.
    NoIdentity = "no_identity", SERVICE_UNAVAILABLE, Sidecar;
    /// Policy names files for TLS that our configuration does not have, or that cannot be used.
    TlsNotConfigured = "tls_not_configured", SERVICE_UNAVAILABLE, Sidecar;
    /// The endpoint answered GOAWAY: it has not touched the request.
    UpstreamRefused = "upstream_refused", SERVICE_UNAVAILABLE, Upstream;
    /// The endpoint closed or reset before its answer was whole.
    UpstreamClosed = "upstream_closed", BAD_GATEWAY, Upstream;
    /// The endpoint's answer was not HTTP.
    UpstreamMalformed = "upstream_malformed", BAD_GATEWAY, Upstream;
    /// The route's time for the whole request ran out.
    RequestTimeout = "request_timeout", GATEWAY_TIMEOUT, Policy;
    /// The route's time for one attempt ran out.
    BackendRequestTimeout = "backend_request_timeout", GATEWAY_TIMEOUT, Upstream;
    /// No byte moved for the idle time-out.
    StreamIdle = "stream_idle", GATEWAY_TIMEOUT, Upstream;
    /// A circuit limit of the service is reached: connections, pending or concurrent requests.
    CircuitOpen = "circuit_open", SERVICE_UNAVAILABLE, Policy;
    /// Policy demands mutual TLS on this port and the connection was plain.
    PlainRefused = "plain_refused", FORBIDDEN, Policy;
    /// A filter refuses the connection or the request.
    Denied = "denied", FORBIDDEN, Policy;
    /// An AuthzPolicy refuses the caller, or none allows it.
    AuthzDenied = "authz_denied", FORBIDDEN, Policy;
    /// The port is one of the sidecar's own, or not one that this pod serves.
    PortRefused = "port_refused", FORBIDDEN, Policy;
    /// The application did not accept the connection, or its sidecar said so by REFUSED_STREAM: it never saw the request.
    ApplicationUnreachable = "application_unreachable", SERVICE_UNAVAILABLE, Upstream;
    /// The request would have come back to this sidecar.
    LoopDetected = "loop_detected", LOOP_DETECTED, Downstream;
    /// A filter answered in the application's place.
    FilterResponse = "filter_response", FORBIDDEN, Policy;
    /// A filter failed, and nothing passes without it.
    FilterFailed = "filter_failed", SERVICE_UNAVAILABLE, Sidecar;
    /// The sidecar ends and takes nothing new.
    Draining = "draining", SERVICE_UNAVAILABLE, Sidecar;
    /// A limit of this sidecar's own is reached.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, Sidecar;
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether the other side can have acted on the request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reached {
    /// The application cannot have seen it: any method may be tried again (RFC 9110 section 9.2.2).
    No,
    /// It may have: only what is idempotent may be tried again.
    Maybe,
}

/// One failure: the reason, what happened, and whether the request can have had an effect.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}{}", detail.as_ref().map(|d| format!(": {d}")).unwrap_or_default())]
pub struct Failure {
    /// The named reason.
    pub reason: Reason,
    /// Whether the request may have reached an application.
    pub reached: Reached,
    /// What happened, for the log; never shown to the peer.
    pub detail: Option<Box<str>>,
}

impl Failure {
    /// A failure before the request could have reached anybody.
    pub const fn before(reason: Reason) -> Self {
        Self { reason, reached: Reached::No, detail: None }
    }

    /// A failure after the request, or a part of it, was sent.
    pub const fn after(reason: Reason) -> Self {
        Self { reason, reached: Reached::Maybe, detail: None }
    }

    /// Adds what happened.
    #[must_use]
    pub fn detail(mut self, what: impl fmt::Display) -> Self {
        self.detail = Some(what.to_string().into_boxed_str());
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_snake_case() {
        let names: HashSet<_> = Reason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        assert!(names.iter().all(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }

    #[test]
    fn a_failure_says_reason_and_detail() {
        let failure = Failure::before(Reason::ConnectFailed).detail("10.0.0.1:80 refused");
        assert_eq!(failure.to_string(), "connect_failed: 10.0.0.1:80 refused");
    }
}
