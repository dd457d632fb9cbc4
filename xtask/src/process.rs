//! Child processes: quiet ones whose output goes to a log while the terminal shows a line of progress, and
//! loud ones that own the terminal.

use std::fs::File;
use std::io::{BufRead, BufReader, Write, pipe};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};

/// The repository's root folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask/ lies in the root folder")
}

/// A cargo command in the root folder. Cargo names itself to what it runs, so that the same toolchain is used.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Where cargo puts what it builds: the folder in which it put us.
pub(crate) fn target() -> Result<PathBuf> {
    let own = std::env::current_exe();
    let own = own.map_err(|source| Error::Start { command: "cargo xtask".to_owned(), source })?;
    Ok(own.ancestors().nth(2).unwrap_or_else(|| root()).to_owned())
}

/// Runs a command that owns the terminal; anything but success is an error.
pub(crate) fn loud(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(cannot_start(command))?;
    if status.success() { Ok(()) } else { Err(Error::Failed { command: spell(command), status }) }
}

/// What `quiet` tells its watcher.
pub(crate) enum Event<'a> {
    Line(&'a str),
    /// Nothing was printed for a second: a chance to redraw the clock.
    Tick,
}

/// Runs a command with its output appended to `log`, and every line shown to `watch` as well.
pub(crate) fn quiet(
    mut command: Command,
    log: &mut File,
    mut watch: impl FnMut(Event<'_>),
) -> Result<ExitStatus> {
    let start = cannot_start(&command);
    let (reader, writer) = pipe().map_err(cannot_start(&command))?;
    let errors = writer.try_clone().map_err(cannot_start(&command))?;
    let mut child = command.stdout(writer).stderr(errors).spawn().map_err(start)?;
    // The command keeps its own copies of the pipe's write end: while they live, the reader sees no end.
    drop(command);

    let (lines, incoming) = channel();
    let reading = thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(std::result::Result::ok) {
            if lines.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    loop {
        match incoming.recv_timeout(Duration::from_secs(1)) {
            Ok(line) => {
                // A full disk must not hide the result of the tests.
                writeln!(log, "{line}").unwrap_or_else(|error| eprintln!("cannot write the log: {error}"));
                watch(Event::Line(&line));
            }
            Err(RecvTimeoutError::Timeout) => watch(Event::Tick),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.wait().map_err(|source| Error::Start { command: "wait".to_owned(), source })?;
    reading.join().expect("the reading thread does not panic");
    Ok(status)
}

/// The command as one would type it.
pub(crate) fn spell(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    command.get_args().fold(program, |line, argument| line + " " + &argument.to_string_lossy())
}

fn cannot_start(command: &Command) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let command = spell(command);
    move |source| Error::Start { command, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_both_streams_reaches_the_watcher_and_the_log() {
        let mut log = tempfile();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; exit 3"]);
        let mut seen = Vec::new();
        let status = quiet(command, &mut log.1, |event| {
            if let Event::Line(line) = event {
                seen.push(line.to_owned());
            }
        })
        .unwrap();
        assert_eq!(seen, ["one", "two"]);
        assert_eq!(status.code(), Some(3));
        assert_eq!(std::fs::read_to_string(&log.0).unwrap(), "one\ntwo\n");
        std::fs::remove_file(&log.0).unwrap();
    }

    #[test]
    fn a_missing_program_is_named() {
        let mut log = tempfile();
        let error = quiet(Command::new("no-such-program"), &mut log.1, |_| ()).unwrap_err();
        assert!(error.to_string().contains("`no-such-program`"), "{error}");
        std::fs::remove_file(&log.0).unwrap();
    }

    fn tempfile() -> (PathBuf, File) {
        let name = format!("trama-xtask-{}-{:?}", std::process::id(), thread::current().id());
        let path = std::env::temp_dir().join(name);
        (path.clone(), File::create(path).unwrap())
    }
}
