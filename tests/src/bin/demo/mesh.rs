//! The players: three pods, each an application with its sidecar, and the control plane; their files and their lives.

mod lines;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::{Child, ChildStdout, Command};

use crate::control::ControlPlane;
use crate::failure::{Failure, Result};
use crate::process::{self, send};
use crate::scenario::{GETS_PER_SECOND, OTHER, POSTS_PER_SECOND, PREFERRED};
use crate::waiting::within;
use crate::world::{Place, Pod, User, World};
use crate::{application, fetch, files};

/// Where the application listens, and where its service is called.
pub(crate) const APPLICATION: u16 = 8080;
pub(crate) const MESH: u16 = 15008;
pub(crate) const EXPLICIT: u16 = 15080;
pub(crate) const METRICS: u16 = 15020;
pub(crate) const HEALTH: u16 = 15021;
pub(crate) const CONTROL_PLANE: u16 = 15010;
pub(crate) const HOST: &str = "orders.shop";

/// How long a sidecar may take to start: far more than it does.
const START: Duration = Duration::from_secs(20);
/// How long it may take until nobody calls a region whose application is dead.
const FAREWELL: Duration = Duration::from_secs(10);

pub(crate) struct Mesh {
    folder: TempDir,
    /// The sidecar and this program, where every user may read them.
    sidecar: PathBuf,
    own: PathBuf,
    orders: [Pod; 2],
    storefront: Pod,
    pub(crate) control: ControlPlane,
    /// Whether the policy in force has requests traced.
    pub(crate) is_traced: bool,
    running: BTreeMap<&'static str, Vec<Child>>,
    client: Option<Child>,
    // Dropped last: nothing runs any more when the network goes.
    world: World,
}

impl Mesh {
    /// Everything but the processes. `programs` is the folder where they lie.
    pub(crate) async fn build(place: Place, programs: &Path) -> Result<Self> {
        let folder = files::folder()?;
        let own = std::env::current_exe().map_err(Failure::on("find", "the demo's own program"))?;
        let world = World::make(place)?;
        let orders = [
            Pod::new(&world, "orders-sp", "orders", PREFERRED, 1)?,
            Pod::new(&world, "orders-rio", "orders", OTHER, 2)?,
        ];
        let storefront = Pod::new(&world, "storefront", "storefront", PREFERRED, 3)?;
        let control = Pod::new(&world, "control", "trama-control-plane", PREFERRED, 4)?;
        let copied = |name| files::copy(&programs.join(name), folder.path());
        let (sidecar, program, tramactl) =
            (copied("trama-sidecar")?, copied("trama-control-plane")?, copied("tramactl")?);
        let own = files::copy(&own, folder.path())?;
        let pods = [&orders[0], &orders[1], &storefront].map(Pod::clone);
        files::write(folder.path(), &world, &pods, &control)?;
        let control = ControlPlane::new(control, [&program, &tramactl, &own], folder.path());
        let running = BTreeMap::new();
        let mesh = Self {
            folder,
            sidecar,
            own,
            orders,
            storefront,
            control,
            is_traced: false,
            running,
            client: None,
            world,
        };
        for pod in mesh.pods() {
            mesh.capture(pod).await?;
        }
        Ok(mesh)
    }

    /// Starts all pods and waits until their sidecars are ready.
    pub(crate) async fn start_pods(&mut self) -> Result<()> {
        let pods = self.pods().map(Pod::clone);
        pods.iter().try_for_each(|pod| self.start_pod(pod))?;
        for pod in &pods {
            self.ready(pod).await?;
        }
        Ok(())
    }

    pub(crate) fn place(&self) -> Place {
        self.world.place()
    }

    /// Starts the client; its report comes out of the pipe.
    pub(crate) fn start_client(&mut self) -> Result<ChildStdout> {
        let captured = self.world.service().first().map(|address| SocketAddr::new(*address, 80));
        let to = captured.unwrap_or_else(|| self.storefront.at(EXPLICIT)).to_string();
        let mut command = self.storefront.command(User::Application, &self.own);
        command.args(["load", "--to", &to, "--host", HOST]);
        command.args(["--gets-per-second", &GETS_PER_SECOND.to_string()]);
        command.args(["--posts-per-second", &POSTS_PER_SECOND.to_string()]);
        let client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut client = client.map_err(Failure::on("start", "the client"))?;
        let report = client.stdout.take().ok_or_else(|| Failure("the client has no output".to_owned()))?;
        self.client = Some(client);
        Ok(report)
    }

