//! Applications that do not speak HTTP: see `peers/tcp.py`.

use std::net::SocketAddr;
use std::process::Command;

use super::{Place, app};
use crate::lab::LabError;
use crate::process::Process;

/// A running TCP application.
#[derive(Debug)]
pub struct TcpApp {
    /// The process, to be killed or asked for its log.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
}

impl TcpApp {
    /// Speaks first: `220 NAME ready`, then `250 LINE` for each line, `221` for `QUIT`.
    pub fn banner(place: &dyn Place, served_by: &str, port: u16) -> Result<Self, LabError> {
        Self::start(place, "banner", served_by, port)
    }

    /// Returns every byte, and closes its side after the client has closed its own.
    pub fn echo(place: &dyn Place, served_by: &str, port: u16) -> Result<Self, LabError> {
        Self::start(place, "echo", served_by, port)
    }

    fn start(place: &dyn Place, mode: &str, served_by: &str, port: u16) -> Result<Self, LabError> {
        let script = place.make_file("tcp.py", include_bytes!("../../peers/tcp.py"))?;
        let listen = SocketAddr::new(place.address(), port).to_string();
        let mut command = Command::new("python3");
        command.arg("-u").arg(script).args(["--mode", mode, "--served-by", served_by, "--listen", &listen]);
        let mut process = place.start(&command)?;
        let address = app::listening(&mut process)?;
        Ok(Self { process, address })
    }
}
