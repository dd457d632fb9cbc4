//! `tramactl` as people run it.

use std::path::Path;
use std::process::Command;

use super::ControlPlane;
use crate::mesh::PATIENCE;
use crate::{process, programs};

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code.
    pub code: i32,
    /// The standard output.
    pub out: String,
    /// The standard error.
    pub err: String,
}

impl Ran {
    /// What was printed, of a command that ended well.
    #[track_caller]
    pub fn done(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{self:?}");
        self.out
    }

    /// What was said, of a command that ended otherwise and printed nothing.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{self:?}");
        self.err
    }
}

impl ControlPlane {
    /// Runs a command line of `tramactl`, its words apart by spaces, in a folder.
    pub async fn tramactl(&self, folder: &Path, line: &str) -> Ran {
        let mut command = Command::new(programs::built("tramactl").unwrap());
        command.args(line.split_whitespace());
        self.ran(command, folder).await
    }

    /// Runs a shell's line, in which `$ctl` is the program.
    pub async fn shell(&self, folder: &Path, line: &str) -> Ran {
        let mut command = Command::new("bash");
        command.args(["-c", line]).env("ctl", programs::built("tramactl").unwrap());
        self.ran(command, folder).await
    }

    /// Beside this thread: streams that a test speaks on go on meanwhile.
    async fn ran(&self, mut command: Command, folder: &Path) -> Ran {
        command.current_dir(folder).env("TRAMACTL_SERVER", self.socket());
        let ended = tokio::task::spawn_blocking(move || process::run(&mut command, PATIENCE).unwrap());
        let ended = ended.await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: ended.status.code().unwrap(), out: text(ended.stdout), err: text(ended.stderr) }
    }
}
