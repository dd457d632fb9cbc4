//! `completions`: what a shell needs to complete our command line.

use clap::Args;
use clap_complete::Shell;

use crate::{exit::Exit, failure::Failure, output};

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let mut written = Vec::new();
        clap_complete::generate(self.shell, &mut crate::command(), "tramactl", &mut written);
        output::text(&String::from_utf8_lossy(&written))?;
        Ok(Exit::Done)
    }
}
