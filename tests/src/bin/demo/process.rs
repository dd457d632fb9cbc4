//! Processes that the demo starts, and command lines that it runs as a reader would type them.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::failure::{Failure, Result};

/// How long a command line may take: longer than what any of them waits for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts a program that writes to this log.
pub(crate) fn spawn(what: &str, mut command: Command, log: &Path) -> Result<Child> {
    let output = File::options().create(true).append(true).open(log);
    let output = output.map_err(Failure::on("open", log.display()))?;
    let errors = output.try_clone().map_err(Failure::on("open", log.display()))?;
    let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
    child.map_err(Failure::on("start", what))
}

pub(crate) fn send(process: &Child, signal: Signal) -> Result<()> {
    let pid = process.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let pid = pid.ok_or_else(|| Failure("a sidecar ended by itself".to_owned()))?;
    kill_process(pid, signal).map_err(Failure::on("send a signal to", pid))
}

/// What a command line printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// `None`: by a signal.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn worked(&self) -> bool {
        self.code == Some(0)
    }

    /// The first line of what it said.
    pub(crate) fn first_line(&self) -> &str {
        self.said().lines().next().unwrap_or_default()
    }

    /// The last one.
    pub(crate) fn last_line(&self) -> &str {
        self.said().lines().next_back().unwrap_or_default()
    }

    /// What it printed, or what went wrong.
    fn said(&self) -> &str {
        if self.worked() || self.err.is_empty() { &self.out } else { &self.err }
    }
}

/// Runs a line as a shell would. One that does not end has not worked.
pub(crate) async fn run(line: &str) -> Result<Ran> {
    run_within(PATIENCE, line).await
}

async fn run_within(patience: Duration, line: &str) -> Result<Ran> {
    let mut shell = Command::new("sh");
    let shell = shell.args(["-c", line]).stdin(Stdio::null()).process_group(0);
    let shell = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let shell = shell.map_err(Failure::on("run", line))?;
    let mut group = Group(shell.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let Ok(output) = timeout(patience, shell.wait_with_output()).await else {
        let err = format!("no end within {} s", patience.as_secs_f64());
        return Ok(Ran { code: None, out: String::new(), err });
    };
    group.0 = None;
    let output = output.map_err(Failure::on("run", line))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) })
}

/// A shell and what it has started, until it has ended.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended in this moment.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// A path as one word of such a line.
pub(crate) fn word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=:@,".contains(&byte);
    if text.bytes().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_is_told_by_its_output_or_by_what_went_wrong() {
        let ran = run("echo one; echo two; echo more >&2").await.unwrap();
        assert_eq!((ran.worked(), ran.first_line(), ran.last_line()), (true, "one", "two"));
        let ran = run("echo one; echo why >&2; exit 7").await.unwrap();
        assert_eq!((ran.code, ran.worked(), ran.first_line()), (Some(7), false, "why"));
        assert_eq!(run("echo not yet; exit 9").await.unwrap().last_line(), "not yet");
    }

    #[tokio::test]
    async fn a_line_that_does_not_end_has_not_worked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let line = format!("sleep 600 & echo $! > {}; wait", word(&file));
        let ran = run_within(Duration::from_millis(300), &line).await.unwrap();
        assert_eq!((ran.worked(), ran.first_line()), (false, "no end within 0.3 s"));
        let sleeper = std::fs::read_to_string(file).unwrap();
        let lives = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", sleeper.trim()));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while lives() {
            assert!(std::time::Instant::now() < deadline, "what the shell has started goes on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_path_is_one_word_whatever_is_in_it() {
        assert_eq!(word(Path::new("/tmp/trama-demo-1-aB")), "/tmp/trama-demo-1-aB");
        for path in ["/tmp/it's here/$x", "/a;b", ""] {
            let ran = run(&format!("printf %s {}", word(Path::new(path)))).await.unwrap();
            assert_eq!(ran.out, path);
        }
    }
}
