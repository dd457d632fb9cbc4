//! Ours, in the release build: the route table of a mesh as a policy file, metrics on, tracing of 1 %.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use super::{Launch, Peer, Scene, Site, first_line};
use crate::bench::certificates::{CALLED, CALLER, spiffe_id};
use crate::bench::report::OURS;
use crate::bench::site::{free_port, table};
use crate::error::Result;
use crate::process;

const API: &str = "apiVersion: trama.dev/v1alpha1";

pub(crate) struct Trama {
    program: PathBuf,
}

impl Trama {
    /// Builds the release profile, which takes minutes the first time.
    pub(crate) fn build() -> Result<Self> {
        process::loud(&mut process::cargo(&["build", "--release", "-p", "trama-sidecar", "--bins"]))?;
        Ok(Self { program: process::root().join("target/release/trama-sidecar") })
    }
}

impl Peer for Trama {
    fn name(&self) -> &'static str {
        OURS
    }

    fn version(&self) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.arg("--version");
        first_line(command)
    }

    fn plays(&self, scene: Scene) -> bool {
        scene.has_peers()
    }

    fn launches(&self, scene: Scene, site: &Site) -> Result<Vec<Launch>> {
        let port = free_port()?;
        let listener =
            format!("listeners: [{{ name: bench, address: \"127.0.0.1:{port}\", protocol: HTTP }}]\n");
        if let Scene::OneHop(_) = scene {
            let policy = policy(site, "");
            return Ok(vec![self.launch(OURS, &listener, &policy, port, site)?]);
        }
        let mesh = free_port()?;
        let record =
            format!(", identity: \"{}\", mesh: {{ address: \"127.0.0.1:{mesh}\" }}", spiffe_id(CALLED));
        let policy = policy(site, &record);
        let inbound = format!(
            "application: {{ address: 127.0.0.1, allowedPorts: [{}] }}\n{}",
            site.backend_port,
            identity(site, CALLED),
        );
        let outbound = listener + &identity(site, CALLER);
        Ok(vec![
            self.launch("trama-inbound", &inbound, &policy, mesh, site)?,
            self.launch("trama-outbound", &outbound, &policy, port, site)?,
        ])
    }
}

impl Trama {
    fn launch(&self, name: &str, own: &str, policy: &str, port: u16, site: &Site) -> Result<Launch> {
        // The inbound side is up when its mesh port is; every other port is any free one.
        let mesh = if own.starts_with("application") { port } else { 0 };
        let config = format!(
            "workers: 1\nbindAddress: 127.0.0.1\n\
             ports: {{ outbound: 0, inbound: 0, mesh: {mesh}, metrics: 0, health: 0 }}\n\
             admin: {{ port: 0 }}\ncapture: {{ outbound: false, inbound: false }}\n\
             telemetry: {{ accessLog: \"off\", otlpEndpoint: \"http://127.0.0.1:{}\" }}\n{own}",
            site.collector_port,
        );
        let config = site.write(&format!("{name}.yaml"), config)?;
        let policy = site.write(&format!("{name}-policy.yaml"), policy)?;
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(config).arg("--policy").arg(policy);
        Ok(Launch { name: name.to_owned(), command, port })
    }
}

fn identity(site: &Site, account: &str) -> String {
    let file = |name: &str| site.path(name);
    let (certificate, key) = (file(&format!("{account}.pem")), file(&format!("{account}.key")));
    format!(
        "identity: {{ certificate: \"{certificate}\", key: \"{key}\", bundle: \"{}\" }}\n",
        file("ca.pem")
    )
}

/// The whole table: each service with one endpoint, the backend, and a route whose rules are its prefixes.
fn policy(site: &Site, endpoint: &str) -> String {
    let backend_port = site.backend_port;
    let mut text = format!(
        "{API}\nkind: Telemetry\nmetadata: {{ name: bench }}\nspec:\n  accessLog: {{ mode: \"OFF\" }}\n  \
         tracing: {{ samplingPercent: 1 }}\n"
    );
    for (host, prefixes) in table() {
        let name = host.trim_end_matches(".bench");
        let document = |kind: &str| {
            format!("---\n{API}\nkind: {kind}\nmetadata: {{ name: {name}, namespace: bench }}\n")
        };
        let _ = write!(
            text,
            "{}spec:\n  ports: [{{ port: 80, appProtocol: HTTP }}]\n  circuitLimits: {{ maxConnections: 1000000, \
             maxPending: 1000000, maxRequests: 1000000 }}\n\
             {}spec:\n  service: {name}\n  endpoints: [{{ address: 127.0.0.1, port: {backend_port}{endpoint} }}]\n\
             {}spec:\n  parentRefs: [{{ service: {name} }}]\n  rules:\n",
            document("Service"),
            document("EndpointSet"),
            document("Route"),
        );
        for prefix in prefixes {
            let path = prefix.trim_end_matches('/');
            let _ = writeln!(text, "    - matches: [{{ path: {{ value: {path} }} }}]");
        }
    }
    text
}

/// The formats are the sidecar's to change: these tests notice it long before somebody runs the benchmark.
#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use trama_sidecar::app::validate;
    use trama_sidecar::config::bootstrap::Config;

    use super::*;

    #[test]
    fn what_is_written_is_accepted_by_the_sidecars_readers() {
        let folder = std::env::temp_dir().join(format!("trama-bench-{}", std::process::id()));
        let site = Site { folder: folder.clone(), backend_port: 8080, collector_port: 4317 };
        let trama = Trama { program: "trama-sidecar".into() };
        for scene in [Scene::OneHop(crate::bench::row::Version::Http1), Scene::MeshPair] {
            for launch in trama.launches(scene, &site).unwrap() {
                let arguments: Vec<&OsStr> = launch.command.get_args().collect();
                let [_, config, _, policy] = arguments[..] else { panic!("{arguments:?}") };
                let config = std::fs::read_to_string(config).unwrap();
                let none: [(String, String); 0] = [];
                let mut config =
                    Config::parse("config", &config, none).unwrap_or_else(|found| panic!("{found}"));
                // The certificates are not made here.
                config.identity = None;
                validate(&config, Some(policy.into())).unwrap_or_else(|error| panic!("{error}"));
            }
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
