//! A described request, read: what cannot be a request is told by field, value and remedy.

use std::{
    fmt::{self, Display, Formatter},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header, request,
    uri::{Authority, PathAndQuery},
};
use trama_proto::{
    Problem, Problems, QualifiedName,
    explain::v1::{self, DescribedRequest},
    spiffe::SpiffeId,
};

use super::inbound::Inbound;
use crate::outbound::Meant;

/// A request that can be explained.
#[derive(Clone, Debug)]
pub struct Described {
    pub(super) meant: Meant,
    /// Where it comes in; `None`: the application sends it.
    pub(super) inbound: Option<Inbound>,
    /// Host, path, method, version and headers, in the inner shape but for its hygiene.
    pub(super) head: request::Parts,
    pub(super) source: SocketAddr,
    /// The random number to decide with, if one is given.
    pub draw: Option<u64>,
    /// The worker whose loads are asked for.
    pub worker: u32,
}

impl Described {
    /// Reads a description; everything that is wrong with it is told at once.
    pub fn read(request: &DescribedRequest) -> Result<Self, Problems> {
        let mut reader = Reader::default();
        let meant = reader.meant(request);
        let inbound = reader.inbound(request);
        let (named, path) = reader.url(&request.url);
        let method = reader.method(&request.method);
        let version = reader.version(&request.version);
        let (host, mut headers) = reader.headers(request);
        let source = reader.source(&request.source);
        let host = match (host.or(named), &meant, &inbound) {
            (Some(host), ..) => host,
            (None, _, Some(inbound)) => reader.value("inbound.application", &inbound.application.to_string()),
            (None, Meant::Address(address), None) => reader.value("address", &address.to_string()),
            (None, _, None) => {
                // What is wrong already may be the host.
                if reader.problems.is_empty() {
                    let remedy = "write `http://` and a host before it, or give a `host` header";
                    reader.wrong("url", &request.url, "no host is asked", remedy);
                }
                HeaderValue::from_static("")
            }
        };
        if !reader.problems.is_empty() {
            return Err(Problems(reader.problems));
        }
        headers.insert(header::HOST, host);
        let mut head = Request::new(()).into_parts().0;
        (head.method, head.uri, head.version, head.headers) = (method, Uri::from(path), version, headers);
        let source = SocketAddr::new(source, 0);
        Ok(Self { meant, inbound, head, source, draw: request.draw, worker: request.worker })
    }
}

impl Display for Described {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let request::Parts { method, uri, version, headers, .. } = &self.head;
        let host = headers.get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default();
        let host = String::from_utf8_lossy(host);
        write!(f, "{method} {uri} of {host}, {version:?}, ")?;
        if let Some(Inbound { caller, application }) = &self.inbound {
            let caller = caller.as_ref().map_or("nobody who proves it", SpiffeId::as_str);
            return write!(f, "coming in from {caller} for the application at {application}");
        }
        match &self.meant {
            Meant::Address(address) => write!(f, "captured on its way to {address}"),
            Meant::Authority => f.write_str("on an explicit listener"),
            Meant::Service(service, port) => write!(f, "on the explicit listener for {service}:{port}"),
        }
    }
}

/// Reads field by field, and gathers what is wrong.
#[derive(Default)]
struct Reader {
    problems: Vec<Problem>,
}

impl Reader {
    fn meant(&mut self, request: &DescribedRequest) -> Meant {
        let DescribedRequest { address, listener, .. } = request;
        match (address.as_str(), listener.as_str()) {
            ("", "") => Meant::Authority,
            (address, "") => match address.parse() {
                Ok(address) => Meant::Address(address),
                Err(_) => {
                    let remedy = "write one such as `10.0.0.7:80` or `[fd00::7]:80`";
                    self.wrong("address", address, "no IP address with a port", remedy);
                    Meant::Authority
                }
            },
            ("", listener) => self.listener(listener),
            (_, listener) => {
                let remedy = "a connection is captured or comes to a listener: leave one of the two out";
                self.wrong("listener", listener, "beside `address`", remedy);
                Meant::Authority
            }
        }
    }

