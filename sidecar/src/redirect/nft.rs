//! Runs `nft`, the one program that changes the kernel's rules.

use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use super::RedirectError;

/// Loads a ruleset in one transaction: all of it or nothing.
pub(super) fn load(rules: &str) -> Result<(), RedirectError> {
    let output = run("nft", &["-f", "-"], rules)?;
    if output.status.success() { Ok(()) } else { Err(refusal(&output)) }
}

/// The JSON listing of an `inet` table, or nothing if there is no such table.
pub(super) fn list(table: &str) -> Result<Option<String>, RedirectError> {
    let output = run("nft", &["--json", "--numeric", "list", "table", "inet", table], "")?;
    if output.status.success() {
        return Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    match refusal(&output) {
        RedirectError::Refused(text) if text.contains("No such file or directory") => Ok(None),
        error => Err(error),
    }
}

fn run(program: &str, args: &[&str], input: &str) -> Result<Output, RedirectError> {
    let failed = |source| RedirectError::Io { what: "run `nft`", source };
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C") // the messages are read below
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(
            |e| if e.kind() == io::ErrorKind::NotFound { RedirectError::NftMissing } else { failed(e) },
        )?;
    // A refusal can close the pipe before all is written; the exit status then tells why.
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().map_err(failed)?;
    match written {
        Err(e) if output.status.success() => Err(failed(e)),
        _ => Ok(output),
    }
}

fn refusal(output: &Output) -> RedirectError {
    let text = String::from_utf8_lossy(&output.stderr);
    if text.contains("Operation not permitted") || text.contains("must be root") {
        return RedirectError::NotPermitted;
    }
    RedirectError::Refused(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn refused(stderr: &str) -> RedirectError {
        refusal(&Output { status: ExitStatus::from_raw(256), stdout: Vec::new(), stderr: stderr.into() })
    }

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        let error = run("no-such-nft", &[], "").unwrap_err();
        assert!(
            matches!(error, RedirectError::NftMissing) && error.to_string().contains("`nftables`"),
            "{error}"
        );
        assert_eq!(error.exit_code(), 3);
        for denied in [
            "Operation not permitted (you must be root)\nnetlink: Error: cache initialization failed: Operation not permitted",
            "netlink: Error: Could not process rule: Operation not permitted",
        ] {
            let error = refused(denied);
            assert!(matches!(error, RedirectError::NotPermitted) && error.to_string().contains("NET_ADMIN"));
        }
        let error = refused("Error: Could not process rule: Operation not supported\n");
        assert!(
            error
                .to_string()
                .starts_with("nft refused: Error: Could not process rule: Operation not supported\n")
        );
        assert_eq!(error.exit_code(), 1);
    }

    #[test]
    fn a_program_that_does_not_read_its_input_is_judged_by_its_status() {
        let output = run("false", &[], &"x".repeat(1 << 20)).unwrap();
        assert!(!output.status.success());
    }
}
