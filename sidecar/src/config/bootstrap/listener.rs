//! Explicit listeners: outbound traffic that comes to the sidecar by its address, not by capture.

use std::{
    fmt::{self, Display, Formatter},
    net::SocketAddr,
    path::PathBuf,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{LabelText, SocketAddressText};

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
        let parts = text.split_once('/').and_then(|(namespace, rest)| {
            let (name, port) = rest.rsplit_once(':')?;
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
