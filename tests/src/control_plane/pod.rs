//! A real sidecar of a control plane, as a process, on loopback.

use std::fs;
use std::net::TcpStream;
use std::process::Command;

use tempfile::TempDir;

use super::ControlPlane;
use crate::mesh::until;
use crate::ports::free_port;
use crate::process::Process;
use crate::programs;

/// A running sidecar. Its folder goes with the value.
#[derive(Debug)]
pub struct Pod {
    /// Its explicit listener, for the application's requests.
    pub listener: u16,
    /// Where other sidecars reach it.
    pub mesh: u16,
    /// Where it tells its metrics.
    pub metrics: u16,
    _process: Process,
    _folder: TempDir,
}

impl Pod {
    /// The sidecar of a workload of the namespace `shop`, with more lines of configuration.
    pub async fn start(control: &ControlPlane, account: &str, region: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().display();
        control.joined("shop", account).await.write_to(folder.path());
        let (listener, mesh, metrics) = (free_port(), free_port(), free_port());
        let configuration = format!(
            "node: {{ name: {account}-1, namespace: shop, region: {region} }}\nbindAddress: 127.0.0.1\n\
             ports: {{ outbound: 0, inbound: 0, mesh: {mesh}, metrics: {metrics}, health: 0 }}\n\
             admin: {{ port: 0 }}\ncapture: {{ outbound: false, inbound: false }}\n\
             application: {{ address: 127.0.0.1 }}\n\
             listeners: [{{ name: http, address: '127.0.0.1:{listener}' }}]\n\
             identity: {{ certificate: {own}/identity.pem, key: {own}/identity.key, bundle: {own}/ca.pem }}\n\
             controlPlane: {{ address: '{}', bundle: {own}/ca.pem }}\n{more}",
            control.address()
        );
        fs::write(folder.path().join("sidecar.yaml"), configuration).unwrap();
        let mut command = Command::new(programs::built("trama-sidecar").unwrap());
        command.arg("--config").arg(folder.path().join("sidecar.yaml"));
        let process = Process::start(account, &mut command, &folder.path().join("log")).unwrap();
        let open = || async { TcpStream::connect(("127.0.0.1", listener)).ok().map(drop) };
        until("the sidecar listens", open).await;
        Self { listener, mesh, metrics, _process: process, _folder: folder }
    }
}
