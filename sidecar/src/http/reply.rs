//! Our own answers: the one table from failure to response.

use ::http::{HeaderValue, Response, header};

use super::{Body, fields};
use crate::error::{Failure, Reason};

/// The answer to a request that failed for this reason. The body names it; what happened stays in our log, because it
/// tells of addresses and peers that are none of the caller's business. Only the authority is the caller's own word.
pub fn failure(failure: &Failure) -> Response<Body> {
    match (failure.reason, &failure.detail) {
        (Reason::UnknownAuthority, Some(detail)) => {
            answer(failure.reason, format!("trama: {}: {detail}\n", failure.reason.name()))
        }
        _ => reason(failure.reason),
    }
}

/// The answer for a reason.
pub fn reason(reason: Reason) -> Response<Body> {
    answer(reason, format!("trama: {}\n", reason.name()))
}

fn answer(reason: Reason, text: String) -> Response<Body> {
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = reason.status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(fields::REASON, HeaderValue::from_static(reason.name()));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_an_answer_that_names_it() {
        for &each in Reason::ALL {
            let response = reason(each);
            assert_eq!(response.status(), each.status());
            assert_eq!(response.headers()[fields::REASON], each.name());
            assert!(response.status().is_client_error() || response.status().is_server_error());
        }
    }
}
