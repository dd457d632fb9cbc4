//! What can go wrong, and what is said of it.

use std::{error::Error, io};

use tonic::{Code, Status};
use tonic_types::StatusExt;
use trama_proto::{Problem, Problems};

use crate::exit::Exit;

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// What the command line says does not fit together.
    #[error("{0}")]
    Usage(String),
    /// Files or a policy that cannot be taken.
    #[error("{}", Problems(.0.clone()))]
    Refused(Vec<Problem>),
    /// There are no such resources.
    #[error("{0}")]
    Missing(String),
    /// Resources that are not as they were expected.
    #[error("{0}")]
    Changed(String),
    /// What opens the control plane's door does not fit, or is not ours.
    #[error("{0}")]
    Forbidden(String),
    /// Nobody answers.
    #[error("the control plane at {server} is not reached: {problem}")]
    Unreachable {
        /// Where.
        server: String,
        /// Why not.
        problem: String,
    },
    /// The control plane says no.
    #[error("{}", words(.0))]
    Status(Box<Status>),
    /// Something of this machine.
    #[error("{0}")]
    Local(String),
    /// Nobody takes what is written.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// A file that cannot be used as a whole.
    pub(crate) fn of_file(name: &str, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Refused(vec![Problem::of_source(name, problem, remedy)])
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Refused(_) => Exit::Refused,
            Self::Missing(_) => Exit::Missing,
            Self::Changed(_) => Exit::Changed,
            Self::Forbidden(_) => Exit::Forbidden,
            Self::Unreachable { .. } => Exit::Unreachable,
            Self::Status(status) => of_status(status),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Self::Local(_) | Self::Output(_) => Exit::Failed,
        }
    }

    /// What to say. Whoever closes the pipe has seen enough.
    pub(crate) fn told(&self) -> Option<String> {
        match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => None,
            Self::Refused(problems) => {
                let found = match problems.len() {
                    1 => "1 problem".to_owned(),
                    many => format!("{many} problems"),
                };
                Some(format!("{self}\ntramactl: refused: {found}"))
            }
            other => Some(format!("tramactl: {other}")),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// The reasons of a sidecar that does not answer are told apart from the control plane's own by their names.
fn of_status(status: &Status) -> Exit {
    match status.get_details_error_info() {
        Some(info) if info.reason.starts_with("SIDECAR_") => Exit::Unanswered,
        _ => of_code(status.code()),
    }
}

fn of_code(code: Code) -> Exit {
    match code {
        Code::InvalidArgument => Exit::Refused,
        Code::NotFound => Exit::Missing,
        Code::Aborted => Exit::Changed,
        Code::PermissionDenied | Code::Unauthenticated => Exit::Forbidden,
        Code::Unavailable | Code::DeadlineExceeded => Exit::Unreachable,
        _ => Exit::Failed,
    }
}

/// The server's own words; of an error that is our library's also what lies beneath it.
fn words(status: &Status) -> String {
    let mut told = status.message().to_owned();
    add_causes(&mut told, status);
    if told.is_empty() { format!("the control plane answers {:?}", status.code()) } else { told }
}

/// An error with what lies beneath it.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut told = error.to_string();
    add_causes(&mut told, error);
    told
}

fn add_causes(told: &mut String, error: &dyn Error) {
    let mut beneath = error.source();
    while let Some(cause) = beneath {
        let words = cause.to_string();
        // Many say what their cause says.
        if !told.contains(&words) {
            *told = format!("{told}: {words}");
        }
        beneath = cause.source();
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_closed_pipe_is_no_failure_and_a_full_disk_is() {
        let closed = Failure::Output(io::ErrorKind::BrokenPipe.into());
        assert_eq!((closed.exit(), closed.told()), (Exit::Done, None));
        let full = Failure::Output(io::ErrorKind::StorageFull.into());
        assert_eq!(full.exit(), Exit::Failed);
        assert!(full.told().unwrap().contains("cannot be written"));
    }

    #[test]
    fn codes_of_the_server_are_told_apart() {
        for (status, exit) in [
            (Status::invalid_argument("x"), Exit::Refused),
            (Status::not_found("x"), Exit::Missing),
            (Status::aborted("x"), Exit::Changed),
            (Status::permission_denied("x"), Exit::Forbidden),
            (Status::unauthenticated("x"), Exit::Forbidden),
            (Status::unavailable("x"), Exit::Unreachable),
            (Status::resource_exhausted("x"), Exit::Failed),
        ] {
            assert_eq!(Failure::from(status).exit(), exit);
        }
        let details = ErrorDetails::with_error_info("SIDECAR_SILENT", "trama.dev", []);
        let silent = Status::with_error_details(Code::DeadlineExceeded, "x", details);
        assert_eq!(Failure::from(silent).exit(), Exit::Unanswered);
        let nothing = Failure::from(Status::internal("")).told().unwrap();
        assert_eq!(nothing, "tramactl: the control plane answers Internal");
    }
}
