//! HTTP applications, with the same pages in each: see `peers/app.py`.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Place, go};
use crate::lab::LabError;
use crate::process::Process;

/// How long an interpreter may take to start on a busy machine.
pub(super) const START: Duration = Duration::from_secs(20);

/// A running HTTP application.
#[derive(Debug)]
pub struct App {
    /// The process, to be killed or asked for its log.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
    posts: PathBuf,
}

impl App {
    /// The Python application: HTTP/1.1 with keep-alive. Port 0 is a free one. `served_by` is what its answers
    /// carry in `x-served-by`.
    pub fn python(place: &dyn Place, served_by: &str, port: u16) -> Result<Self, LabError> {
        let script = place.make_file("app.py", include_bytes!("../../peers/app.py"))?;
        let posts = posts(place)?;
        let mut command = Command::new("python3");
        command.arg("-u").arg(script).arg("--posts").arg(&posts).args(["--served-by", served_by, "--listen"]);
        Self::start(place, command, posts, port)
    }

    /// The Go application: HTTP/1.1, and HTTP/2 with prior knowledge, on one port. It records no POSTs.
    pub fn go(place: &dyn Place, served_by: &str, port: u16) -> Result<Self, LabError> {
        let mut command = Command::new(go::peer()?);
        command.args(["serve", "-served-by", served_by, "-listen"]);
        let posts = posts(place)?;
        Self::start(place, command, posts, port)
    }

    /// The same over TLS alone, with the files of this folder: `server.pem`, `server.key`, and where clients must show
    /// a certificate `clients.pem`.
    pub fn go_tls(place: &dyn Place, served_by: &str, port: u16, files: &Path) -> Result<Self, LabError> {
        let mut command = Command::new(go::peer()?);
        command.arg("serve").arg("-tls").arg(files).args(["-served-by", served_by, "-listen"]);
        let posts = posts(place)?;
        Self::start(place, command, posts, port)
    }

    /// The ids (`x-post-id`) of the POSTs whose heads have arrived, in order; also after the process's death.
    #[must_use]
    pub fn posts(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.posts).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn start(place: &dyn Place, mut command: Command, posts: PathBuf, port: u16) -> Result<Self, LabError> {
        let listen = SocketAddr::new(place.address(), port);
        let mut process = place.start(command.arg(listen.to_string()))?;
        let address = listening(&mut process)?;
        Ok(Self { process, address, posts })
    }
}

/// The address that a peer says it listens on, once it does.
pub(super) fn listening(process: &mut Process) -> Result<SocketAddr, LabError> {
    let line = process.wait_line("listening ", START)?;
    line.parse().map_err(|_| LabError::Command {
        command: "start a peer".into(),
        stderr: format!("listening {line}"),
    })
}

/// The record of POSTs, which the application's user has to write.
fn posts(place: &dyn Place) -> Result<PathBuf, LabError> {
    use std::os::unix::fs::PermissionsExt;
    let path = place.make_file("posts", b"")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))
        .map_err(|source| LabError::Io { what: "open the record of POSTs to all", source })?;
    Ok(path)
}
