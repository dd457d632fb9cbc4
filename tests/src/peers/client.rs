//! The Go client: HTTP/1.1, HTTP/2 with prior knowledge, trailers, and streams in both directions at once.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;

use super::{Place, go};
use crate::lab::LabError;

/// A request to be made by the Go client.
#[derive(Debug)]
pub struct GoClient {
    arguments: Vec<String>,
}

/// What the Go client prints of one response.
#[derive(Debug, Clone, Deserialize)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: String,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Trailer fields, names in lower case.
    pub trailers: Vec<(String, String)>,
    /// Length of the body.
    pub bytes: u64,
    /// The body, if it is short.
    pub body: String,
    /// Status codes of the interim responses before it.
    pub interim: Option<Vec<u16>>,
    /// Messages that went out and came back (duplex).
    pub rounds: u32,
}

impl Answer {
    /// The first header field with this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The first trailer field with this name.
    #[must_use]
    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

impl GoClient {
    /// One request over HTTP/1.1.
    #[must_use]
    pub fn h1(url: &str) -> Self {
        Self::new("call", "h1", url)
    }

    /// One request over HTTP/2 with prior knowledge.
    #[must_use]
    pub fn h2c(url: &str) -> Self {
        Self::new("call", "h2c", url)
    }

    /// One request of an echo, over HTTP/2: each message goes out after the one before has come back.
    #[must_use]
    pub fn duplex(url: &str, rounds: u32) -> Self {
        Self::new("duplex", "h2c", url).with(&["-rounds", &rounds.to_string()])
    }

    /// Connects there, whatever the URL says.
    #[must_use]
    pub fn dial(self, address: SocketAddr) -> Self {
        self.with(&["-dial", &address.to_string()])
    }

    /// Adds a header field.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        self.with(&["-header", &format!("{name}={value}")])
    }

    /// Sends a body of so many bytes.
    #[must_use]
    pub fn body(self, size: usize) -> Self {
        self.with(&["-size", &size.to_string()])
    }

    /// Sends the trailer `x-sent: yes` after the body.
    #[must_use]
    pub fn trailers(self) -> Self {
        self.with(&["-trailers"])
    }

    /// Makes the request so often, one after the other, over one client.
    #[must_use]
    pub fn repeat(self, times: u32) -> Self {
        self.with(&["-repeat", &times.to_string()])
    }

    /// Runs it; an answer for each request, or what the client complained about.
    pub fn run(self, place: &dyn Place, patience: Duration) -> Result<Vec<Answer>, LabError> {
        let mut command = Command::new(go::peer()?);
        let output = place.run_to_end(command.args(&self.arguments), patience)?;
        let failed = |stderr| LabError::Command { command: self.arguments.join(" "), stderr };
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        let lines = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
        lines.collect::<Result<_, _>>().map_err(|e| failed(e.to_string()))
    }

    fn new(command: &str, proto: &str, url: &str) -> Self {
        Self { arguments: [command, "-proto", proto, "-url", url].map(str::to_owned).into() }
    }

    fn with(mut self, more: &[&str]) -> Self {
        self.arguments.extend(more.iter().map(|s| (*s).to_owned()));
        self
    }
}
