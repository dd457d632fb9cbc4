//! A control plane for one test, in this process or as a process of its own, and those who speak with it.
//!
//! ```text
//! let control = ControlPlane::start().await;
//! control.admin().await.apply(…).await.unwrap();
//! let orders = control.joined("shop", "orders").await;
//! let mut stream = control.stream(&orders).await;
//! ```

#![allow(clippy::unwrap_used, clippy::panic, reason = "a harness makes its test fail by panicking")]

mod application;
mod channel;
mod command;
mod deaf;
mod pod;
mod sidecar;
mod skewed;
mod workload;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tonic::transport::{Channel, Error};
use trama_control_plane::app::App;
use trama_control_plane::config::Config;
use trama_proto::admin::v1::admin_service_client::AdminServiceClient;
use trama_proto::admin::v1::{
    ApplyRequest, ApplyResponse, CreateJoinTokenRequest, CreateJoinTokenResponse, DeleteRequest, Deletion,
    ResourceChange, SidecarStatus, StatusRequest,
};
use trama_proto::discovery::v1::ResourceName;
use trama_proto::document::Document;
use trama_proto::identity::v1::identity_service_client::IdentityServiceClient;
use trama_proto::identity::v1::{IdentityResponse, JoinRequest};
use trama_proto::policy::v1::Resource;

use crate::clock::Clocked;
use crate::mesh::{PATIENCE, until};
use crate::ports::free_port;
use crate::process::Process;
use crate::programs;

pub use self::application::application;
pub use self::command::Ran;
pub use self::deaf::{Deaf, Deafness};
pub use self::pod::Pod;
pub use self::sidecar::{Opened, Stream, held, names};
pub use self::skewed::Skewed;
pub use self::workload::{Workload, pem_of, request};

/// The trust domain of tests.
pub const TRUST_DOMAIN: &str = "mesh.test";
/// Its program.
const PROGRAM: &str = "trama-control-plane";

/// A running control plane. Its folder goes with the value.
pub struct ControlPlane {
    running: Running,
    ports: Ports,
    text: String,
    folder: TempDir,
    /// The most bytes of a file that its process may write; 0: as many as there is room for.
    room: u64,
    /// What its process is started from.
    program: PathBuf,
}

enum Running {
    Here(App),
    Process(Process),
    Stopped,
}

#[derive(Clone, Copy)]
struct Ports {
    sidecars: u16,
    metrics: u16,
    health: u16,
}

impl ControlPlane {
    /// A control plane in this process.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same with more configuration.
    pub async fn start_with(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("{}{more}", configuration(&folder, Ports { sidecars: 0, metrics: 0, health: 0 }));
        let mut control = Self {
            running: Running::Stopped,
            ports: Ports { sidecars: 0, metrics: 0, health: 0 },
            text,
            folder,
            room: 0,
            program: PathBuf::new(),
        };
        control.begin().await;
        control
    }

    /// A control plane as a process, at ports that nobody else uses.
    pub async fn spawn() -> Self {
        Self::spawn_with("").await
    }

    /// The same with more configuration.
    pub async fn spawn_with(more: &str) -> Self {
        Self::process(programs::built(PROGRAM).unwrap(), more, 0).await
    }

    /// The same on a disk that is full once a file has so many bytes.
    pub async fn spawn_with_room(room: u64) -> Self {
        Self::process(programs::built(PROGRAM).unwrap(), "", room).await
    }

    /// The same by a clock that may be off.
    pub async fn spawn_by(clock: &Clocked, more: &str) -> Self {
        Self::process(clock.program().to_owned(), more, 0).await
    }

    async fn process(program: PathBuf, more: &str, room: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = Ports { sidecars: free_port(), metrics: free_port(), health: free_port() };
        let text = format!("{}{more}", configuration(&folder, ports));
        fs::write(folder.path().join("control.yaml"), &text).unwrap();
        let mut control = Self { running: Running::Stopped, ports, text, folder, room, program };
        control.respawn().await;
        control
    }

