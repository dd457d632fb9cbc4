//! What a filter may not change, however it tries: where a message ends and what concerns one connection only.
//!
//! The head is written by us and the body is framed by us, but the next parser believes the head. So what it says
//! about framing is kept from before the filters and put back after them.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header, request, response,
};
use smallvec::SmallVec;

use crate::{config::snapshot::is_framing, http::body::Body};

type Fields = SmallVec<[(HeaderName, HeaderValue); 4]>;

/// The framing of a request before its filters.
pub(super) struct OfRequest {
    method: Method,
    version: Version,
    fields: Fields,
}

impl OfRequest {
    pub(super) fn of(parts: &request::Parts) -> Self {
        Self { method: parts.method.clone(), version: parts.version, fields: fields(&parts.headers) }
    }

    /// Puts back what was changed. `open_length`: the body may change on its way, so its length is not known.
    pub(super) fn restore(self, parts: &mut request::Parts, open_length: bool) {
        parts.method = self.method;
        parts.version = self.version;
        restore(self.fields, &mut parts.headers, open_length);
    }
}

/// The framing of an answer before its filters.
pub(super) struct OfResponse {
    status: StatusCode,
    version: Version,
    fields: Fields,
}

impl OfResponse {
    pub(super) fn of(parts: &response::Parts) -> Self {
        Self { status: parts.status, version: parts.version, fields: fields(&parts.headers) }
    }

    /// Puts back what was changed. A status decides whether a body follows (RFC 9112 section 6.3): one that would
    /// decide otherwise is put back too.
    pub(super) fn restore(self, parts: &mut response::Parts, open_length: bool) {
        if has_no_body(self.status) || has_no_body(parts.status) {
            parts.status = self.status;
        }
        parts.version = self.version;
        restore(self.fields, &mut parts.headers, open_length);
    }
}

/// An answer that a filter made. Whoever writes it frames it; what the filter says about that is dropped.
pub(super) fn own(mut answer: Response<Body>) -> Response<Body> {
    for (name, _) in fields(answer.headers()) {
        answer.headers_mut().remove(name);
    }
    answer
}

fn has_no_body(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

fn fields(headers: &HeaderMap) -> Fields {
    framing(headers).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn framing(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    headers.iter().filter(|(name, _)| is_framing(name))
}

fn restore(before: Fields, headers: &mut HeaderMap, open_length: bool) {
    if !framing(headers).eq(before.iter().map(|(name, value)| (name, value))) {
        for (name, _) in fields(headers) {
            headers.remove(name);
        }
        for (name, value) in before {
            headers.append(name, value);
        }
    }
    // No body, no phase for it: a length of 0 stays true.
    if open_length && headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0") {
        headers.remove(header::CONTENT_LENGTH);
    }
}
