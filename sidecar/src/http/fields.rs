//! Header hygiene: what belongs to one connection must not travel to the next (RFC 9110 section 7.6.1).

use ::http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{self, Entry},
};

/// Carries the version that the client spoke over the mesh leg; stripped from anyone else.
pub const CLIENT_VERSION: HeaderName = HeaderName::from_static("trama-client-version");

/// Tells the application who calls, in the words of Envoy, which applications that ask for it know.
pub const CALLER: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// The named reason in our own answers.
pub const REASON: HeaderName = HeaderName::from_static("trama-reason");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Removes the fields that concern one connection only, and those that `Connection` names.
///
/// `Transfer-Encoding` goes too: whoever writes the message on frames it anew. `TE` keeps `trailers`, its only value
/// that means something from end to end (RFC 9110 section 10.1.4).
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // One look over the names: most messages have none of these, and each look-up would hash.
    if !headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        return;
    }
    if headers.contains_key(header::CONNECTION) {
        strip_connection(headers);
    }
    for name in [header::TRANSFER_ENCODING, header::UPGRADE, KEEP_ALIVE, PROXY_CONNECTION] {
        headers.remove(name);
    }
    if let Entry::Occupied(mut te) = headers.entry(header::TE) {
        let trailers = te.iter().any(|v| lists(v, "trailers"));
        if trailers {
            te.insert(HeaderValue::from_static("trailers"));
        } else {
            te.remove();
        }
    }
}

const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    KEEP_ALIVE,
    PROXY_CONNECTION,
];

/// Removes `Connection` and the fields that it names. A field named there that the message cannot do without (Host,
/// content's own fields) stays: a peer could otherwise strip what the next hop's safety rests on.
fn strip_connection(headers: &mut HeaderMap) {
    let named: smallvec::SmallVec<[HeaderName; 4]> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|token| HeaderName::from_bytes(token.trim().as_bytes()).ok())
        .filter(|name| !NEVER_NAMED.contains(name))
        .collect();
    headers.remove(header::CONNECTION);
    for name in named {
        headers.remove(name);
    }
}

const NEVER_NAMED: [HeaderName; 7] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::AUTHORIZATION,
    header::COOKIE,
    header::TE,
    CLIENT_VERSION,
];

/// Whether a comma-separated field value lists the token.
pub fn lists(value: &HeaderValue, token: &str) -> bool {
    value.to_str().is_ok_and(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case(token)))
}

/// The version as the mesh leg carries it.
pub fn version_value(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    })
}

/// The version that a mesh leg's header names.
pub fn version_of(value: &HeaderValue) -> Option<Version> {
    match value.as_bytes() {
        b"1.0" => Some(Version::HTTP_10),
        b"1.1" => Some(Version::HTTP_11),
        b"2" => Some(Version::HTTP_2),
        _ => None,
    }
}

/// The value of [`CALLER`]: whose certificate took the call, and whose made it. A SPIFFE id needs no quotes.
pub fn caller_value(own: &str, caller: &str) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("By={own};URI={caller}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |&(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v));
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn what_concerns_one_connection_is_removed() {
        let mut headers = map(&[
            ("connection", "keep-alive, x-mine"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip, trailers"),
            ("accept", "*/*"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("te", "trailers"), ("accept", "*/*")]));
    }

    #[test]
    fn connection_cannot_strip_what_safety_rests_on() {
        let mut headers =
            map(&[("connection", "host, authorization"), ("host", "a"), ("authorization", "b")]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("host", "a"), ("authorization", "b")]));
    }

    #[test]
    fn a_te_without_trailers_goes() {
        let mut headers = map(&[("te", "gzip")]);
        strip_hop_by_hop(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn versions_come_back() {
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            assert_eq!(version_of(&version_value(version)), Some(version));
        }
    }
}
