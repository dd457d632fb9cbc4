//! The shape of a request between its versions: inside the sidecar it looks like HTTP/1.1 (Host, path only); the leg that
//! it leaves on gives it the shape that its version asks for.

use ::http::{
    HeaderMap, HeaderValue, Method, Uri, Version, header, request,
    uri::{Authority, PathAndQuery, Scheme},
};

use super::guard;
use crate::error::{Failure, Reason};

/// What keeps a request from being carried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Misshapen {
    /// CONNECT: a tunnel, which only policy may open.
    Tunnel,
    /// An HTTP/2 request without an authority, with several, or with one that HTTP/1 could not say.
    NoAuthority,
    /// An HTTP/2 request that says its length twice (RFC 9110 section 8.6).
    TwoLengths,
    /// More fields than are allowed.
    TooManyFields,
}

impl From<Misshapen> for Failure {
    fn from(misshapen: Misshapen) -> Self {
        match misshapen {
            Misshapen::Tunnel => Self::before(Reason::UpgradeRefused).detail("CONNECT"),
            Misshapen::NoAuthority => Self::before(Reason::MalformedRequest).detail("not one authority"),
            Misshapen::TwoLengths => {
                Self::before(Reason::MalformedRequest).detail("Content-Length is repeated")
            }
            Misshapen::TooManyFields => Self::before(Reason::HeadersTooLarge).detail("limits.headerCount"),
        }
    }
}

/// Refuses a request that came in with more fields than these. The guard has counted those of HTTP/1; the codec of HTTP/2
/// limits their bytes alone. Pseudo fields are none, and the crumbs of a cookie are one.
pub fn within(headers: &HeaderMap, most: usize) -> Result<(), Misshapen> {
    let crumbs = || headers.get_all(header::COOKIE).iter().skip(1).count();
    if headers.len() > most && headers.len() - crumbs() > most {
        return Err(Misshapen::TooManyFields);
    }
    Ok(())
}

/// Brings a request that came in into the inner shape: Host says the authority, the URI is the path.
///
/// `:authority` and an absolute-form target win over Host (RFC 9112 section 3.2.2, RFC 9113 section 8.3.1). A request of
/// HTTP/1.0 without a Host gets an empty one, which is what every later version wants there.
pub fn inner(head: &mut request::Parts) -> Result<(), Misshapen> {
    if head.method == Method::CONNECT {
        return Err(Misshapen::Tunnel);
    }
    if let Some(authority) = head.uri.authority() {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Misshapen::NoAuthority)?;
        head.headers.insert(header::HOST, host);
        let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        head.uri = Uri::from(path);
    }
    if head.version == Version::HTTP_2 {
        return of_http2(&head.headers);
    }
    head.headers.entry(header::HOST).or_insert(HeaderValue::from_static(""));
    Ok(())
}

/// The guard saw to this on HTTP/1; what HTTP/2 lets through must not become two readings of one HTTP/1 request.
fn of_http2(headers: &HeaderMap) -> Result<(), Misshapen> {
    if headers.get_all(header::CONTENT_LENGTH).iter().nth(1).is_some() {
        return Err(Misshapen::TwoLengths);
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if guard::is_host_value(host.as_bytes()) => Ok(()),
        _ => Err(Misshapen::NoAuthority),
    }
}

/// Gives a request the shape of HTTP/1.1.
pub fn http1(head: &mut request::Parts) {
    head.version = Version::HTTP_11;
    join_cookie(&mut head.headers);
}

/// HTTP/2 may split a cookie into crumbs, of which HTTP/1 knows nothing (RFC 9113 section 8.2.3).
fn join_cookie(headers: &mut HeaderMap) {
    let crumbs = headers.get_all(header::COOKIE);
    if crumbs.iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<_> = crumbs.iter().map(HeaderValue::as_bytes).collect();
    // What is joined was a field's value already.
    if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, whole);
    }
}

