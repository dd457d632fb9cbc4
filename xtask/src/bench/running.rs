//! A proxy or backend that runs while its guard lives. Each is one process, so killing that one leaves nothing.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::process;

/// The kernel counts CPU time for user space in hundredths of a second, on every architecture.
const TICK: Duration = Duration::from_millis(10);
const UP_WITHIN: Duration = Duration::from_secs(20);

/// A command, and the port which tells that what it starts is up.
pub(crate) struct Launch {
    pub(crate) name: String,
    pub(crate) command: Command,
    pub(crate) port: u16,
}

pub(crate) struct Running {
    child: Child,
    pub(crate) port: u16,
    /// From the start of the process to its first accepted connection.
    pub(crate) start: Duration,
}

impl Running {
    /// Starts the process with its output in `folder`/NAME.log, and waits until it accepts connections.
    pub(crate) fn start(launch: Launch, folder: &Path) -> Result<Self> {
        let Launch { name, mut command, port } = launch;
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).map_err(Error::file("create", &log))?;
        let errors = output.try_clone().map_err(Error::file("open", &log))?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let begin = Instant::now();
        let spawned = command.spawn();
        let child = spawned.map_err(|source| Error::Start { command: process::spell(&command), source })?;
        let mut running = Self { child, port, start: Duration::ZERO };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        while TcpStream::connect(address).is_err() {
            let ended = running.child.try_wait().is_ok_and(|status| status.is_some());
            if ended || begin.elapsed() > UP_WITHIN {
                return Err(Error::NotUp { name, port, log });
            }
            thread::sleep(Duration::from_micros(200));
        }
        running.start = begin.elapsed();
        Ok(running)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// User and system time of all the process's threads so far (proc(5), fields 14 and 15).
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let (path, text) = self.proc("stat")?;
        // The name in field 2 may hold spaces and parentheses, so fields are counted from its end.
        let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: Vec<u32> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
        match ticks[..] {
            [user, system] => Ok(TICK * (user + system)),
            _ => Err(Error::Unreadable { what: path, text }),
        }
    }

    /// Resident memory in KiB.
    pub(crate) fn resident(&self) -> Result<u64> {
        let (path, text) = self.proc("status")?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.ok_or(Error::Unreadable { what: path, text })
    }

    fn proc(&self, file: &str) -> Result<(String, String)> {
        let path = format!("/proc/{}/{file}", self.id());
        let text = fs::read_to_string(&path).map_err(Error::file("read", Path::new(&path)))?;
        Ok((path, text))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_process_are_read_and_it_ends_with_its_guard() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut command = Command::new("sleep");
        command.arg("60");
        let launch = Launch { name: format!("bench-test-{port}"), command, port };
        let running = Running::start(launch, &std::env::temp_dir()).unwrap();
        let status = format!("/proc/{}", running.child.id());
        assert!(running.cpu().unwrap() < Duration::from_secs(5));
        let begin = Instant::now();
        while running.resident().unwrap() < 100 {
            assert!(
                begin.elapsed() < Duration::from_secs(10),
                "a program takes more than 100 KiB once it runs"
            );
        }
        drop(running);
        assert!(!Path::new(&status).exists());
        fs::remove_file(std::env::temp_dir().join(format!("bench-test-{port}.log"))).unwrap();
    }

    #[test]
    fn a_process_that_ends_at_once_is_an_error_that_names_its_log() {
        let launch = Launch { name: "bench-test-false".to_owned(), command: Command::new("false"), port: 1 };
        let error = Running::start(launch, &std::env::temp_dir()).err().unwrap().to_string();
        assert!(error.contains("bench-test-false.log"), "{error}");
        fs::remove_file(std::env::temp_dir().join("bench-test-false.log")).unwrap();
    }
}
