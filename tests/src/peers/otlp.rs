//! A receiver of traces that is not written in Rust: see `peers/otlp.py`.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;

use super::{Place, app};
use crate::lab::LabError;
use crate::process::Process;

/// A running receiver of OTLP over gRPC.
#[derive(Debug)]
pub struct OtlpReceiver {
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
}

impl OtlpReceiver {
    /// Starts one on a free port.
    pub fn start(place: &dyn Place) -> Result<Self, LabError> {
        let script = place.make_file("otlp.py", include_bytes!("../../peers/otlp.py"))?;
        let mut command = Command::new("python3");
        let listen = SocketAddr::new(place.address(), 0).to_string();
        let mut process = place.start(command.arg("-u").arg(script).args(["--listen", &listen]))?;
        let address = app::listening(&mut process)?;
        Ok(Self { address, process })
    }

    /// What it has read so far, one object for each span.
    #[must_use]
    pub fn spans(&self) -> Vec<Value> {
        let log = self.process.log();
        let whole = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.filter_map(|line| serde_json::from_str(line.strip_prefix("span ")?).ok()).collect()
    }
}
