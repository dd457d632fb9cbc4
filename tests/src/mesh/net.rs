//! Where a pod is: an address of the loopback network that is its own, or a namespace of the lab.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::lab::{self, LabError};
use crate::peers::{Here, Place};
use crate::process::Process;

/// The user that the capture rules leave alone.
pub(super) const SIDECAR_USER: u32 = 2102;
/// The user that applications and clients run as.
const APPLICATION_USER: u32 = 1000;
const PATIENCE: Duration = Duration::from_secs(10);

/// Who opens a connection: what the sidecar's user sends is not captured.
#[derive(Clone, Copy, Debug)]
pub(super) enum User {
    Application,
    Sidecar,
}

/// A pod's network.
#[derive(Clone, Debug)]
pub(super) enum Net {
    Loopback(Ipv4Addr),
    /// A pod, and which of its addresses is used.
    Lab(lab::Pod, IpAddr),
}

impl Net {
    /// An address that no other mesh of this machine has: from this process's number, and a counter. Those below
    /// 127.128 are left to people and to the demo.
    pub(super) fn loopback() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let [.., high, low] = std::process::id().to_be_bytes();
        Self::Loopback(Ipv4Addr::new(127, 128 | high, low, NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    pub(super) fn ip(&self) -> IpAddr {
        match self {
            Self::Loopback(ip) => (*ip).into(),
            Self::Lab(_, ip) => *ip,
        }
    }

    pub(super) fn bind(&self, port: u16) -> TcpListener {
        self.bind_at(SocketAddr::new(self.ip(), port))
    }

    pub(super) fn bind_at(&self, at: SocketAddr) -> TcpListener {
        let bind = || std::net::TcpListener::bind(at).unwrap_or_else(|e| panic!("{at}: {e}"));
        let listener = match self {
            Self::Loopback(_) => bind(),
            Self::Lab(pod, _) => pod.inside(bind).unwrap(),
        };
        listener.set_nonblocking(true).unwrap();
        TcpListener::from_std(listener).unwrap()
    }

    pub(super) async fn connect(&self, to: SocketAddr, user: User) -> io::Result<TcpStream> {
        let Self::Lab(pod, _) = self else {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            return Ok(stream);
        };
        let uid = match user {
            User::Application => APPLICATION_USER,
            User::Sidecar => SIDECAR_USER,
        };
        let dialled = pod.inside_as(uid, || std::net::TcpStream::connect_timeout(&to, PATIENCE));
        let stream = dialled.unwrap()?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        TcpStream::from_std(stream)
    }

    /// The same for real peers.
    pub(super) fn place(&self) -> Box<dyn Place> {
        let inner: Box<dyn Place> = match self {
            Self::Loopback(_) => Box::new(Here::new().unwrap()),
            Self::Lab(pod, _) => Box::new(pod.clone()),
        };
        Box::new(OwnAddress { address: self.ip(), inner })
    }
}

/// A place, at an address of one's own.
struct OwnAddress {
    address: IpAddr,
    inner: Box<dyn Place>,
}

impl Place for OwnAddress {
    fn address(&self) -> IpAddr {
        self.address
    }

    fn start(&self, command: &Command) -> Result<Process, LabError> {
        self.inner.start(command)
    }

    fn run_to_end(&self, command: &Command, patience: Duration) -> Result<Output, LabError> {
        self.inner.run_to_end(command, patience)
    }

    fn make_file(&self, name: &str, content: &[u8]) -> Result<PathBuf, LabError> {
        self.inner.make_file(name, content)
    }
}
