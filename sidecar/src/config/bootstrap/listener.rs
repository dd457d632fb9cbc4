//! Explicit listeners: outbound traffic that comes to the sidecar by its address, not by capture.

use std::{
    fmt::{self, Display, Formatter},
    net::SocketAddr,
    path::PathBuf,
};

use rustls_pki_types::{DnsName, ServerName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trama_proto::QualifiedName;

use super::text::{LabelText, SocketAddressText};
use crate::config::snapshot::{CertificateName, SpiffeId};

/// A listener for outbound traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listener {
    /// Its name in logs, unique.
    #[schemars(with = "LabelText")]
    pub name: String,
    /// Address and port. Port 0: any free one.
    #[schemars(with = "SocketAddressText")]
    pub address: SocketAddr,
    /// What is spoken there.
    #[serde(default)]
    pub protocol: ListenerProtocol,
    /// Where opaque TCP goes. Needed with TCP; with AUTO, what is not HTTP is refused without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceAddress>,
    /// Ends TLS. Left out: plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ListenerTls>,
}

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ListenerProtocol {
    /// The first bytes tell: HTTP/1.1, HTTP/2 or opaque TCP.
    #[default]
    Auto,
    /// HTTP/1.1 or HTTP/2.
    Http,
    /// Opaque TCP.
    Tcp,
}

/// TLS on a listener. ALPN offers `h2` and `http/1.1`. The files are read again when they change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenerTls {
    /// PEM file of the server's certificate chain, its own certificate first.
    pub certificate: PathBuf,
    /// PEM file of the key.
    pub key: PathBuf,
    /// PEM file of the authorities that sign client certificates. With it, a client certificate is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_bundle: Option<PathBuf>,
    /// Of which a client's certificate must carry one: DNS names (a certificate's wildcard stands for one label) and URIs
    /// such as SPIFFE ids, which are compared byte by byte. Left out: any certificate of `clientBundle` will do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_names: Vec<ClientName>,
}

/// A name that a client's certificate may carry: a DNS name, or a URI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(
    with = "String",
    title = "a DNS name or a URI, such as `storefront.shop` or `spiffe://mesh.local/ns/shop/sa/storefront`",
    extend("pattern" = r"^([A-Za-z0-9_]([-A-Za-z0-9_.]*[A-Za-z0-9_])?|[A-Za-z][-+.A-Za-z0-9]*:\S+)$")
)]
pub struct ClientName(pub CertificateName);

impl TryFrom<String> for ClientName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with("spiffe:") {
            SpiffeId::parse(&text).map_err(|problem| format!("{text:?}: {problem}"))?;
        }
        if text.contains(':') {
            let scheme = text.split(':').next().is_some_and(|scheme| {
                let of = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
                scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(of)
            });
            let whole = scheme && !text.contains(char::is_whitespace) && !text.ends_with(':');
            return if whole { Ok(Self(CertificateName::Uri(text.into()))) } else { Err(no_name(&text)) };
        }
        let host = DnsName::try_from(text.as_str()).map_err(|_| no_name(&text))?;
        Ok(Self(CertificateName::Host(ServerName::DnsName(host.to_owned()))))
    }
}

fn no_name(text: &str) -> String {
    format!("{text:?} is no DNS name and no URI, such as `spiffe://mesh.local/ns/shop/sa/storefront`")
}

impl From<ClientName> for String {
    fn from(ClientName(name): ClientName) -> Self {
        match name {
            CertificateName::Host(host) => host.to_str().into_owned(),
            CertificateName::Uri(uri) => uri.into(),
        }
    }
}

/// A port of a service, written `namespace/name:port`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(
    with = "String",
    title = "a service and its port, such as `shop/orders:80`",
    extend("pattern" = "^[a-z0-9][-a-z0-9]*/[a-z0-9][-.a-z0-9]*:[0-9]{1,5}$")
)]
pub struct ServiceAddress {
    /// The service's namespace.
    pub namespace: String,
    /// The service's name.
    pub name: String,
    /// The service's port.
    pub port: u16,
}

impl TryFrom<String> for ServiceAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts = text.rsplit_once(':').and_then(|(service, port)| {
            let QualifiedName { namespace, name } = QualifiedName::parse(service).ok()?;
            let port = port.parse().ok().filter(|port| *port != 0)?;
            Some(Self { namespace: namespace.to_owned(), name: name.to_owned(), port })
        });
        parts
            .ok_or_else(|| format!("{text:?} is not of the form `namespace/name:port`, port from 1 to 65535"))
    }
}

impl From<ServiceAddress> for String {
    fn from(address: ServiceAddress) -> Self {
        address.to_string()
    }
}

impl Display for ServiceAddress {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.name, self.port)
    }
}
