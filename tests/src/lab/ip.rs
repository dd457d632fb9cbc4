//! The commands that build the network: iproute2's `ip`.

use std::io::Write;
use std::process::{Command, Stdio};

use super::LabError;
use crate::programs;

/// Runs `ip` with arguments, and returns what it prints.
pub(super) fn run(arguments: &[&str]) -> Result<String, LabError> {
    feed(arguments, "")
}

/// Runs several commands of `ip` in a namespace; the first that fails ends it.
pub(super) fn batch(namespace: &str, commands: &[String]) -> Result<(), LabError> {
    feed(&["-n", namespace, "-batch", "-"], &commands.join("\n")).map(drop)
}

/// Sets kernel parameters of a namespace, each a path below /proc/sys.
pub(super) fn set_sysctls(namespace: &str, settings: &[(&str, &str)]) -> Result<(), LabError> {
    let lines: Vec<String> =
        settings.iter().map(|(key, value)| format!("echo {value} > /proc/sys/{key}")).collect();
    run(&["netns", "exec", namespace, "sh", "-ec", &lines.join("\n")]).map(drop)
}

fn feed(arguments: &[&str], input: &str) -> Result<String, LabError> {
    let ip = programs::find("ip").ok_or(LabError::Missing { program: "ip", package: "iproute2" })?;
    let io = |source| LabError::Io { what: "run `ip`", source };
    let mut child = Command::new(ip)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(io)?;
    // If it ends early, its status tells why.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().map_err(io)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let command = format!("ip {} {input}", arguments.join(" "));
    Err(LabError::Command { command, stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}
