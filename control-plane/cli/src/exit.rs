//! How `tramactl` ends. A number never changes its meaning: scripts know it.

use std::fmt::Write;

/// How `tramactl` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It is done.
    Done = 0,
    /// `diff` found a difference.
    Differs = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A file or the policy is refused.
    Refused = 3,
    /// There is no such resource, trace or sidecar.
    Missing = 4,
    /// Somebody else was faster.
    Changed = 5,
    /// We may not.
    Forbidden = 6,
    /// The control plane is not reached.
    Unreachable = 7,
    /// A sidecar refuses what was applied.
    Nacked = 8,
    /// Not every sidecar has acknowledged in time.
    Pending = 9,
    /// Anything else.
    Failed = 10,
    /// A sidecar does not answer.
    Unanswered = 11,
}

impl Exit {
    /// All of them, in order.
    pub const ALL: [Self; 12] = [
        Self::Done,
        Self::Differs,
        Self::Usage,
        Self::Refused,
        Self::Missing,
        Self::Changed,
        Self::Forbidden,
        Self::Unreachable,
        Self::Nacked,
        Self::Pending,
        Self::Failed,
        Self::Unanswered,
    ];

    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// What it says.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Differs => "`diff`: what is applied is not what the files say",
            Self::Usage => "the command line is wrong",
            Self::Refused => "a file cannot be read, or what was asked for is refused; nothing is changed",
            Self::Missing => {
                "there is no such resource or trace, or no such sidecar is connected; nothing is changed"
            }
            Self::Changed => "somebody else was faster; nothing is changed",
            Self::Forbidden => {
                "the control plane does not let us: no certificate of an admin, or no right to its socket"
            }
            Self::Unreachable => "the control plane is not reached, is not ready, or does not answer in time",
            Self::Nacked => "`--wait`: it is done, and a sidecar refuses it or is too old to know all of it",
            Self::Pending => "`--wait`: it is done, and not every sidecar has acknowledged it in time",
            Self::Failed => "anything else, such as a limit of the control plane",
            Self::Unanswered => {
                "a sidecar that is asked does not answer: it is too old, busy, silent or gone; a drain may have begun. Or its name does not tell which one is meant"
            }
        }
    }
}

/// The table, for `--help`.
pub(crate) fn table() -> String {
    Exit::ALL.iter().fold("Exit codes:\n".to_owned(), |mut table, exit| {
        let _ = writeln!(table, "  {:<3} {}", exit.code(), exit.meaning());
        table
    })
}
