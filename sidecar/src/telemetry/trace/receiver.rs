//! The way to whoever receives spans: gRPC in the clear, or in TLS where its address says `https`.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// What `https` means without a port (RFC 9110 section 4.2.2).
const HTTPS: u16 = 443;

/// The TLS of a connection to the receiver, as the files have it when the connection is made.
#[derive(Clone)]
pub struct ReceiverTls {
    /// Whom its certificate must name.
    pub server_name: ServerName<'static>,
    /// Gives what is in force; an error says what is missing.
    pub config: Arc<dyn Fn() -> Result<Arc<ClientConfig>, String> + Send + Sync>,
    /// Tells one of what is in force from the next: a connection that was made with the one before is not used any more.
    pub revision: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for ReceiverTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiverTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// A channel that connects when it is first used, and again when it has to.
/// `tls` is needed by an address with `https://`, and only there.
pub fn channel(receiver: &str, tls: Option<ReceiverTls>) -> Result<Channel, Box<dyn std::error::Error>> {
    let endpoint = |address: String| Endpoint::from_shared(address).map(|e| e.connect_timeout(CONNECT));
    let Some(tls) = tls else { return Ok(endpoint(receiver.to_owned())?.connect_lazy()) };
    let origin: Uri = receiver.parse()?;
    // The library would have https mean its own TLS.
    let endpoint = endpoint(receiver.replacen("https", "http", 1))?.origin(origin);
    Ok(endpoint.connect_with_connector_lazy(Sealed { receiver: receiver.into(), tls }))
}

/// Connects in TLS.
struct Sealed {
    receiver: Arc<str>,
    tls: ReceiverTls,
}

impl Service<Uri> for Sealed {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let (receiver, tls) = (Arc::clone(&self.receiver), self.tls.clone());
        Box::pin(async move {
            let late = || Err(io::Error::other(format!("not connected within {CONNECT:?}")));
            let connected = timeout(CONNECT, connect(&address, tls)).await.unwrap_or_else(|_| late());
            // The channel keeps of an error only that there was one.
            let told =
                |error: &io::Error| tracing::warn!(%receiver, %error, "no connection to the trace receiver");
            connected.inspect_err(told).map(TokioIo::new)
        })
    }
}

async fn connect(address: &Uri, tls: ReceiverTls) -> io::Result<TlsStream<TcpStream>> {
    let config = (tls.config)().map_err(io::Error::other)?;
    let host = address.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, address.port_u16().unwrap_or(HTTPS))).await?;
    stream.set_nodelay(true)?;
    let stream = TlsConnector::from(config).connect(tls.server_name, stream).await?;
    // RFC 9113 section 3.2.
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(io::Error::other("it does not agree to HTTP/2, which gRPC needs (ALPN)"));
    }
    Ok(stream)
}
