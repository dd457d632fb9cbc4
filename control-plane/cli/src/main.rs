//! `tramactl`: the control plane from the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    trama_cli::run()
}