    /// Starts it as a process, in the same folder.
    pub async fn respawn(&mut self) {
        let program = &self.program;
        let mut command = match self.room {
            0 => Command::new(program),
            room => {
                let mut shell = Command::new("sh");
                // In blocks of 512 bytes; and without the signal that would end it.
                let limited = "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"";
                shell.args(["-c", limited, "sh"]).arg((room / 512).to_string()).arg(program);
                shell
            }
        };
        command.arg("--config").arg(self.folder.path().join("control.yaml"));
        let log = self.folder.path().join("log");
        self.running = Running::Process(Process::start("control plane", &mut command, &log).unwrap());
        let ready = || async { (get(self.ports.health, "/readyz").await?.0 == 200).then_some(()) };
        until("the control plane is ready", ready).await;
    }

    /// The configuration of the process.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.folder.path().join("control.yaml")
    }

    /// There is room on its disk again, from its next start on.
    pub fn make_room(&mut self) {
        self.room = 0;
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        match &mut self.running {
            Running::Process(process) => process.kill_hard(),
            _ => panic!("it is no process"),
        }
        self.running = Running::Stopped;
    }

    /// SIGHUP.
    pub fn hang_up(&mut self) {
        match &mut self.running {
            Running::Process(process) => process.hang_up(),
            _ => panic!("it is no process"),
        }
    }

    /// Starts it in this process, in the same folder.
    pub async fn begin(&mut self) {
        let config = Config::parse("test", &self.text, []).unwrap_or_else(|problems| panic!("{problems}"));
        let app = App::start(config).await.unwrap_or_else(|error| panic!("{error}"));
        let addresses = app.addresses();
        self.ports = Ports {
            sidecars: addresses.sidecars.port(),
            metrics: addresses.metrics.port(),
            health: addresses.health.port(),
        };
        self.running = Running::Here(app);
        until("the control plane is ready", || async {
            (get(self.ports.health, "/readyz").await?.0 == 200).then_some(())
        })
        .await;
    }

    /// Ends it as SIGTERM would.
    pub async fn stop(&mut self) {
        match std::mem::replace(&mut self.running, Running::Stopped) {
            Running::Here(app) => app.stop().await,
            _ => panic!("it does not run here"),
        }
    }

    /// Where sidecars reach it.
    #[must_use]
    pub fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.ports.sidecars).into()
    }

    /// The Admin API by the Unix socket.
    pub async fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.socket_channel().await)
    }

    /// A connection over the Unix socket.
    pub async fn socket_channel(&self) -> Channel {
        channel::unix(&self.socket()).await.unwrap()
    }

    /// The Admin API's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    /// A connection over TLS, with a workload's certificate or none.
    pub async fn channel(&self, workload: Option<&Workload>) -> Result<Channel, Error> {
        self.channel_from([127, 0, 0, 1], workload).await
    }

    /// The same from another address of this machine, as another machine would come.
    pub async fn channel_from(&self, source: [u8; 4], workload: Option<&Workload>) -> Result<Channel, Error> {
        channel::tls(source.into(), self.ports.sidecars, workload).await
    }

    /// A connection from such an address on which nothing is said, not even TLS.
    pub async fn connect_from(&self, source: [u8; 4]) -> tokio::net::TcpStream {
        channel::from(source.into(), self.ports.sidecars).await.unwrap()
    }

    /// Applies a policy text.
    pub async fn apply(&self, text: &str) -> Result<ApplyResponse, tonic::Status> {
        let changes = resources(text).into_iter();
        let changes =
            changes.map(|resource| ResourceChange { resource: Some(resource), expected_version: None });
        let request = ApplyRequest { changes: changes.collect() };
        self.admin().await.apply(request).await.map(tonic::Response::into_inner)
    }

    /// Deletes a resource of the namespace `shop`.
    pub async fn delete(&self, kind: &str, name: &str) {
        let name = ResourceName { kind: kind.into(), namespace: "shop".into(), name: name.into() };
        let deletions = vec![Deletion { name: Some(name), expected_version: None }];
        self.admin().await.delete(DeleteRequest { deletions }).await.unwrap();
    }

    /// A token for a workload.
    pub async fn token(&self, identity: &str, lifetime: u32) -> CreateJoinTokenResponse {
        let request = CreateJoinTokenRequest { identity: identity.to_owned(), lifetime };
        self.admin().await.create_join_token(request).await.unwrap().into_inner()
    }

    /// What a workload joins with: `token` and `control-plane.pem` in this folder. What is there is replaced.
    pub async fn invite(&self, identity: &str, folder: &Path) {
        let made = self.token(identity, 0).await;
        put(&folder.join("control-plane.pem"), &pem_of(&made.bundle));
        put(&folder.join("token"), &made.token);
    }

    /// Joins with a token and a signing request.
    pub async fn join(&self, token: &str, request: Vec<u8>) -> Result<IdentityResponse, tonic::Status> {
        self.join_over(self.channel(None).await.unwrap(), token, request).await
    }

    /// The same over this connection.
    pub async fn join_over(
        &self,
        channel: Channel,
        token: &str,
        request: Vec<u8>,
    ) -> Result<IdentityResponse, tonic::Status> {
        let mut client = IdentityServiceClient::new(channel);
        let request = JoinRequest { token: token.to_owned(), certificate_signing_request: request };
        client.join(request).await.map(tonic::Response::into_inner)
    }

    /// A workload that has joined.
    pub async fn joined(&self, namespace: &str, account: &str) -> Workload {
        let identity = identity(namespace, account);
        let made = self.token(&identity, 0).await;
        let key = rcgen::KeyPair::generate().unwrap();
        let given = self.join(&made.token, request(&key, &[])).await.unwrap();
        assert_eq!((&given.identity, &given.bundle), (&identity, &made.bundle));
        Workload::new(namespace, account, &key, &given)
    }

    /// Opens a policy stream.
    pub async fn stream(&self, workload: &Workload) -> Stream {
        Stream::open(self.channel(Some(workload)).await.unwrap(), workload.node()).await.unwrap()
    }

    /// What the control plane knows of the sidecars.
    pub async fn sidecars(&self) -> Vec<SidecarStatus> {
        self.admin().await.status(StatusRequest::default()).await.unwrap().into_inner().sidecars
    }

    /// The sidecar of this name, once it looks as it should.
    pub async fn sidecar(&self, what: &str, right: impl Fn(&SidecarStatus) -> bool) -> SidecarStatus {
        until(what, || async { self.sidecars().await.into_iter().find(|sidecar| right(sidecar)) }).await
    }

    /// Waits until no sidecar has a stream.
    pub async fn sidecar_gone(&self) {
        until("no stream", || async { self.sidecars().await.is_empty().then_some(()) }).await;
    }

    /// A sample of the metrics, such as `trama_control_identity_refusals_total{reason="used_token"}`.
    pub async fn metric(&self, sample: &str) -> f64 {
        let (_, text) = get(self.ports.metrics, "/metrics").await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// The log of the process.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// Status and body of what a port of this machine answers; `None`: nobody answers.
pub async fn get(port: u16, path: &str) -> Option<(u16, String)> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let talk = async {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        let asked = format!("GET {path} HTTP/1.1\r\nhost: control\r\nconnection: close\r\n\r\n");
        stream.write_all(asked.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map(|_| answer)
    };
    let answer = tokio::time::timeout(PATIENCE, talk).await.ok()?.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// `spiffe://mesh.test/ns/<namespace>/sa/<account>`.
#[must_use]
pub fn identity(namespace: &str, account: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{account}")
}

/// The resources of a policy text.
#[must_use]
pub fn resources(text: &str) -> Vec<Resource> {
    let documents = Document::parse("test", text).unwrap_or_else(|problems| panic!("{problems:?}"));
    documents.into_iter().map(|document| Resource { kind: Some(document.resource) }).collect()
}

/// Replaces a file as a whole.
pub fn put(path: &Path, text: &str) {
    let next = path.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::rename(next, path).unwrap();
}

fn configuration(folder: &TempDir, Ports { sidecars, metrics, health }: Ports) -> String {
    let path = folder.path().display();
    format!(
        "trustDomain: {TRUST_DOMAIN}\nbindAddress: 127.0.0.1\n\
         ports: {{ sidecars: {sidecars}, metrics: {metrics}, health: {health} }}\n\
         store: {{ path: {path}/store, sealingKey: {path}/sealing.key }}\n\
         admin: {{ socket: {path}/admin.sock, identities: ['spiffe://{TRUST_DOMAIN}/ns/ops/sa/admin'] }}\n"
    )
}