    /// The client ends when its input does.
    pub(crate) fn stop_client(&mut self) {
        if let Some(client) = &mut self.client {
            drop(client.stdin.take());
        }
    }

    /// Kills a region without warning: the application, and its sidecar once nobody calls it any more. That is
    /// Kubernetes' order as well: a sidecar container outlives the application. Were both killed at once, nobody could
    /// know whether a request that only the sidecar had was passed on, and such a POST would not be repeated.
    pub(crate) async fn kill(&mut self, region: &'static str) -> Result<()> {
        let pod = self.orders_in(region).clone();
        let Some(processes) = self.running.remove(pod.name) else { return Ok(()) };
        let [mut application, mut sidecar] =
            <[Child; 2]>::try_from(processes).map_err(|_| Failure(format!("{region} is not whole")))?;
        let before = self.ejections(region).await?;
        self.close_the_journal(&pod, &sidecar).await?;
        application.kill().await.map_err(Failure::on("kill the application in", region))?;
        send(&sidecar, Signal::CONT)?;
        self.left(&pod, before).await?;
        sidecar.kill().await.map_err(Failure::on("kill the sidecar in", region))
    }

    /// Holds the sidecar, so that the application gets nothing more, until the application has written down what it has
    /// received: it takes connections and requests in the order in which they came, so the answer to a question of ours
    /// comes after that. Else the journal would lack what lay unread in its sockets when it died.
    async fn close_the_journal(&self, pod: &Pod, sidecar: &Child) -> Result<()> {
        send(sidecar, Signal::STOP)?;
        self.fetch(pod, APPLICATION, application::HEALTH).await.map(drop)
    }

    /// Waits until the client's sidecar has left a region and that region's sidecar has ended what it still had.
    async fn left(&self, pod: &Pod, ejections_before: f64) -> Result<()> {
        let mut ended_before = None;
        let left = within(FAREWELL, async || {
            let ejected = self.ejections(pod.region).await? > ejections_before;
            let ended = self.count_at(pod, "trama_requests_total", &[]).await?;
            let has_left = ended_before == Some(ended);
            ended_before = ejected.then_some(ended);
            Ok(has_left.then_some(()))
        });
        let stays = || {
            let seconds = FAREWELL.as_secs();
            Failure(format!("{} is still called, {seconds} s after its application died", pod.name))
        };
        left.await?.ok_or_else(stays)
    }

    async fn ejections(&self, region: &str) -> Result<f64> {
        self.counted("trama_ejections_total", &[&format!("peer_region=\"{region}\"")]).await
    }

    pub(crate) async fn revive(&mut self, region: &'static str) -> Result<()> {
        let pod = self.orders_in(region).clone();
        self.start_pod(&pod)?;
        self.ready(&pod).await
    }

    /// Kills a region's sidecar without warning and starts it again. Says how long that took until it was ready.
    pub(crate) async fn restart_sidecar(&mut self, region: &'static str) -> Result<Duration> {
        let pod = self.orders_in(region).clone();
        let sidecar = self.running.get_mut(pod.name).and_then(Vec::pop);
        let mut sidecar = sidecar.ok_or_else(|| Failure(format!("{region} is not whole")))?;
        sidecar.kill().await.map_err(Failure::on("kill the sidecar in", region))?;
        let began = Instant::now();
        self.start_sidecar(&pod)?;
        self.ready(&pod).await?;
        Ok(began.elapsed())
    }

    pub(crate) fn is_alive(&self, region: &'static str) -> bool {
        self.running.contains_key(self.orders_in(region).name)
    }

    /// How often each order reached an application, in any region.
    pub(crate) fn journal(&self) -> Result<BTreeMap<u64, u32>> {
        let mut journal = BTreeMap::new();
        for pod in &self.orders {
            let path = self.journal_of(pod);
            let text = std::fs::read_to_string(&path).map_err(Failure::on("read", path.display()))?;
            // What was ordered by hand has no number.
            for order in text.lines().filter_map(|line| line.parse().ok()) {
                *journal.entry(order).or_default() += 1;
            }
        }
        Ok(journal)
    }

    /// What the mesh port of a pod says to a plain request.
    pub(crate) async fn ask_mesh_port_plainly(&self) -> String {
        let pod = &self.orders[1];
        let fetched = self.fetch(pod, MESH, "/orders").await;
        fetched.unwrap_or_else(|failure| failure.0)
    }

