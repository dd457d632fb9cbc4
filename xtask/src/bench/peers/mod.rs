//! The proxies that are compared. All run with one worker, keep-alive upstream and no access log.

mod envoy;
mod haproxy;
mod nginx;
mod trama;

use std::process::Command;

use super::row::Scene;
use super::running::Launch;
use super::site::Site;
use crate::error::{Error, Result};
use crate::process;

pub(crate) trait Peer {
    fn name(&self) -> &'static str;
    fn version(&self) -> Result<String>;
    fn plays(&self, scene: Scene) -> bool;
    /// Writes the configuration for the scene and tells what to start, in this order; the load goes to the last.
    fn launches(&self, scene: Scene, site: &Site) -> Result<Vec<Launch>>;
}

/// All peers, ours first, with what they need to run installed.
pub(crate) fn install() -> Result<Vec<Box<dyn Peer>>> {
    Ok(vec![
        Box::new(trama::Trama::build()?),
        Box::new(envoy::Envoy::install()?),
        Box::new(nginx::Nginx),
        Box::new(haproxy::Haproxy),
    ])
}

/// The first line of what the program prints about itself.
pub(super) fn first_line(mut command: Command) -> Result<String> {
    let output = command.output();
    let output = output.map_err(|source| Error::Start { command: process::spell(&command), source })?;
    // nginx writes its version to the standard error.
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned())
}
