//! curl as a client.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use super::Place;
use crate::lab::LabError;

/// Separates curl's complaints from what it tells about the transfer, both on standard error.
const MARK: &str = "---- transfer ----\n";

/// A request to be made by curl.
#[derive(Debug)]
pub struct Curl {
    arguments: Vec<String>,
}

/// What curl got.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status code; 0 if there was no response.
    pub status: u16,
    /// `1.1` or `2`.
    pub version: String,
    /// Header fields, names in lower case.
    pub headers: BTreeMap<String, Vec<String>>,
    /// The body.
    pub body: Vec<u8>,
    /// curl's exit code: 0, or why it gave up (52: closed without a response, 56: reset).
    pub exit: i32,
    /// What it complained about.
    pub complaint: String,
}

impl Reply {
    /// The first header field with this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.first().map(String::as_str)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Curl {
    /// A GET over HTTP/1.1.
    #[must_use]
    pub fn get(url: &str) -> Self {
        // Proxies of the user's environment have no business here.
        let fixed = ["--silent", "--show-error", "--noproxy", "*", "--write-out"];
        let told = format!("%{{stderr}}{MARK}%{{json}}\n%{{header_json}}");
        let mut arguments: Vec<String> = fixed.map(str::to_owned).into();
        arguments.extend([told, url.to_owned()]);
        Self { arguments }
    }

    /// HTTP/2 with prior knowledge.
    #[must_use]
    pub fn http2(self) -> Self {
        self.with(&["--http2-prior-knowledge"])
    }

    /// Another method.
    #[must_use]
    pub fn method(self, method: &str) -> Self {
        self.with(&["--request", method])
    }

    /// Adds a header field.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        self.with(&["--header", &format!("{name}: {value}")])
    }

    /// Sends these bytes as the body; POST unless another method is named.
    #[must_use]
    pub fn body(self, body: &str) -> Self {
        self.with(&["--data-binary", body])
    }

    /// Connects there, whatever the URL says.
    #[must_use]
    pub fn dial(self, address: SocketAddr) -> Self {
        self.with(&["--connect-to", &format!("::{address}")])
    }

    /// Any other option of curl's.
    #[must_use]
    pub fn option(self, words: &[&str]) -> Self {
        self.with(words)
    }

    /// The command line, to be run anywhere.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new("curl");
        command.args(&self.arguments);
        command
    }

    /// Runs it. That curl got no response is told in the reply, and is no error here.
    pub fn run(&self, place: &dyn Place, patience: Duration) -> Result<Reply, LabError> {
        let output = place.run_to_end(&self.command(), patience)?;
        reply(&output).ok_or_else(|| LabError::Command {
            command: format!("curl {}", self.arguments.join(" ")),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    fn with(mut self, more: &[&str]) -> Self {
        self.arguments.extend(more.iter().map(|s| (*s).to_owned()));
        self
    }
}

fn reply(output: &Output) -> Option<Reply> {
    let told = String::from_utf8_lossy(&output.stderr);
    let (before, after) = told.split_once(MARK)?;
    let (transfer, headers) = after.split_once('\n')?;
    let transfer: Value = serde_json::from_str(transfer).ok()?;
    // After the JSON, or before the mark, come complaints: versions of curl differ.
    let mut values = serde_json::Deserializer::from_str(headers).into_iter();
    let parsed = values.next().and_then(Result::ok).unwrap_or_default();
    let complaint = format!("{before}{}", &headers[values.byte_offset()..]);
    Some(Reply {
        status: u16::try_from(transfer.get("response_code")?.as_u64()?).ok()?,
        version: transfer.get("http_version")?.as_str()?.to_owned(),
        headers: parsed,
        body: output.stdout.clone(),
        exit: output.status.code()?,
        complaint: complaint.trim().to_owned(),
    })
}
