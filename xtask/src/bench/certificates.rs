//! Short-lived certificates for the mesh pair: one CA and two workloads with SPIFFE ids.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::error::{Error, Result};
use crate::{process, tools};

/// The service account of the calling side; NAME.pem and NAME.key are its files.
pub(crate) const CALLER: &str = "storefront";
/// The service account of the called side.
pub(crate) const CALLED: &str = "orders";

pub(crate) fn spiffe_id(account: &str) -> String {
    format!("spiffe://bench.trama/ns/default/sa/{account}")
}

pub(crate) fn make(folder: &Path) -> Result<()> {
    let config = folder.join("openssl.conf");
    fs::write(&config, configuration()).map_err(Error::file("write", &config))?;
    let mut authority = request(folder, "ca")?;
    run(authority.args(["-subj", "/CN=bench", "-extensions", "ca"]))?;
    for account in [CALLER, CALLED] {
        let mut workload = request(folder, account)?;
        run(workload.args(["-subj", "/", "-extensions", account, "-CA", "ca.pem", "-CAkey", "ca.key"]))?;
    }
    Ok(())
}

fn request(folder: &Path, name: &str) -> Result<Command> {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
    let fixed = ["req", "-x509", "-config", "openssl.conf", "-days", "2", "-nodes", "-newkey", "ec"];
    let mut command = tools::command(tools::OPENSSL, &fixed)?;
    command.args(["-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", &key, "-out", &certificate]);
    command.current_dir(folder);
    Ok(command)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output();
    let output = output.map_err(|source| Error::Start { command: process::spell(command), source })?;
    if output.status.success() {
        return Ok(());
    }
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    Err(Error::Failed { command: process::spell(command), status: output.status })
}

fn configuration() -> String {
    let mut text = "[req]\ndistinguished_name = name\n[name]\n\
         [ca]\nbasicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign\n\
         subjectKeyIdentifier = hash\n"
        .to_owned();
    for account in [CALLER, CALLED] {
        text += &format!(
            "[{account}]\nbasicConstraints = critical, CA:FALSE\nkeyUsage = critical, digitalSignature\n\
             extendedKeyUsage = serverAuth, clientAuth\nauthorityKeyIdentifier = keyid\n\
             subjectAltName = critical, URI:{}\n",
            spiffe_id(account)
        );
    }
    text
}
