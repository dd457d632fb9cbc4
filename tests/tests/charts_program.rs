//! What the charts render against the real program: it takes the configuration and answers the probes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use trama_tests::charts::{object, objects, template};
use trama_tests::control_plane::get;
use trama_tests::mesh::{PATIENCE, until};
use trama_tests::ports::free_port;
use trama_tests::process::{self, Process};
use trama_tests::programs;

/// Where the pod's volumes are mounted.
const MOUNTS: [&str; 3] = ["/etc/trama", "/var/lib/trama", "/run/trama"];

/// The one pod of the chart, with its volumes in a folder of this machine.
struct Pod {
    folder: TempDir,
    container: Value,
}

impl Pod {
    fn new(arguments: &[&str]) -> Self {
        let objects = objects(&template("trama", arguments).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let spec = &object(&objects, "Deployment")["spec"]["template"]["spec"];
        let container = spec["containers"][0].clone();
        let pod = Self { folder, container };
        let mounts = pod.container["volumeMounts"].as_array().unwrap();
        for path in mounts.iter().map(|mount| mount["mountPath"].as_str().unwrap()) {
            assert!(MOUNTS.iter().any(|known| path.starts_with(known)), "{path} is not among MOUNTS");
            fs::create_dir_all(pod.at(path)).unwrap();
        }
        let files = object(&objects, "ConfigMap")["data"].as_object().unwrap();
        for (name, text) in files {
            let text = pod.translated(text.as_str().unwrap());
            fs::write(pod.at("/etc/trama/config").join(name), text).unwrap();
        }
        pod
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.folder.path().join(path.trim_start_matches('/'))
    }

    fn translated(&self, text: &str) -> String {
        let own = self.folder.path().display();
        MOUNTS.iter().fold(text.to_owned(), |text, mount| text.replace(mount, &format!("{own}{mount}")))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(programs::built("trama-control-plane").unwrap());
        for argument in self.container["args"].as_array().unwrap() {
            command.arg(self.translated(argument.as_str().unwrap()));
        }
        for variable in self.container["env"].as_array().unwrap() {
            command.env(variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap());
        }
        command
    }
}

#[test]
fn the_program_takes_the_configuration() {
    for arguments in [&[][..], &["--values", "golden/full-values.yaml"]] {
        let output = process::run(Pod::new(arguments).command().arg("--validate"), PATIENCE).unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!((output.status.code(), said.as_str()), (Some(0), "valid\n"), "{arguments:?}");
    }
}

/// Only the numbers of the ports are others here: the default ones may be taken on this machine.
#[tokio::test]
async fn the_program_answers_the_probes_on_the_ports_of_the_manifests() {
    let pod = Pod::new(&["--set", "controlPlane.sealingKey.existingSecret=key"]);
    let key = pod.at("/etc/trama/sealing-key/sealing.key");
    fs::write(&key, [7; 32]).unwrap();
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
    let mut command = pod.command();
    let ports = pod.container["ports"].as_array().unwrap();
    let ports: Vec<(&str, u64, u16)> = ports
        .iter()
        .map(|port| (port["name"].as_str().unwrap(), port["containerPort"].as_u64().unwrap(), free_port()))
        .collect();
    let text = fs::read_to_string(pod.at("/etc/trama/config/control-plane.yaml")).unwrap();
    for (name, number, free) in &ports {
        assert!(text.contains(&format!("\n  {name}: {number}\n")), "{name}: the program listens elsewhere");
        command.env(format!("TRAMA_PORTS_{}", name.to_uppercase()), free.to_string());
    }
    let _process = Process::start("control plane", &mut command, &pod.folder.path().join("log")).unwrap();
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let asked = &pod.container[probe]["httpGet"];
        let (name, path) = (asked["port"].as_str().unwrap(), asked["path"].as_str().unwrap());
        let port = ports.iter().find(|port| port.0 == name).unwrap().2;
        until(probe, || async { (get(port, path).await?.0 == 200).then_some(()) }).await;
    }
    let metrics = ports.iter().find(|port| port.0 == "metrics").unwrap().2;
    assert_eq!(get(metrics, "/metrics").await.unwrap().0, 200);
    assert_eq!(fs::read(&key).unwrap(), [7; 32], "the key of the Secret is the one that is used");
    assert!(!pod.at("/var/lib/trama/sealing.key").exists());
    for file in ["/var/lib/trama/store", "/run/trama/admin.sock"] {
        assert!(pod.at(file).exists(), "{file}");
    }
}

/// A pod may write where volumes are, and nowhere else.
#[test]
fn everything_that_is_written_lies_on_a_volume() {
    let pod = Pod::new(&[]);
    let writable: Vec<&str> = pod.container["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|mount| mount["readOnly"] != true)
        .map(|mount| mount["mountPath"].as_str().unwrap())
        .collect();
    let config: Value =
        serde_saphyr::from_str(&fs::read_to_string(pod.at("/etc/trama/config/control-plane.yaml")).unwrap())
            .unwrap();
    for path in [&config["store"]["path"], &config["store"]["sealingKey"], &config["admin"]["socket"]] {
        let path = path.as_str().unwrap().strip_prefix(pod.folder.path().to_str().unwrap()).unwrap();
        assert!(writable.iter().any(|mount| Path::new(path).parent() == Some(Path::new(mount))), "{path}");
    }
}

/// The chart and the program are released together.
#[test]
fn the_charts_are_of_the_programs_version() {
    for chart in ["trama", "trama-crds"] {
        let path = trama_tests::charts::folder().join(chart).join("Chart.yaml");
        let chart: Value = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
        assert_eq!(chart["version"], chart["appVersion"]);
    }
}
