//! Builds the Go peer once per user and version of its source.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::lab::LabError;
use crate::programs;

const SOURCES: [(&str, &str); 4] = [
    ("go.mod", include_str!("../../peers/go/go.mod")),
    ("main.go", include_str!("../../peers/go/main.go")),
    ("serve.go", include_str!("../../peers/go/serve.go")),
    ("client.go", include_str!("../../peers/go/client.go")),
];

/// The program, built if this version of its source never was.
pub(super) fn peer() -> Result<PathBuf, LabError> {
    let mut hasher = DefaultHasher::new();
    SOURCES.hash(&mut hasher);
    let folder = programs::cache().join("peers").join(format!("go-{:016x}", hasher.finish()));
    let program = folder.join("peer");
    if !program.exists() {
        build(&folder, &program)?;
    }
    Ok(program)
}

/// One process builds while others wait for it; what is there is always whole.
fn build(folder: &Path, program: &Path) -> Result<(), LabError> {
    let io = |source| LabError::Io { what: "prepare the Go peer's folder in the cache", source };
    fs::create_dir_all(folder).map_err(io)?;
    let lock = File::create(folder.join("lock")).map_err(io)?;
    lock.lock().map_err(io)?;
    if program.exists() {
        return Ok(());
    }
    let go = programs::find("go")
        .ok_or(LabError::Missing { program: "go", package: "golang-go (1.24 or newer)" })?;
    let partial = folder.join("peer.partial");
    eprintln!("building the Go peer into {} (once, about half a minute)", folder.display());
    for (name, text) in SOURCES {
        fs::write(folder.join(name), text).map_err(io)?;
    }
    let output = Command::new(go)
        .args(["build", "-trimpath", "-o"])
        .arg(&partial)
        .arg(".")
        .current_dir(folder)
        // Standard library only: nothing to download, whatever the user's settings are.
        .envs([
            ("GOPROXY", "off"),
            ("GOTOOLCHAIN", "local"),
            ("GOFLAGS", ""),
            ("GOWORK", "off"),
            ("CGO_ENABLED", "0"),
        ])
        .stdin(Stdio::null())
        .output()
        .map_err(io)?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(LabError::Command {
            command: "go build (the Go peer needs Go 1.24 or newer)".into(),
            stderr,
        });
    }
    fs::rename(&partial, program).map_err(io)
}
