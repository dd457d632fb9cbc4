//! `join-token`: the proof by which a workload joins the mesh.

use std::{fs, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use pem::Pem;
use serde::Serialize;
use trama_proto::{admin::v1::CreateJoinTokenRequest, spiffe::SpiffeId};

use crate::{
    arguments::{Global, length_of_time, spiffe_id},
    client::Client,
    exit::Exit,
    failure::Failure,
};

#[derive(Debug, Args)]
pub(crate) struct JoinToken {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a token for one SPIFFE id, and shows it once.
    ///
    /// The token goes to the standard output, alone.
    Create(Create),
}

#[derive(Debug, Args)]
struct Create {
    /// The only identity that it is good for, such as `spiffe://mesh.example/ns/shop/sa/orders`.
    #[arg(long, value_name = "SPIFFE_ID", value_parser = spiffe_id)]
    spiffe_id: SpiffeId,
    /// How long it is good, in whole seconds; at most 24h. Left out: `certificates.joinTokenLifetime` of the control plane.
    #[arg(long, value_name = "TIME", value_parser = length_of_time)]
    ttl: Option<Duration>,
    /// Writes the authorities to trust to this file, PEM: by them the workload knows the control plane.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    bundle: Option<PathBuf>,
}

impl JoinToken {
    pub(crate) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let Command::Create(create) = self.command;
        create.run(global).await
    }
}

impl Create {
    async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let lifetime = self.ttl.map_or(Ok(0), seconds)?;
        let request = CreateJoinTokenRequest { identity: self.spiffe_id.as_str().to_owned(), lifetime };
        let made = Client::connect(global).await?.create_join_token(request).await?;
        let bundle: String =
            made.bundle.into_iter().map(|root| pem::encode(&Pem::new("CERTIFICATE", root))).collect();
        let written = self.bundle.as_ref().map_or(Ok(()), |file| fs::write(file, &bundle));
        let made =
            Made { token: made.token, identity: self.spiffe_id.as_str(), expires: made.expires, bundle };
        // It is shown once: also where the file could not be written.
        global.output.print(&made, |made| format!("{}\n", made.token))?;
        let file = self.bundle.unwrap_or_default();
        let failed =
            |error| Failure::Local(format!("--bundle {}: {error}; the token is good", file.display()));
        written.map_err(failed)?;
        Ok(Exit::Done)
    }
}

/// Zero would mean the control plane's default.
fn seconds(ttl: Duration) -> Result<u32, Failure> {
    let whole = u32::try_from(ttl.as_secs()).ok().filter(|_| ttl.subsec_nanos() == 0);
    whole.ok_or_else(|| Failure::Usage(format!("--ttl {ttl:?}: write whole seconds, at most 24h")))
}

#[derive(Debug, Serialize)]
struct Made<'a> {
    token: String,
    identity: &'a str,
    /// Seconds since 1970.
    expires: u64,
    /// PEM.
    bundle: String,
}
