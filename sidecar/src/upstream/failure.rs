//! What a library's error means: the named reason, and whether the application can have seen the request.

use std::{error::Error as _, io};

use h2::Reason as Code;

use crate::{
    error::{Failure, Reason},
    http::body::BodyError,
};

/// A failure of an HTTP/1 exchange after the request was handed to the connection.
pub(super) fn http1(error: &hyper::Error) -> Failure {
    let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
    if let Some(refused) = causes.find_map(|cause| cause.downcast_ref().and_then(refused)) {
        return refused;
    }
    let reason = if error.is_parse() || error.is_parse_too_large() {
        Reason::UpstreamMalformed
    } else if error.is_user() {
        let broken = error.source().and_then(|source| source.downcast_ref::<BodyError>());
        broken.map_or(Reason::DownstreamBody, body_reason)
    } else {
        Reason::UpstreamClosed
    };
    let cause = error.source().map(|s| format!(": {s}")).unwrap_or_default();
    Failure::after(reason).detail(format_args!("{error}{cause}"))
}

/// The endpoint refused our certificate, if that is what a stream's error says: then it has read no request.
pub(super) fn refused(error: &io::Error) -> Option<Failure> {
    let is_refusal = error.kind() == io::ErrorKind::PermissionDenied;
    is_refusal.then(|| Failure::before(Reason::TlsFailed).detail(error))
}

/// The request's body broke off while it was sent.
pub(super) fn body(error: &BodyError) -> Failure {
    Failure::after(body_reason(error)).detail(error)
}

/// Whose doing was it?
const fn body_reason(error: &BodyError) -> Reason {
    match error {
        BodyError::Own(reason) => *reason,
        BodyError::Http1(_) | BodyError::Http2(_) => Reason::DownstreamBody,
    }
}

/// A failure of an HTTP/2 exchange.
///
/// REFUSED_STREAM, and a GOAWAY that names an earlier stream as the last one processed, mean that the request was not
/// touched (RFC 9113 sections 6.8 and 8.7). They are told apart: who drains says GOAWAY and does as it should, while a
/// sidecar whose application is gone refuses stream after stream, and that counts against the endpoint.
pub(super) fn http2(error: &h2::Error) -> Failure {
    if let Some(refused) = error.get_io().and_then(refused) {
        return refused;
    }
    let failure = if error.is_reset() && error.reason() == Some(Code::REFUSED_STREAM) {
        Failure::before(Reason::ApplicationUnreachable)
    } else if error.is_go_away() && error.is_remote() {
        Failure::before(Reason::UpstreamRefused)
    } else if error.is_library() && error.reason().is_some() {
        Failure::after(Reason::UpstreamMalformed)
    } else {
        Failure::after(Reason::UpstreamClosed)
    };
    failure.detail(error)
}
