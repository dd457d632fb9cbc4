//! What can go wrong, each with its remedy.

use std::io;
use std::path::{Path, PathBuf};

pub(crate) type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{action} {path}: {source}")]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot start `{command}`: {source}")]
    Start { command: String, source: io::Error },
    #[error("`{command}` failed ({status}); its output is above")]
    Failed { command: String, status: std::process::ExitStatus },
    #[error("these programs are missing: {programs}. Install them with: {remedy}")]
    Missing { programs: String, remedy: String },
    #[error("the Go module {module} cannot be had: {problem}")]
    Module { module: String, problem: String },
    #[error("no suite is named `{name}`{hint}. The suites are: {known}")]
    UnknownSuite { name: String, hint: String, known: String },
    #[error("{path} is not valid Rust: {source}")]
    Syntax { path: PathBuf, source: syn::Error },
    #[error("{name} accepted no connection on port {port}; its output is in {log}")]
    NotUp { name: String, port: u16, log: PathBuf },
    #[error("{name} did not answer every request by 2xx and the whole body. `{command}`:\n{text}")]
    Load { name: String, command: String, text: String },
    #[error("the fleet of sidecars could not `{order}`; what it says of it is above")]
    Fleet { order: String },
    #[error("{what} is not as expected: {text}")]
    Unreadable { what: String, text: String },
    #[error("neither XDG_CACHE_HOME nor HOME is set: set one, tools are kept in its folder trama/")]
    NoCache,
}

impl Error {
    /// 2 where the command line is wrong, as the parser of options has it; else 1.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::UnknownSuite { .. } => 2,
            _ => 1,
        }
    }

    /// For `map_err` on file operations: `Error::file("read", &path)`.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }
}
