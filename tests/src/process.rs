//! Processes that a test starts: in a group of their own, with a log that is shown when the test fails, and
//! gone when the value is dropped.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How often something awaited is looked at.
const POLL: Duration = Duration::from_millis(5);
/// How much of a log an error shows.
const TAIL: usize = 4000;

/// Why a process did not do what a test waited for.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("{program}: {source}")]
    Start {
        /// What was to be started.
        program: String,
        /// Why it failed.
        source: io::Error,
    },
    /// It ended before what was awaited happened.
    #[error("{name} ended ({status}) before {awaited}\n{log}")]
    Ended {
        /// The process's name.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// What was awaited.
        awaited: String,
        /// The end of its log.
        log: String,
    },
    /// The deadline came first.
    #[error("{name}: no {awaited} within {patience:?}\n{log}")]
    Late {
        /// The process's name.
        name: String,
        /// What was awaited.
        awaited: String,
        /// How long.
        patience: Duration,
        /// The end of its log.
        log: String,
    },
}

/// A running process. Dropping it kills its group; if the test panics, the end of its log is printed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts a command whose output goes to a log file.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self, ProcessError> {
        let start = |command: &mut Command| {
            let (out, err) = {
                let file = File::options().create(true).append(true).open(log)?;
                (file.try_clone()?, file)
            };
            command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0).spawn()
        };
        let child = start(command).map_err(|source| failed_start(command, source))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), ended: None })
    }

    /// The process id, which is also that of its group.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that the process has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.status().is_none()
    }

    /// SIGTERM, to the process and what it started.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// SIGINT, to the process and what it started.
    pub fn interrupt(&mut self) {
        self.signal(Signal::INT);
    }

    /// SIGHUP, to the process and what it started.
    pub fn hang_up(&mut self) {
        self.signal(Signal::HUP);
    }

    /// SIGSTOP, to the process and what it started: they do nothing more, while their sockets go on receiving.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT, after [`Process::pause`].
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    /// SIGKILL, to the process and what it started. Does not wait, so that several can be killed in one moment.
    pub fn send_kill(&mut self) {
        self.signal(Signal::KILL);
    }

    /// The same; returns when it is gone.
    pub fn kill_hard(&mut self) {
        self.send_kill();
        if self.ended.is_none() {
            self.ended = self.child.wait().ok();
        }
    }

    /// Waits for the process's end.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus, ProcessError> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.status() {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(self.late("end", patience));
            }
            thread::sleep(POLL);
        }
    }

    /// Waits until `look` finds what it looks for, as long as the process runs.
    pub fn wait_until<T>(
        &mut self,
        awaited: &str,
        patience: Duration,
        mut look: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, ProcessError> {
        let deadline = Instant::now() + patience;
        loop {
            let ended = self.status();
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if let Some(status) = ended {
                let (name, awaited, log) = (self.name.clone(), awaited.to_owned(), self.tail());
                return Err(ProcessError::Ended { name, status, awaited, log });
            }
            if Instant::now() >= deadline {
                return Err(self.late(awaited, patience));
            }
            thread::sleep(POLL);
        }
    }

    /// Waits for a whole line of the log that begins with `prefix`, and returns what follows it.
    pub fn wait_line(&mut self, prefix: &str, patience: Duration) -> Result<String, ProcessError> {
        self.wait_until(&format!("line `{prefix}…`"), patience, |process| {
            let log = process.log();
            let whole = log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            whole.filter_map(|line| line.strip_prefix(prefix)).next().map(str::to_owned)
        })
    }

    fn status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Not after its end: the group's number may be another's by then.
    fn signal(&mut self, signal: Signal) {
        let running = self.status().is_none();
        if let Some(group) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).filter(|_| running) {
            // It can end between the question and the signal.
            let _ = kill_process_group(group, signal);
        }
    }

    fn late(&self, awaited: &str, patience: Duration) -> ProcessError {
        let (name, awaited) = (self.name.clone(), awaited.to_owned());
        ProcessError::Late { name, awaited, patience, log: self.tail() }
    }

    fn tail(&self) -> String {
        tail(&self.log())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_hard();
        if thread::panicking() {
            eprintln!("---- log of {} ----\n{}", self.name, self.tail());
        }
    }
}

/// Runs a command to its end. What it prints goes through files, so that no full pipe can stall it.
pub fn run(command: &mut Command, patience: Duration) -> Result<Output, ProcessError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let prepare = |command: &mut Command| -> io::Result<_> {
        let (out, err) = (tempfile::NamedTempFile::new()?, tempfile::NamedTempFile::new()?);
        command.stdin(Stdio::null()).stdout(out.reopen()?).stderr(err.reopen()?).process_group(0);
        let child = command.spawn()?;
        Ok((child, out, err))
    };
    let (child, out, err) = prepare(command).map_err(|source| failed_start(command, source))?;
    let mut process = Process { name, child, log: err.path().to_owned(), ended: None };
    let status = process.wait(patience)?;
    let read = |file: &tempfile::NamedTempFile| fs::read(file.path()).unwrap_or_default();
    Ok(Output { status, stdout: read(&out), stderr: read(&err) })
}

fn failed_start(command: &Command, source: io::Error) -> ProcessError {
    ProcessError::Start { program: command.get_program().to_string_lossy().into_owned(), source }
}

fn tail(log: &str) -> String {
    let start = log.char_indices().rev().nth(TAIL).map_or(0, |(at, _)| at);
    log[start..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> (Process, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let process =
            Process::start("shell", Command::new("sh").args(["-c", script]), &folder.path().join("log"))
                .unwrap();
        (process, folder)
    }

    #[test]
    fn a_line_of_the_log_is_awaited_and_the_group_is_killed() {
        let (mut process, _folder) = shell("echo port 12; sleep 600 & echo child $!; wait");
        assert_eq!(process.wait_line("port ", PATIENCE).unwrap(), "12");
        let child = process.wait_line("child ", PATIENCE).unwrap();
        process.kill_hard();
        let gone = Instant::now() + PATIENCE;
        // A killed child of a dead parent may stay a zombie until somebody reaps it.
        let dead = || {
            let stat = fs::read_to_string(format!("/proc/{child}/stat"));
            stat.map_or(true, |s| s.contains(") Z "))
        };
        while !dead() {
            assert!(Instant::now() < gone, "the process's child lives");
            thread::sleep(POLL);
        }
    }

    #[test]
    fn an_early_end_and_a_late_one_show_the_log() {
        let (mut process, _folder) = shell("echo why; exit 3");
        let error = process.wait_line("never", PATIENCE).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("why"), "{error}");

        let (mut process, _folder) = shell("exec sleep 600");
        let error = process.wait(Duration::from_millis(20)).unwrap_err().to_string();
        assert!(error.contains("no end within 20ms"), "{error}");
        process.terminate();
        assert!(!process.wait(PATIENCE).unwrap().success());
    }

    #[test]
    fn output_is_collected_beyond_a_pipes_size() {
        let output =
            run(Command::new("sh").args(["-c", "head -c 300000 /dev/zero; echo e >&2; exit 4"]), PATIENCE)
                .unwrap();
        assert_eq!((output.stdout.len(), output.status.code()), (300_000, Some(4)));
        assert_eq!(output.stderr, b"e\n");
        let error = run(&mut Command::new("no-such-program"), PATIENCE).unwrap_err().to_string();
        assert!(error.contains("no-such-program"), "{error}");
    }
}
