//! A pod while it runs: its application, its sidecar, and what the sidecar tells of itself.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use trama_sidecar::app::{App, Starting};
use trama_sidecar::config::bootstrap::Config;
use trama_sidecar::drain::Stage;

use super::application::{Application, Kind, Serving, serve_http, serve_raw, serve_tls};
use super::client::{Answer, Client, Speaks};
use super::net::{Net, SIDECAR_USER, User};
use super::{APPLICATION, EXPLICIT, Ports};
use crate::peers;
use crate::process::Process;
use crate::programs;

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);

/// A running pod.
#[derive(Debug)]
pub struct Pod {
    name: String,
    net: Net,
    start: Start,
    folder: PathBuf,
    sidecar: Option<Sidecar>,
    application: Option<Running>,
    identity: String,
}

/// How a sidecar is started.
#[derive(Debug, Default)]
pub(super) struct Start {
    pub(super) ports: Ports,
    /// In the place of the sidecar's own program.
    pub(super) program: Option<PathBuf>,
}

/// A sidecar of this process, or one of its own.
pub(super) enum Sidecar {
    App(Box<App>),
    Process(Process),
}

impl std::fmt::Debug for Sidecar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sidecar")
    }
}

/// What serves, and what has to live as long as it does.
#[derive(Debug)]
pub(super) enum Running {
    Here(#[expect(dead_code, reason = "its drop ends it")] Serving),
    Http(Box<peers::App>, #[expect(dead_code, reason = "its drop removes its files")] KeptPlace),
    Tcp(peers::TcpApp, #[expect(dead_code, reason = "its drop removes its files")] KeptPlace),
    Nginx(
        #[expect(dead_code, reason = "its drop ends it")] peers::Nginx,
        #[expect(dead_code, reason = "its drop removes its files")] KeptPlace,
    ),
}

/// The folder of a real peer's files.
pub(super) struct KeptPlace(
    #[expect(dead_code, reason = "its drop removes the folder")] Box<dyn peers::Place>,
);

impl std::fmt::Debug for KeptPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeptPlace")
    }
}

pub(super) fn start_application(application: &Application, net: &Net, name: &str) -> Running {
    let place = net.place();
    let http = |app: Result<peers::App, _>| app.map(Box::new).unwrap_or_else(|e| panic!("{e}"));
    let tcp = |app: Result<peers::TcpApp, _>| app.unwrap_or_else(|e| panic!("{e}"));
    match &application.0 {
        Kind::Http(handler) => Running::Here(serve_http(net.bind(APPLICATION), handler.clone())),
        Kind::Tls(handler, config) => {
            Running::Here(serve_tls(net.bind(APPLICATION), handler.clone(), config.clone()))
        }
        Kind::Raw(handler) => Running::Here(serve_raw(net.bind(APPLICATION), handler.clone())),
        Kind::Python => Running::Http(http(peers::App::python(&*place, name, APPLICATION)), KeptPlace(place)),
        Kind::Go => Running::Http(http(peers::App::go(&*place, name, APPLICATION)), KeptPlace(place)),
        Kind::GoTls(files) => {
            Running::Http(http(peers::App::go_tls(&*place, name, APPLICATION, files)), KeptPlace(place))
        }
        Kind::Banner => {
            Running::Tcp(tcp(peers::TcpApp::banner(&*place, name, APPLICATION)), KeptPlace(place))
        }
        Kind::Nginx(site) => {
            let nginx = peers::Nginx::start(&*place, name, APPLICATION, site);
            Running::Nginx(nginx.unwrap_or_else(|e| panic!("{e}")), KeptPlace(place))
        }
        Kind::Echo => Running::Tcp(tcp(peers::TcpApp::echo(&*place, name, APPLICATION)), KeptPlace(place)),
    }
}

impl Sidecar {
    pub(super) fn in_process(own: &Path) -> Self {
        let file = own.join("sidecar.yaml");
        let config = Config::load(Some(&file), []).unwrap_or_else(|e| panic!("{e}"));
        let policy = policy_file(own);
        // Not on this thread: a runtime of its own may not end within another one.
        let start = || {
            let starting = Starting::begin(config, policy).unwrap_or_else(|e| panic!("{e}"));
            let waiting = tokio::runtime::Builder::new_current_thread().build().unwrap();
            assert!(waiting.block_on(starting.opened()), "told to drain before it served");
            starting.open().unwrap_or_else(|e| panic!("{e}"))
        };
        Self::App(std::thread::scope(|scope| scope.spawn(|| Box::new(start())).join().unwrap()))
    }

