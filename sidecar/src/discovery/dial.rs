//! One connection to a control plane, and the channel that has it and no other. `tramactl` connects by this too.

use std::{
    future::{Ready, ready},
    io,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::{InvalidDnsNameError, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower_service::Service;

/// What TLS says of whom it asks for at `host:port`; an IPv6 address stands in brackets there.
pub fn server_name(address: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']').to_owned())
}

/// Connects to `host:port` in TLS.
pub async fn dial(
    address: &str,
    name: ServerName<'static>,
    config: ClientConfig,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    // Answers to pushes are small, and waited for.
    stream.set_nodelay(true)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Gives a channel the one connection that was made. Another one would be made by the channel, behind our back and without
/// a pause.
#[derive(Debug)]
pub struct Once<S>(Option<S>);

impl<S> Once<S> {
    /// Of a connection.
    pub fn new(stream: S) -> Self {
        Self(Some(stream))
    }
}

impl<S> Service<Uri> for Once<S> {
    type Response = TokioIo<S>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().map(TokioIo::new).ok_or_else(|| io::ErrorKind::ConnectionAborted.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_what_stands_before_the_last_colon_without_brackets() {
        let name = |address: &str| server_name(address).map(|name| name.to_str().into_owned());
        assert_eq!(name("control.mesh:15010").unwrap(), "control.mesh");
        assert_eq!(name("10.0.0.7:1").unwrap(), "10.0.0.7");
        assert_eq!(name("[fd00::7]:15010").unwrap(), "fd00::7");
        assert!(name(":15010").is_err());
    }

    #[tokio::test]
    async fn a_connection_is_given_once() {
        let mut once = Once::new(tokio::io::empty());
        once.call(Uri::from_static("http://a")).await.unwrap();
        let again = once.call(Uri::from_static("http://a")).await.unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::ConnectionAborted);
    }
}
