//! Known vulnerabilities in the dependencies. A command of its own, not a suite: the RustSec database comes from
//! the internet, which no test may need, and a new entry in it must not turn yesterday's green commit red.

use std::process::ExitCode;

use crate::error::Result;
use crate::{process, tools};

pub(crate) fn run() -> Result<ExitCode> {
    tools::ensure(&[tools::CARGO_DENY])?;
    process::loud(&mut tools::command(tools::CARGO_DENY, &["check", "advisories"])?)?;
    Ok(ExitCode::SUCCESS)
}