    pub(super) fn process(own: &Path, lab: Option<&Net>, start: &Start) -> Self {
        let mut program = start.program.clone().unwrap_or_else(program);
        let shared = own.with_file_name("trama-sidecar");
        // The repository may lie where only its owner can look.
        if lab.is_some() && !programs::is_open_to_all(&program) {
            if !shared.exists() {
                fs::copy(&program, &shared).unwrap();
            }
            program = shared;
        }
        let mut command = Command::new(&program);
        command.arg("--config").arg(own.join("sidecar.yaml"));
        command.args(
            policy_file(own).map(|file| ["--policy".into(), file.into_os_string()]).into_iter().flatten(),
        );
        // It is ours: a sidecar refuses variables that it does not know.
        command.env_remove(PROGRAM);
        let Some(Net::Lab(pod, _)) = lab else {
            return Self::Process(Process::start("sidecar", &mut command, &own.join("sidecar.log")).unwrap());
        };
        let mut redirect = Command::new(&program);
        redirect.args(["redirect", "--apply"]).args(capture_options(start.ports)).env_remove(PROGRAM);
        let output = pod.run(&redirect, 0, PATIENCE).unwrap();
        assert!(output.status.success(), "redirect: {}", String::from_utf8_lossy(&output.stderr));
        Self::Process(pod.spawn(&command, SIDECAR_USER).unwrap())
    }
}

/// The policy of the mesh, unless a control plane tells it.
fn policy_file(own: &Path) -> Option<PathBuf> {
    let configuration = fs::read_to_string(own.join("sidecar.yaml")).unwrap();
    (!configuration.contains("controlPlane:")).then(|| own.with_file_name("policy.yaml"))
}

/// The options of `redirect` for a sidecar with these ports.
fn capture_options(ports: Ports) -> Vec<String> {
    let Ports { outbound, inbound, mesh, metrics, health, .. } = ports;
    vec![
        format!("--outbound-capture-port={outbound}"),
        format!("--inbound-capture-port={inbound}"),
        format!("--sidecar-ports={mesh},{metrics},{health}"),
    ]
}

/// Names another program than the one beside the tests.
const PROGRAM: &str = "TRAMA_SIDECAR";

/// The sidecar's program: of TRAMA_SIDECAR, or the one beside this test's own.
fn program() -> PathBuf {
    let beside = || {
        let own = std::env::current_exe().unwrap();
        own.ancestors().nth(2).unwrap().join("trama-sidecar")
    };
    let program = std::env::var_os(PROGRAM).map_or_else(beside, PathBuf::from);
    let shown = program.display();
    assert!(program.is_file(), "{shown} is missing: build it by `cargo build --workspace --bins`");
    program
}

impl Pod {
    pub(super) fn new(
        name: &str,
        (net, start): (Net, Start),
        folder: PathBuf,
        sidecar: Option<Sidecar>,
        application: Option<Running>,
        identity: String,
    ) -> Self {
        Self { name: name.to_owned(), net, start, folder, sidecar, application, identity }
    }

