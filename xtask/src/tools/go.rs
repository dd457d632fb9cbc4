//! What Go modules bring: programs, built from their sources as their own lock file says, and files.
//!
//! The checksum of a module is pinned here and is the one of Go's own `go.sum` (a hash of every file). A module's own
//! `go.sum` is among those files, so that one line pins a program with all that it is built from.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::process;

use super::{GO, cache, command};

/// A module in one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    pub(super) path: &'static str,
    pub(super) version: &'static str,
    pub(super) sum: &'static str,
}

/// A program of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(super) module: Module,
    /// Its folder in the module.
    pub(super) package: &'static str,
    /// The variable that a release of it has its version in.
    pub(super) version_in: &'static str,
    /// What it prints its version for.
    pub(super) version_by: &'static [&'static str],
}

/// Builds a program into `folder`.
pub(super) fn install(name: &str, program: &Program, folder: &Path) -> Result<()> {
    let Program { module, package, version_in, .. } = program;
    let (version, into) = (module.version, folder.display());
    eprintln!("building {name} {version} into {into} (once; a few minutes; it takes Go 1.24 or newer)");
    let variables = format!("-s -w -X {version_in}={version}");
    build(name, &module.fetch(None)?, package, &variables, folder)
}

/// Builds a package of a module with what its `go.sum` pins, into `folder`, where the program gets its name when it is whole.
pub(super) fn build(name: &str, module: &Path, package: &str, variables: &str, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
    let partial = folder.join(format!("{name}.partial"));
    let mut build =
        go(&["build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", variables, "-o"])?;
    process::loud(build.arg(&partial).arg(package).current_dir(module))?;
    let whole = folder.join(name);
    std::fs::rename(&partial, &whole).map_err(Error::file("rename", &partial))
}

impl Module {
    /// Its folder, after a look at its checksum. Without `modules` it is in Go's own cache.
    pub(super) fn fetch(&self, modules: Option<&Path>) -> Result<PathBuf> {
        let Self { path, version, .. } = self;
        let mut download = go(&["mod", "download", "-json"])?;
        download.arg(format!("{path}@{version}"));
        if let Some(modules) = modules {
            download.env("GOMODCACHE", modules);
        }
        let output = download.output().map_err(|source| Error::Start { command: "go".to_owned(), source })?;
        // A download that fails tells why in its answer, or on the standard error.
        let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
            let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            serde_json::json!({ "Error": told })
        });
        self.judge(&answer).map_err(|problem| Error::Module { module: format!("{path}@{version}"), problem })
    }

    fn judge(&self, answer: &Value) -> std::result::Result<PathBuf, String> {
        if let Some(error) = answer["Error"].as_str() {
            return Err(error.to_owned());
        }
        match (answer["Sum"].as_str(), answer["Dir"].as_str()) {
            (Some(sum), Some(folder)) if sum == self.sum => Ok(folder.into()),
            (sum, _) => {
                let sum = sum.unwrap_or("none");
                Err(format!(
                    "its checksum is {sum} and not {}: it is not what we know by this version",
                    self.sum
                ))
            }
        }
    }
}

/// Go, outside of any module and without what the user has set for modules of their own.
fn go(arguments: &[&str]) -> Result<Command> {
    let folder = cache()?;
    std::fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    let mut command = command(GO, arguments)?;
    command.current_dir(folder).env("GOWORK", "off").env("CGO_ENABLED", "0");
    // So that what is downloaded to be thrown away can be thrown away.
    command.env("GOFLAGS", "-modcacherw");
    Ok(command)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MODULE: Module = Module { path: "a.example/b", version: "v1.0.0", sum: "h1:good=" };

    #[test]
    fn a_module_is_taken_by_its_checksum_only() {
        let taken = MODULE.judge(&json!({ "Sum": "h1:good=", "Dir": "/modules/b" }));
        assert_eq!(taken, Ok("/modules/b".into()));
        let refused = MODULE.judge(&json!({ "Sum": "h1:other=", "Dir": "/modules/b" })).unwrap_err();
        assert!(refused.starts_with("its checksum is h1:other= and not h1:good="), "{refused}");
        assert!(MODULE.judge(&json!({})).unwrap_err().contains("its checksum is none"));
        assert_eq!(MODULE.judge(&json!({ "Error": "not found" })), Err("not found".to_owned()));
    }
}
