//! A receiver of traces that is nobody's here: see `peers/otlp/main.go`.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;

use super::{Place, app};
use crate::authority::{Authority, Issued};
use crate::lab::LabError;
use crate::process::Process;
use crate::programs;

/// A running receiver of OTLP over gRPC: OpenTelemetry's own decoder, and gRPC's server, in Go.
#[derive(Debug)]
pub struct OtlpReceiver {
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
}

impl OtlpReceiver {
    /// Starts one on a free port.
    pub fn start(place: &dyn Place) -> Result<Self, LabError> {
        Self::start_with(place, 0, &[])
    }

    /// Starts one on a port that nobody listens on.
    pub fn start_at(place: &dyn Place, port: u16) -> Result<Self, LabError> {
        Self::start_with(place, port, &[])
    }

    /// Starts one that reads everything and never answers.
    pub fn start_silent(place: &dyn Place) -> Result<Self, LabError> {
        Self::start_with(place, 0, &["-silent".to_owned()])
    }

    /// Starts one that speaks TLS. With `clients` it listens to who shows a certificate of that authority only.
    pub fn start_sealed(
        place: &dyn Place,
        own: &Issued,
        clients: Option<&Authority>,
    ) -> Result<Self, LabError> {
        let file = |name, text: &str| place.make_file(name, text.as_bytes()).map(|f| f.display().to_string());
        let mut options = vec!["-certificate".to_owned(), file("server.pem", &own.certificate)?];
        options.extend(["-key".to_owned(), file("server.key", &own.key)?]);
        if let Some(clients) = clients {
            options.extend(["-clients".to_owned(), file("clients.pem", clients.pem())?]);
        }
        Self::start_with(place, 0, &options)
    }

    fn start_with(place: &dyn Place, port: u16, options: &[String]) -> Result<Self, LabError> {
        let program = programs::installed("trama-otlp-receiver", "telemetry")
            .map_err(|source| LabError::Io { what: "start a receiver of traces", source })?;
        let mut command = Command::new(program);
        let listen = SocketAddr::new(place.address(), port).to_string();
        command.args(["-listen", &listen]).args(options);
        let mut process = place.start(&command)?;
        let address = app::listening(&mut process)?;
        Ok(Self { address, process })
    }

    /// How many connections it has had so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.process.log().lines().filter(|line| *line == "connected").count()
    }

    /// What it has read so far, one object for each span.
    #[must_use]
    pub fn spans(&self) -> Vec<Value> {
        let log = self.process.log();
        let whole = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.filter_map(|line| serde_json::from_str(line.strip_prefix("span ")?).ok()).collect()
    }
}
