//! The control plane: a process in a pod of its own, and `tramactl`, by which people and the story speak with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Child;

use crate::failure::{Failure, Result};
use crate::process::{self, Ran};
use crate::waiting::within;
use crate::world::{Pod, User};
use crate::{fetch, files};

/// How long it may take to start: far more than it does.
const START: Duration = Duration::from_secs(20);
const HEALTH: u16 = 15012;

pub(crate) struct ControlPlane {
    pod: Pod,
    program: PathBuf,
    tramactl: PathBuf,
    /// This program, where every user may read it.
    own: PathBuf,
    /// The demo's folder.
    folder: PathBuf,
    running: Option<Child>,
}

impl ControlPlane {
    /// One that does not run yet: the programs are its own, `tramactl` and the demo.
    pub(crate) fn new(pod: Pod, programs: [&Path; 3], folder: &Path) -> Self {
        let [program, tramactl, own] = programs.map(Path::to_owned);
        Self { pod, program, tramactl, own, folder: folder.to_owned(), running: None }
    }

    /// Starts it, and waits until it is ready.
    pub(crate) async fn start(&mut self) -> Result<()> {
        let mut command = self.pod.command(User::ControlPlane, &self.program);
        command.arg("--config").arg(files::control_plane(&self.folder).join("control-plane.yaml"));
        let mut running = process::spawn("the control plane", command, &self.log())?;
        let ready = within(START, async || {
            if let Ok(Some(status)) = running.try_wait() {
                return Err(self.post_mortem(&format!("ended: {status}")));
            }
            Ok(fetch::is_well(&self.own, &self.pod, HEALTH, "/readyz").await.then_some(()))
        });
        let late = || self.post_mortem(&format!("was not ready within {} s", START.as_secs()));
        ready.await?.ok_or_else(late)?;
        self.running = Some(running);
        Ok(())
    }

    /// Kills it without warning.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        running.kill().await.map_err(Failure::on("kill", "the control plane"))
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.running.is_some()
    }

    /// A command line of `tramactl`, as a person would type it.
    pub(crate) fn line(&self, rest: &str) -> String {
        let socket = files::control_plane(&self.folder).join("admin.sock");
        format!("{} -s {} {rest}", process::word(&self.tramactl), process::word(&socket))
    }

    /// Runs such a line; the words are those after the server.
    pub(crate) async fn ask(&self, rest: &str) -> Result<Ran> {
        process::run(&self.line(rest)).await
    }

    fn log(&self) -> PathBuf {
        self.folder.join("control-plane.log")
    }

    fn post_mortem(&self, what: &str) -> Failure {
        let log = files::tail(&self.log(), 20).join("\n");
        Failure(format!("the control plane {what}. Its log:\n{log}"))
    }
}
