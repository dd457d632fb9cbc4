//! Connections of gRPC clients: over the Unix socket, and over TLS with the certificate of a workload.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tonic::codegen::{Service, http::Uri};
use tonic::transport::{Channel, Endpoint, Error};

use super::Workload;
use crate::tls;

type Connecting = Pin<Box<dyn Future<Output = io::Result<TokioIo<Box<dyn Bytes>>>> + Send>>;

/// Both directions.
trait Bytes: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Bytes for T {}

#[derive(Clone)]
enum To {
    Unix(PathBuf),
    /// From an address of this machine.
    Tls(IpAddr, u16, Arc<ClientConfig>),
}

impl Service<Uri> for To {
    type Response = TokioIo<Box<dyn Bytes>>;
    type Error = io::Error;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Connecting {
        let to = self.clone();
        Box::pin(async move {
            let stream: Box<dyn Bytes> = match to {
                Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
                Self::Tls(source, port, config) => {
                    let stream = from(source, port).await?;
                    Box::new(tls::connect(stream, config, "control.plane").await?)
                }
            };
            Ok(TokioIo::new(stream))
        })
    }
}

pub(super) async fn unix(path: &Path) -> Result<Channel, Error> {
    endpoint().connect_with_connector(To::Unix(path.to_owned())).await
}

/// The server is taken as it is: whether a sidecar would is the sidecar's test.
pub(super) async fn tls(source: IpAddr, port: u16, workload: Option<&Workload>) -> Result<Channel, Error> {
    let config = tls::client_with(workload.map(Workload::certified), &[b"h2"]);
    endpoint().connect_with_connector(To::Tls(source, port, config)).await
}

/// Connects from an address of this machine.
pub(super) async fn from(source: IpAddr, port: u16) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    socket.connect(([127, 0, 0, 1], port).into()).await
}

fn endpoint() -> Endpoint {
    Endpoint::from_static("http://control.plane")
}
