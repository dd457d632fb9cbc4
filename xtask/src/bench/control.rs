//! The control plane with sidecars that join it, renew, and follow its policy: the program `fleet` of `tests/` is all of them,
//! and does what it is told a line at a time, so that the control plane's process can be looked at in between.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use super::measure::{Effort, settled};
use super::peers::first_line;
use super::row::{Identity, Measure};
use super::running::{Launch, Running};
use super::site::{Site, free_port};
use crate::error::{Error, Result};
use crate::process;

/// The sidecars with a stream.
pub(crate) const SIDECARS: u32 = 100;

/// The programs, built.
pub(crate) struct Programs {
    control: PathBuf,
    fleet: PathBuf,
}

impl Programs {
    /// Builds the release profile, which takes minutes the first time.
    pub(crate) fn build() -> Result<Self> {
        let [control, fleet] = ["trama-control-plane", "fleet"];
        let packages = ["--package", "trama-control-plane", "--package", "trama-tests"];
        let arguments =
            [&["build", "--release"], &packages[..], &["--bin", control, "--bin", fleet]].concat();
        process::loud(&mut process::cargo(&arguments))?;
        let folder = process::root().join("target/release");
        Ok(Self { control: folder.join(control), fleet: folder.join(fleet) })
    }

    pub(crate) fn version(&self) -> Result<String> {
        let mut command = Command::new(&self.control);
        command.arg("--version");
        first_line(command)
    }
}

/// Plays a row. The figures are those of changes where one change is one, else those of rounds.
pub(crate) fn rounds(
    measure: Measure,
    programs: &Programs,
    site: &Site,
    effort: &Effort,
) -> Result<Vec<f64>> {
    match measure {
        Measure::Acknowledged => acknowledged(programs, site, effort),
        Measure::CpuPerIdentity(how) => cpu(how, programs, site, effort),
        _ => (0..effort.rounds).map(|_| per_stream(programs, site)).collect(),
    }
}

fn acknowledged(programs: &Programs, site: &Site, effort: &Effort) -> Result<Vec<f64>> {
    let Pair { mut fleet, control: _control } = Pair::joined(programs, site, SIDECARS)?;
    fleet.ask("open")?;
    // The first change makes what later ones find.
    fleet.took()?;
    (0..effort.changes).map(|_| Ok(fleet.took()?.as_secs_f64() * 1e3)).collect()
}

/// Of a control plane just started, whose sidecars have joined before: what they set up once is no cost of a stream.
fn per_stream(programs: &Programs, site: &Site) -> Result<f64> {
    let Pair { mut fleet, control } = Pair::joined(programs, site, SIDECARS)?;
    let before = settled(|| control.resident())? as f64;
    fleet.ask("open")?;
    let after = settled(|| control.resident())? as f64;
    Ok((after - before) / f64::from(SIDECARS))
}

fn cpu(how: Identity, programs: &Programs, site: &Site, effort: &Effort) -> Result<Vec<f64>> {
    let Pair { mut fleet, control } = Pair::joined(programs, site, effort.identities)?;
    let order = match how {
        Identity::Join => "join",
        Identity::Renew => "renew",
    };
    let mut round = || {
        if how == Identity::Join {
            fleet.ask(&format!("invite {}", effort.identities))?;
        }
        let before = control.cpu()?;
        fleet.ask(order)?;
        Ok((control.cpu()? - before).as_secs_f64() * 1e6 / f64::from(effort.identities))
    };
    (0..effort.rounds).map(|_| round()).collect()
}

/// A control plane, just started, and its fleet.
struct Pair {
    fleet: Fleet,
    control: Running,
}

impl Pair {
    /// With the policy applied, and so many sidecars that have joined.
    fn joined(programs: &Programs, site: &Site, sidecars: u32) -> Result<Self> {
        let folder = site.folder.join("control");
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::file("remove", &folder)(error));
            }
            _ => {}
        }
        let port = free_port()?;
        let config = site.write("control/config.yaml", configuration(port)?)?;
        let mut command = Command::new(&programs.control);
        command.arg("--config").arg(config).current_dir(&folder);
        let launch = Launch { name: "control/control-plane".to_owned(), command, port };
        let control = Running::start(launch, &site.folder)?;
        let mut fleet = Fleet::start(&programs.fleet, port, &folder)?;
        for order in ["policy", &format!("invite {sidecars}"), "join"] {
            fleet.ask(order)?;
        }
        Ok(Self { fleet, control })
    }
}

/// Paths are relative to the folder that it is started in: that of a Unix socket may not be long.
fn configuration(port: u16) -> Result<String> {
    let (metrics, health) = (free_port()?, free_port()?);
    Ok(format!(
        "trustDomain: mesh.test\nbindAddress: 127.0.0.1\n\
         ports: {{ sidecars: {port}, metrics: {metrics}, health: {health} }}\n\
         store: {{ path: store, sealingKey: sealing.key }}\nadmin: {{ socket: admin.sock }}\n\
         limits: {{ certificatesPerSecond: 100000 }}\n"
    ))
}

/// The sidecars' program.
struct Fleet {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Fleet {
    fn start(program: &Path, port: u16, folder: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("--address").arg(format!("127.0.0.1:{port}")).args(["--socket", "admin.sock"]);
        command.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let spawned = command.spawn();
        let mut child =
            spawned.map_err(|source| Error::Start { command: process::spell(&command), source })?;
        let (orders, answers) = child.stdin.take().zip(child.stdout.take()).expect("both are piped");
        Ok(Self { child, orders, answers: BufReader::new(answers) })
    }

    /// Has something done, and gives the answer.
    fn ask(&mut self, order: &str) -> Result<String> {
        let mut answer = String::new();
        let told = writeln!(self.orders, "{order}").and_then(|()| self.answers.read_line(&mut answer));
        match told {
            // Its end is the end of its answers.
            Ok(read) if read > 0 => Ok(answer.trim().to_owned()),
            _ => Err(Error::Fleet { order: order.to_owned() }),
        }
    }

    /// How long a change took.
    fn took(&mut self) -> Result<Duration> {
        let answer = self.ask("apply")?;
        let microseconds = answer.parse().map_err(|_| Error::Unreadable {
            what: "the time of a change".to_owned(),
            text: answer.clone(),
        })?;
        Ok(Duration::from_micros(microseconds))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The format is the control plane's to change: this test notices it long before somebody runs the benchmark.
#[cfg(test)]
mod tests {
    use trama_control_plane::config::Config;

    use super::*;

    #[test]
    fn what_is_written_is_accepted_by_the_control_planes_reader() {
        let none: [(String, String); 0] = [];
        let config = Config::parse("config", &configuration(15010).unwrap(), none);
        assert_eq!(config.unwrap_or_else(|problems| panic!("{problems}")).ports.sidecars, 15010);
    }
}
