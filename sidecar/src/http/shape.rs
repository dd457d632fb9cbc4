//! The shape of a request between its versions: inside the sidecar it looks like HTTP/1.1 (Host, path only); the leg that
//! it leaves on gives it the shape that its version asks for.

use ::http::{
    HeaderValue, Method, Uri, Version, header, request,
    uri::{Authority, PathAndQuery, Scheme},
};

use crate::error::{Failure, Reason};

/// What keeps a request from being carried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Misshapen {
    /// CONNECT: a tunnel, which only policy may open.
    Tunnel,
    /// An HTTP/2 request without an authority, with several, or with one that names a user.
    NoAuthority,
}

impl From<Misshapen> for Failure {
    fn from(misshapen: Misshapen) -> Self {
        match misshapen {
            Misshapen::Tunnel => Self::before(Reason::UpgradeRefused).detail("CONNECT"),
            Misshapen::NoAuthority => Self::before(Reason::MalformedRequest).detail("not one authority"),
        }
    }
}

/// Brings a request that came in into the inner shape: Host says the authority, the URI is the path.
///
/// `:authority` and an absolute-form target win over Host (RFC 9112 section 3.2.2, RFC 9113 section 8.3.1).
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
    // The guard saw to this on HTTP/1; what HTTP/2 lets through must not become two readings of one HTTP/1 request.
    let mut hosts = head.headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if !host.as_bytes().contains(&b'@') => Ok(()),
        (None, None) if head.version != Version::HTTP_2 => Ok(()),
        _ => Err(Misshapen::NoAuthority),
    }
}

/// Gives a request the shape of HTTP/1.1.
pub fn http1(head: &mut request::Parts) {
    head.version = Version::HTTP_11;
}

/// Gives a request the shape of HTTP/2: `:scheme` and `:authority`, no Host. An authority that HTTP/2 cannot say stays a
/// Host field.
pub fn http2(head: &mut request::Parts) {
    head.version = Version::HTTP_2;
    let authority = head.headers.get(header::HOST).and_then(|h| Authority::try_from(h.as_bytes()).ok());
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    match authority {
        Some(authority) => {
            head.headers.remove(header::HOST);
            parts.authority = Some(authority);
        }
        // A URI with a scheme needs an authority; the library drops the placeholder's name, Host stays.
        None => parts.authority = Some(Authority::from_static("host.invalid")),
    }
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
            http2(&mut head);
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
    }
}