    /// What the client's sidecar counts: the sum of a metric over all series that have these labels.
    pub(crate) async fn counted(&self, metric: &str, labels: &[&str]) -> Result<f64> {
        self.count_at(&self.storefront, metric, labels).await
    }

    /// The same of the sidecar of a region's application.
    pub(crate) async fn counted_in(&self, region: &str, metric: &str, labels: &[&str]) -> Result<f64> {
        self.count_at(self.orders_in(region), metric, labels).await
    }

    async fn count_at(&self, pod: &Pod, metric: &str, labels: &[&str]) -> Result<f64> {
        let page = self.fetch(pod, METRICS, "/metrics").await?;
        let is_of = |line: &&str| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let wanted =
            page.lines().filter(is_of).filter(|line| labels.iter().all(|label| line.contains(label)));
        Ok(wanted.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// The last lines of the client's sidecar's access log, made short.
    pub(crate) fn decisions(&self) -> Vec<String> {
        files::decisions(&self.log_of(&self.storefront, "access"))
    }

    /// The pods with a sidecar.
    fn pods(&self) -> [&Pod; 3] {
        [&self.orders[0], &self.orders[1], &self.storefront]
    }

    fn orders_in(&self, region: &str) -> &Pod {
        let [first, second] = &self.orders;
        if first.region == region { first } else { second }
    }

    async fn capture(&self, pod: &Pod) -> Result<()> {
        if self.place() == Place::Loopback {
            return Ok(());
        }
        let mut command = pod.command(User::Root, &self.sidecar);
        let output = command.args(["redirect", "--apply"]).output().await;
        let output = output.map_err(Failure::on("capture the traffic of", pod.name))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        Err(Failure(format!("cannot capture the traffic of {}:\n{text}", pod.name)))
    }

    /// The application, if the pod has one that serves, and then its sidecar.
    fn start_pod(&mut self, pod: &Pod) -> Result<()> {
        let mut processes = Vec::new();
        if pod.account == "orders" {
            let own = self.own.clone();
            let mut command = pod.command(User::Application, &own);
            command.args(["application", "--region", pod.region]);
            command.args(["--listen", &pod.at(APPLICATION).to_string()]);
            command.arg("--journal").arg(self.journal_of(pod));
            processes.push(self.spawn(pod, "application", command)?);
        }
        self.running.insert(pod.name, processes);
        self.start_sidecar(pod)
    }

    fn start_sidecar(&mut self, pod: &Pod) -> Result<()> {
        let mut command = pod.command(User::Sidecar, &self.sidecar);
        command.arg("--config").arg(self.folder.path().join(pod.name).join("sidecar.yaml"));
        let sidecar = self.spawn(pod, "sidecar", command)?;
        self.running.entry(pod.name).or_default().push(sidecar);
        Ok(())
    }

    fn spawn(&self, pod: &Pod, what: &str, command: Command) -> Result<Child> {
        process::spawn(&format!("the {what} of {}", pod.name), command, &self.log_of(pod, what))
    }

    async fn ready(&mut self, pod: &Pod) -> Result<()> {
        let ready = within(START, async || {
            for process in self.running.get_mut(pod.name).into_iter().flatten() {
                if let Ok(Some(status)) = process.try_wait() {
                    return Err(self.post_mortem(pod, &format!("ended: {status}")));
                }
            }
            let is_well = async |port, path| fetch::is_well(&self.own, pod, port, path).await;
            let serves = pod.account != "orders" || is_well(APPLICATION, application::HEALTH).await;
            Ok((serves && is_well(HEALTH, "/readyz").await).then_some(()))
        });
        let ready = ready.await?;
        ready.ok_or_else(|| self.post_mortem(pod, &format!("was not ready within {} s", START.as_secs())))
    }

    fn post_mortem(&self, pod: &Pod, what: &str) -> Failure {
        let tail = |what| files::tail(&self.log_of(pod, what), 20).join("\n");
        Failure(format!("{} {what}. Its logs:\n{}\n{}", pod.name, tail("application"), tail("sidecar")))
    }

    async fn fetch(&self, pod: &Pod, port: u16, path: &str) -> Result<String> {
        fetch::within(&self.own, pod, port, path).await
    }

    fn journal_of(&self, pod: &Pod) -> PathBuf {
        self.folder.path().join(pod.name).join("journal")
    }

    fn log_of(&self, pod: &Pod, what: &str) -> PathBuf {
        self.folder.path().join(pod.name).join(format!("{what}.log"))
    }
}
