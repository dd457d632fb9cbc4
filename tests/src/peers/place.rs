//! Where a peer runs.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::lab::{LabError, Pod};
use crate::process::{self, Process};
use crate::programs;

/// The user that applications run as in a pod: anyone but the sidecar's.
const APPLICATION: u32 = 1000;

/// Where a process runs, and the address that it serves on.
pub trait Place {
    /// The address to listen on.
    fn address(&self) -> IpAddr;
    /// Starts a process that lives until it is dropped.
    fn start(&self, command: &Command) -> Result<Process, LabError>;
    /// Runs a command to its end.
    fn run_to_end(&self, command: &Command, patience: Duration) -> Result<Output, LabError>;
    /// A new file that processes there can read and write.
    fn make_file(&self, name: &str, content: &[u8]) -> Result<PathBuf, LabError>;
}

impl Place for Pod {
    fn address(&self) -> IpAddr {
        self.ip4.into()
    }

    fn start(&self, command: &Command) -> Result<Process, LabError> {
        self.spawn(command, APPLICATION)
    }

    fn run_to_end(&self, command: &Command, patience: Duration) -> Result<Output, LabError> {
        self.run(command, APPLICATION, patience)
    }

    fn make_file(&self, name: &str, content: &[u8]) -> Result<PathBuf, LabError> {
        self.file(name, content)
    }
}

/// This machine, on loopback, as the user who runs the tests.
#[derive(Debug)]
pub struct Here {
    folder: tempfile::TempDir,
    files: AtomicU32,
}

impl Here {
    /// A place with a folder of its own, which goes with it.
    pub fn new() -> Result<Self, LabError> {
        let folder = tempfile::tempdir().map_err(|source| LabError::Io { what: "make a folder", source })?;
        Ok(Self { folder, files: AtomicU32::new(0) })
    }

    fn fresh(&self, name: &str) -> PathBuf {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        self.folder.path().join(format!("{number}-{name}"))
    }
}

impl Place for Here {
    fn address(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }

    fn start(&self, command: &Command) -> Result<Process, LabError> {
        let program = PathBuf::from(command.get_program());
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = self.fresh(&format!("{name}.log"));
        Ok(Process::start(&name, &mut programs::located(command), &log)?)
    }

    fn run_to_end(&self, command: &Command, patience: Duration) -> Result<Output, LabError> {
        Ok(process::run(&mut programs::located(command), patience)?)
    }

    fn make_file(&self, name: &str, content: &[u8]) -> Result<PathBuf, LabError> {
        let path = self.fresh(name);
        fs::write(&path, content).map_err(|source| LabError::Io { what: "write a file", source })?;
        Ok(path)
    }
}