    fn inbound(&mut self, request: &DescribedRequest) -> Option<Inbound> {
        let v1::Inbound { application, caller } = request.inbound.as_ref()?;
        for (field, text) in [("address", &request.address), ("listener", &request.listener)] {
            if !text.is_empty() {
                let remedy = "a request comes in, or the application sends it: leave one of the two out";
                self.wrong(field, text, "beside `inbound`", remedy);
            }
        }
        let named = match caller.as_str() {
            "" => None,
            caller => match SpiffeId::parse(caller) {
                Ok(id) => Some(id),
                Err(rule) => {
                    let remedy = "write one such as `spiffe://mesh.example/ns/shop/sa/storefront`";
                    self.wrong("inbound.caller", caller, rule, remedy);
                    None
                }
            },
        };
        let Ok(application) = application.parse() else {
            let remedy = "write where the application listens, such as `10.0.0.7:8080` or `[fd00::7]:8080`";
            self.wrong("inbound.application", application, "no IP address with a port", remedy);
            return None;
        };
        Some(Inbound { caller: named, application })
    }

    fn listener(&mut self, listener: &str) -> Meant {
        let parts = listener.rsplit_once(':').and_then(|(service, port)| Some((service, port.parse().ok()?)));
        match parts.filter(|(service, _)| QualifiedName::parse(service).is_ok()) {
            Some((service, port)) => Meant::Service(Arc::from(service), port),
            None => {
                let remedy = "write namespace, name and port, such as `shop/orders:80`";
                self.wrong("listener", listener, "no port of a service", remedy);
                Meant::Authority
            }
        }
    }

    /// The authority, if it names one, and the path.
    fn url(&mut self, url: &str) -> (Option<HeaderValue>, PathAndQuery) {
        const REMEDY: &str = "write one such as `http://orders.shop/v1?limit=1`, or a path such as `/v1`";
        let root = PathAndQuery::from_static("/");
        if url.starts_with('/') || url == "*" {
            return match url.parse() {
                Ok(path) => (None, path),
                Err(_) => {
                    self.wrong("url", url, "no path", REMEDY);
                    (None, root)
                }
            };
        }
        let uri = url.parse::<Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
        let Some(uri) = uri else {
            let problem = if url.is_empty() { "nothing is asked for" } else { "no http URL" };
            self.wrong("url", url, problem, REMEDY);
            return (None, root);
        };
        let host = uri.authority().map(Authority::as_str).unwrap_or_default().to_owned();
        (Some(self.value("url", &host)), uri.path_and_query().cloned().unwrap_or(root))
    }

    fn method(&mut self, method: &str) -> Method {
        if method.is_empty() {
            return Method::GET;
        }
        Method::from_bytes(method.as_bytes()).unwrap_or_else(|_| {
            self.wrong("method", method, "no HTTP method", "write one such as `GET` or `POST`");
            Method::GET
        })
    }

    fn version(&mut self, version: &str) -> Version {
        match version {
            "HTTP/1.0" => Version::HTTP_10,
            "" | "HTTP/1.1" => Version::HTTP_11,
            "HTTP/2" => Version::HTTP_2,
            other => {
                let remedy = "write `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`";
                self.wrong("version", other, "no version that the sidecar speaks", remedy);
                Version::HTTP_11
            }
        }
    }

    /// The host that they name, and the others.
    fn headers(&mut self, request: &DescribedRequest) -> (Option<HeaderValue>, HeaderMap) {
        let (mut host, mut headers) = (None, HeaderMap::new());
        for (at, field) in request.headers.iter().enumerate() {
            let Ok(name) = HeaderName::from_bytes(field.name.as_bytes()) else {
                let place = format!("headers[{at}].name");
                self.wrong(&place, &field.name, "no name of a header field", "write one such as `x-canary`");
                continue;
            };
            let value = self.value(&format!("headers[{at}].value"), &field.value);
            if name == header::HOST {
                host = Some(value);
            } else {
                headers.append(name, value);
            }
        }
        (host, headers)
    }

    fn value(&mut self, field: &str, value: &str) -> HeaderValue {
        HeaderValue::from_str(value).unwrap_or_else(|_| {
            self.wrong(field, value, "no value of a header field", "leave control characters out");
            HeaderValue::from_static("")
        })
    }

    fn source(&mut self, source: &str) -> IpAddr {
        if source.is_empty() {
            return Ipv4Addr::LOCALHOST.into();
        }
        source.parse().unwrap_or_else(|_| {
            self.wrong("source", source, "no IP address", "write one such as `10.0.0.7`");
            Ipv4Addr::LOCALHOST.into()
        })
    }

    fn wrong(&mut self, field: &str, value: &str, problem: &str, remedy: &str) {
        self.problems.push(Problem {
            field: field.to_owned(),
            value: format!("{value:?}"),
            ..Problem::of_source("the described request", problem, remedy)
        });
    }
}
