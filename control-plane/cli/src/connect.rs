//! The one connection: over the Unix socket, or over mutual TLS with the certificate of an admin.

use std::{
    io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use rustls_pki_types::ServerName;
use tokio::{
    net::{TcpStream, UnixStream},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{client::TlsStream, rustls::ClientConfig};
use tonic::transport::{Channel, Endpoint};
use trama_sidecar::{
    discovery::{Once, dial, server_name},
    tls::{Identity, IdentityError, IdentityFiles, to_control_plane},
};

use crate::{
    arguments::Global,
    failure::{self, Failure},
};

/// Where a control plane has its socket unless its configuration says otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/trama/admin.sock";

/// How long before the next try of what finds nobody there.
const AGAIN: Duration = Duration::from_millis(50);

/// Where the control plane is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// On this machine.
    Socket(PathBuf),
    /// Host and port.
    Address(String),
}

impl FromStr for Server {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let wrong = "write the path of a socket (with a slash), or HOST:PORT ([::1]:15010 for IPv6)";
        if text.contains('/') {
            return Ok(Self::Socket(text.strip_prefix("unix:").unwrap_or(text).into()));
        }
        let (host, port) = text.rsplit_once(':').ok_or(wrong)?;
        let bare = !host.is_empty() && (!host.contains(':') || host.starts_with('[') && host.ends_with(']'));
        match port.parse::<u16>() {
            Ok(1..) if bare => Ok(Self::Address(text.to_owned())),
            _ => Err(wrong),
        }
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Address(address) => f.write_str(address),
        }
    }
}

/// Connects.
pub(crate) async fn connect(global: &Global) -> Result<Channel, Failure> {
    let patience = global.patience();
    let late = || unreachable(&global.server, format!("it does not answer within {patience:?}"));
    // A control plane that starts at this moment is waited for only by who says how long.
    let end = global.timeout.map(|patience| Instant::now() + patience);
    let made = async {
        // The name is said to nobody but the control plane, which does not look at it.
        let endpoint = Endpoint::from_static("http://control.plane");
        let connected = match &global.server {
            Server::Socket(path) => {
                let stream = socket(path, &global.server, end).await?;
                endpoint.connect_with_connector(Once::new(stream)).await
            }
            Server::Address(address) => {
                let stream = tls(address, global, end).await?;
                endpoint.connect_with_connector(Once::new(stream)).await
            }
        };
        connected.map_err(|error| unreachable(&global.server, failure::with_causes(&error)))
    };
    timeout(patience, made).await.map_err(|_| late())?
}

async fn socket(path: &Path, server: &Server, end: Option<Instant>) -> Result<UnixStream, Failure> {
    let connected = until(end, async || UnixStream::connect(path).await, is_not_there).await;
    connected.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::Forbidden(format!(
            "{server} is not ours to open: {error}; be its owner, or name HOST:PORT with --server"
        )),
        _ => unreachable(server, format!("{error}; does it run, and is --server right?")),
    })
}

async fn tls(address: &str, global: &Global, end: Option<Instant>) -> Result<TlsStream<TcpStream>, Failure> {
    let (config, name) = credentials(address, global)?;
    let dialled = until(end, async || dial(address, name.clone(), config.clone()).await, is_not_there).await;
    dialled.map_err(|error| unreachable(&global.server, error.to_string()))
}

/// Tries again what finds nobody there, until then. What is given last is what the last try found.
async fn until<T, E>(
    end: Option<Instant>,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
    is_not_there: impl Fn(&E) -> bool,
) -> Result<T, E> {
    loop {
        match attempt().await {
            Err(error) if is_not_there(&error) && end.is_some_and(|end| Instant::now() + AGAIN < end) => {
                sleep(AGAIN).await;
            }
            done => return done,
        }
    }
}

/// No socket yet, or nobody who listens there.
fn is_not_there(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn credentials(address: &str, global: &Global) -> Result<(ClientConfig, ServerName<'static>), Failure> {
    let (Some(certificate), Some(key), Some(ca)) = (&global.certificate, &global.key, &global.ca) else {
        let problem = format!(
            "over the network ({address}) the Admin API is for certificates of admins; name --certificate, --key and --ca"
        );
        return Err(Failure::Usage(problem));
    };
    let files = IdentityFiles { certificate: certificate.clone(), key: key.clone(), bundle: ca.clone() };
    let own = Identity::load(&files, 0).map_err(of_file)?;
    let expected = global.server_identity.clone().unwrap_or_else(|| own.id.control_plane());
    let config = to_control_plane(own.authorities(), &expected, Some(&own));
    let config = config.map_err(|error| Failure::Usage(format!("--certificate and --key: {error}")))?;
    let name = server_name(address);
    let name = name.map_err(|error| Failure::Usage(format!("--server {address}: {error}")))?;
    Ok((config, name))
}

fn of_file(error: IdentityError) -> Failure {
    let (IdentityError::File { path, .. } | IdentityError::Content { path, .. }) = &error;
    let (source, problem) = (path.display().to_string(), error.to_string());
    let problem = problem.strip_prefix(&format!("{source}: ")).unwrap_or(&problem);
    Failure::of_file(&source, problem, "give the files of one identity by --certificate, --key and --ca")
}

fn unreachable(server: &Server, problem: String) -> Failure {
    Failure::Unreachable { server: server.to_string(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_makes_a_socket_and_a_port_an_address() {
        let server = |text: &str| text.parse::<Server>();
        assert_eq!(server("/run/x.sock").unwrap(), Server::Socket("/run/x.sock".into()));
        assert_eq!(server("unix:./x.sock").unwrap(), Server::Socket("./x.sock".into()));
        for address in ["mesh.example:15010", "10.0.0.1:1", "[fd00::1]:15010"] {
            assert_eq!(server(address).unwrap(), Server::Address(address.to_owned()));
        }
        for wrong in ["", "x", "x.sock", ":1", "host:0", "host:99999", "host:", "fd00::1:15010"] {
            assert!(server(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn who_is_not_there_yet_is_tried_again_while_there_is_time() {
        let tried = async |end: Option<Instant>, answers: usize, error: io::ErrorKind| {
            let mut tries = 0;
            let attempt = async || {
                tries += 1;
                if tries < answers { Err(io::Error::from(error)) } else { Ok(()) }
            };
            let done = until(end, attempt, is_not_there).await;
            (done.map_err(|error| error.kind()), tries)
        };
        let (kind, long) =
            (io::ErrorKind::ConnectionRefused, Some(Instant::now() + Duration::from_secs(3600)));
        assert_eq!(tried(long, 3, kind).await, (Ok(()), 3));
        assert_eq!(tried(long, 3, io::ErrorKind::NotFound).await, (Ok(()), 3));
        assert_eq!(tried(None, 3, kind).await, (Err(kind), 1));
        assert_eq!(tried(Some(Instant::now()), 3, kind).await, (Err(kind), 1));
        let closed = io::ErrorKind::PermissionDenied;
        assert_eq!(tried(long, 3, closed).await, (Err(closed), 1));
    }

    #[test]
    fn the_socket_is_where_the_control_plane_opens_it() {
        let configured = trama_control_plane::config::Config::default().admin.socket;
        assert_eq!(configured, PathBuf::from(DEFAULT_SOCKET));
    }
}
