use std::io;

use crate::process::ProcessError;

/// Why the lab could not do what a test asked for.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Namespaces are root's to make.
    #[error("the network lab makes network namespaces: run it as root (`sudo -E cargo xtask test lab`)")]
    NotRoot,
    /// A program is not installed.
    #[error("`{program}` is not installed: apt-get install {package}")]
    Missing {
        /// The program.
        program: &'static str,
        /// Debian's name of its package.
        package: &'static str,
    },
    /// The kernel has no such queueing discipline.
    #[error("this kernel can't delay packets: it lacks sch_netem (CONFIG_NET_SCH_NETEM)")]
    NoNetem,
    /// A command on the network failed.
    #[error("`{command}` failed: {stderr}")]
    Command {
        /// The command.
        command: String,
        /// What it said.
        stderr: String,
    },
    /// Something on the machine failed.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A process did not do what was expected.
    #[error(transparent)]
    Process(#[from] ProcessError),
}