/// Gives a request the shape of HTTP/2: `:scheme` (that of the leg) and `:authority`, no Host. An authority that `:authority`
/// cannot say, the empty one above all, stays a Host field (RFC 9113 section 8.3.1).
pub fn http2(head: &mut request::Parts, scheme: Scheme) {
    let authority = head.headers.get(header::HOST).and_then(|h| Authority::try_from(h.as_bytes()).ok());
    let Some(authority) = authority else {
        // By this version the codec knows a request that is forwarded, which needs no authority.
        head.version = Version::HTTP_11;
        return;
    };
    head.version = Version::HTTP_2;
    head.headers.remove(header::HOST);
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority);
    head.uri = Uri::from_parts(parts).unwrap_or_default();
}

/// Host and port of the inner shape's authority.
pub fn authority(head: &request::Parts) -> Option<(&str, Option<u16>)> {
    let host = head.headers.get(header::HOST)?.to_str().ok()?;
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => Some((name, port.parse().ok())),
        _ => Some((host, None)),
    }
}

#[cfg(test)]
mod tests {
    use ::http::Request;

    use super::*;

    fn head(version: Version, uri: &str, host: Option<&str>) -> request::Parts {
        let mut request = Request::builder().version(version).uri(uri);
        if let Some(host) = host {
            request = request.header(header::HOST, host);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn every_form_becomes_host_and_path_and_goes_out_again() {
        for (version, uri, host) in [
            (Version::HTTP_11, "/a?b", Some("orders:8080")),
            (Version::HTTP_11, "http://orders:8080/a?b", Some("ignored")),
            (Version::HTTP_2, "http://orders:8080/a?b", None),
        ] {
            let mut head = head(version, uri, host);
            inner(&mut head).unwrap();
            assert_eq!(head.uri, "/a?b");
            assert_eq!(authority(&head), Some(("orders", Some(8080))));
            http2(&mut head, Scheme::HTTP);
            assert_eq!(head.uri, "http://orders:8080/a?b");
            assert!(!head.headers.contains_key(header::HOST));
        }
    }

    #[test]
    fn literal_addresses_keep_their_brackets() {
        let head = head(Version::HTTP_11, "/", Some("[::1]:80"));
        assert_eq!(authority(&head), Some(("[::1]", Some(80))));
        let head = self::head(Version::HTTP_11, "/", Some("[::1]"));
        assert_eq!(authority(&head), Some(("[::1]", None)));
    }

    #[test]
    fn what_cannot_be_carried_is_told() {
        let mut connect = Request::connect("a:1").body(()).unwrap().into_parts().0;
        assert_eq!(inner(&mut connect), Err(Misshapen::Tunnel));
        let mut none = head(Version::HTTP_2, "/", None);
        assert_eq!(inner(&mut none), Err(Misshapen::NoAuthority));
        let mut two = head(Version::HTTP_2, "/", Some("a"));
        two.headers.append(header::HOST, HeaderValue::from_static("b"));
        assert_eq!(inner(&mut two), Err(Misshapen::NoAuthority));
        let mut userinfo = head(Version::HTTP_2, "http://a:x@b/", None);
        assert_eq!(inner(&mut userinfo), Err(Misshapen::NoAuthority));
        for unsayable in ["a b", "a, b", "a/b", "a:x"] {
            let mut head = head(Version::HTTP_2, "/", Some(unsayable));
            assert_eq!(inner(&mut head), Err(Misshapen::NoAuthority), "{unsayable}");
        }
        let mut lengths = head(Version::HTTP_2, "/", Some("a"));
        lengths.headers.append(header::CONTENT_LENGTH, HeaderValue::from_static("5"));
        assert_eq!(inner(&mut lengths), Ok(()));
        lengths.headers.append(header::CONTENT_LENGTH, HeaderValue::from_static("5"));
        assert_eq!(inner(&mut lengths), Err(Misshapen::TwoLengths));
    }

    #[test]
    fn no_authority_is_an_empty_one() {
        for host in [None, Some("")] {
            let mut head = head(Version::HTTP_10, "/a", host);
            inner(&mut head).unwrap();
            http2(&mut head, Scheme::HTTP);
            assert_eq!(
                (head.uri.to_string().as_str(), head.headers[header::HOST].as_bytes()),
                ("/a", &b""[..])
            );
            // As the codec gives it on the other side.
            head.version = Version::HTTP_2;
            inner(&mut head).unwrap();
        }
    }
}