    /// A port of it.
    #[must_use]
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.net.ip(), port)
    }

    /// Its mesh port.
    #[must_use]
    pub fn mesh(&self) -> SocketAddr {
        self.at(self.start.ports.mesh)
    }

    /// The identity in its certificate.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Its files: `identity.pem`, `identity.key`, `access.log`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A TCP connection from its application.
    pub async fn dial(&self, to: SocketAddr) -> std::io::Result<tokio::net::TcpStream> {
        self.net.connect(to, User::Application).await
    }

    /// A socket of its application's that listens at an address of one's choice.
    #[must_use]
    pub fn listen(&self, at: SocketAddr) -> tokio::net::TcpListener {
        self.net.bind_at(at)
    }

    /// The index of one of its network interfaces, which a link-local address is dialled with.
    ///
    /// # Panics
    /// Where it is not in a namespace, or has no such interface.
    #[must_use]
    pub fn interface(&self, name: &str) -> u32 {
        let Net::Lab(pod, _) = &self.net else { panic!("{} has no namespace", self.name) };
        let socket = || std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0));
        let index = || Ok(rustix::net::netdevice::name_to_index(socket()?, name)?);
        let index: std::io::Result<u32> = pod.inside(index).unwrap();
        index.unwrap_or_else(|error| panic!("{name} of {}: {error}", self.name))
    }

    /// Runs a shell's line in its namespace as root: its network is the test's to change.
    ///
    /// # Panics
    /// Where it has none, or the line fails.
    pub fn as_root(&self, line: &str) {
        self.run_as_root(Command::new("sh").args(["-ec", line]));
    }

    /// Runs the sidecar's program in its namespace with these arguments.
    ///
    /// # Panics
    /// Where it has none, or the program fails.
    pub fn run_sidecar(&self, arguments: &[&str]) {
        self.run_as_root(Command::new(program()).args(arguments).env_remove(PROGRAM));
    }

    /// Proves the capture rules of its sidecar's ports.
    ///
    /// # Panics
    /// Where they do not capture.
    pub fn check_capture(&self) {
        let options = capture_options(self.start.ports);
        let options = options.iter().map(String::as_str);
        self.run_sidecar(&["redirect", "--check"].into_iter().chain(options).collect::<Vec<_>>());
    }

    fn run_as_root(&self, command: &Command) {
        let Net::Lab(pod, _) = &self.net else { panic!("{} has no namespace", self.name) };
        let output = pod.run(command, 0, PATIENCE).unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// An HTTP connection from its application to its own sidecar's explicit listener, for a service's authority.
    pub async fn http(&self, speaks: Speaks, authority: &str) -> Client {
        self.http_to(self.at(EXPLICIT), speaks, authority).await
    }

    /// An HTTP connection from its application to any address.
    pub async fn http_to(&self, to: SocketAddr, speaks: Speaks, authority: &str) -> Client {
        let stream = self.dial(to).await.unwrap_or_else(|e| panic!("{} to {to}: {e}", self.name));
        Client::begin(stream, speaks, authority).await.unwrap()
    }

    /// How many bytes have arrived for a port of it and are not read.
    ///
    /// # Panics
    /// Where it is not in a namespace.
    #[must_use]
    pub fn unread(&self, port: u16) -> usize {
        match &self.net {
            Net::Lab(pod, _) => pod.unread(port).unwrap(),
            Net::Loopback(_) => panic!("{} is not in a namespace", self.name),
        }
    }

    /// Where real peers run that are to be in this pod.
    #[must_use]
    pub fn place(&self) -> Box<dyn peers::Place> {
        self.net.place()
    }

    /// Starts an application where none runs.
    pub fn start_application(&mut self, application: &Application) {
        self.application = None;
        self.application = Some(start_application(application, &self.net, &self.name));
    }

    /// Ends the application and all its connections.
    pub async fn kill_application(&mut self) {
        self.application = None;
        // What runs here ends at the runtime's next turn.
        let gone = || async { self.net.connect(self.at(APPLICATION), User::Sidecar).await.is_err() };
        until("the application's end", || async { gone().await.then_some(()) }).await;
    }

    /// The ids of the POSTs that a real HTTP application wrote down.
    #[must_use]
    pub fn posts(&self) -> Vec<String> {
        match &self.application {
            Some(Running::Http(app, _)) => app.posts(),
            _ => Vec::new(),
        }
    }

    /// A real TCP application's process.
    pub fn tcp_process(&mut self) -> Option<&mut Process> {
        match &mut self.application {
            Some(Running::Tcp(app, _)) => Some(&mut app.process),
            _ => None,
        }
    }

    /// The sidecar's process, where it is one.
    ///
    /// # Panics
    /// Where it is not.
    pub fn process(&mut self) -> &mut Process {
        match &mut self.sidecar {
            Some(Sidecar::Process(process)) => process,
            _ => panic!("{} has no sidecar process", self.name),
        }
    }

    /// Kills a real HTTP application and its sidecar's process in one moment; returns when both are gone.
    ///
    /// # Panics
    /// Where one of them is no process.
    pub fn kill_at_once(&mut self, application_first: bool) {
        let (Some(Running::Http(application, _)), Some(Sidecar::Process(sidecar))) =
            (&mut self.application, &mut self.sidecar)
        else {
            panic!("{} is not two processes", self.name)
        };
        let mut both = [&mut application.process, sidecar];
        if !application_first {
            both.reverse();
        }
        both.iter_mut().for_each(|process| process.send_kill());
        both.iter_mut().for_each(|process| process.kill_hard());
    }

    /// Starts its sidecar's process anew, with a log of its own.
    pub(super) fn start_process(&mut self) {
        self.sidecar = None;
        fs::remove_file(self.folder.join("sidecar.log")).ok();
        let net = matches!(self.net, Net::Lab(..)).then_some(&self.net);
        self.sidecar = Some(Sidecar::process(&self.folder, net, &self.start));
    }

    /// Begins its sidecar's drain.
    pub fn drain(&self, stage: Stage) {
        match &self.sidecar {
            Some(Sidecar::App(app)) => app.drain().advance(stage),
            _ => panic!("{} has no sidecar in this process", self.name),
        }
    }

    /// Ends its sidecar; `false`: something was cut off.
    pub async fn stop(&mut self) -> bool {
        let Some(Sidecar::App(app)) = self.sidecar.take() else {
            panic!("{} has no sidecar in this process", self.name)
        };
        tokio::task::spawn_blocking(move || app.stop()).await.unwrap()
    }

    /// Everything in the access log so far.
    #[must_use]
    pub fn log(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.join("access.log")).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    /// The entry of the only request for a path, once it is there.
    pub async fn logged(&self, path: &str) -> Value {
        self.logged_where(path, |entry| entry["path"] == path).await
    }

    /// The only entry like this, once it is there.
    pub async fn logged_where(&self, what: &str, like: impl Fn(&Value) -> bool) -> Value {
        let awaited = format!("{} logs {what}", self.name);
        let entry = || async {
            let mut entries: Vec<Value> = self.log().into_iter().filter(&like).collect();
            assert!(entries.len() <= 1, "{what}: more than one entry: {entries:#?}");
            entries.pop()
        };
        until(&awaited, entry).await
    }

    /// The sum over all series of a metric that have these labels.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let series = self.series(name).await;
        let like = |series: &&(BTreeMap<String, String>, f64)| {
            labels.iter().all(|(label, value)| series.0.get(*label).is_some_and(|v| v == value))
        };
        series.iter().filter(like).map(|(_, value)| value).sum()
    }

    /// All series of a metric: labels and value.
    pub async fn series(&self, name: &str) -> Vec<(BTreeMap<String, String>, f64)> {
        let page = self
            .ask(self.start.ports.metrics, "/metrics")
            .await
            .unwrap_or_else(|| panic!("{} has no metrics", self.name));
        let page = String::from_utf8_lossy(&page.body).into_owned();
        page.lines().filter_map(|line| parse_series(line.strip_prefix(name)?)).collect()
    }

    /// Waits until a metric has reached a value.
    pub async fn metric_reaches(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let what = format!("{} of {}, with {labels:?}, at {value}", name, self.name);
        until(&what, || async { (self.metric(name, labels).await >= value).then_some(()) }).await;
    }

    /// A page of the sidecar's own; `None`: it does not answer.
    pub async fn ask(&self, port: u16, path: &str) -> Option<Answer> {
        let stream = self.net.connect(self.at(port), User::Sidecar).await.ok()?;
        let mut client = Client::begin(stream, Speaks::Http1, "sidecar").await.ok()?;
        let request = client.request("GET", path).body(super::Payload::empty()).ok()?;
        client.call(request).await.ok()
    }

    pub(super) async fn ready(&self) {
        if self.sidecar.is_some() {
            let ready = || async {
                let answer = self.ask(self.start.ports.health, "/readyz").await?;
                (answer.status == 200).then_some(())
            };
            until(&format!("{} is ready", self.name), ready).await;
        }
    }
}

/// `{a="b"} 1` or ` 1`. Label values of a mesh hold no quotes.
fn parse_series(text: &str) -> Option<(BTreeMap<String, String>, f64)> {
    let (labels, value) = match text.strip_prefix('{') {
        Some(rest) => rest.rsplit_once("} ")?,
        None => ("", text.strip_prefix(' ')?),
    };
    let labels = labels.split("\",").filter_map(|pair| pair.split_once("=\""));
    let labels = labels.map(|(k, v)| (k.to_owned(), v.trim_end_matches('"').to_owned())).collect();
    Some((labels, value.split(' ').next()?.parse().ok()?))
}

/// Looks again and again until there is something.
///
/// # Panics
/// When patience ends first.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(POLL).await;
    }
}
