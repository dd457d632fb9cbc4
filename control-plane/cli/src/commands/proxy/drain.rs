//! `proxy drain`: has a sidecar ask its callers to go elsewhere.

use clap::Args;
use serde::Serialize;
use trama_proto::discovery::v1::draining::What;

use super::{Name, config::words};
use crate::{arguments::Global, client::Client, exit::Exit, failure::Failure, output::printable};

#[derive(Debug, Args)]
pub(super) struct Drain {
    /// Only what comes in; the application's own calls go on, and the sidecar does not end.
    #[arg(long)]
    inbound: bool,
    #[command(flatten)]
    sidecar: Name,
}

#[derive(Debug, Serialize)]
struct Drains {
    /// Namespace and name.
    sidecar: String,
    draining: &'static str,
}

impl Drain {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let sidecar = self.sidecar.label()?;
        let what = if self.inbound { What::Inbound } else { What::All };
        let told = Client::connect(global).await?.proxy_drain(sidecar.clone(), what).await?;
        let draining = words(told.draining.unwrap_or_default().what());
        let drains = Drains { sidecar, draining };
        global
            .output
            .print(&drains, |it| printable(&format!("{} drains {}", it.sidecar, it.draining)) + "\n")?;
        Ok(Exit::Done)
    }
}
