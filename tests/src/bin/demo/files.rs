//! What the pods read and write: programs, tokens, policy, configuration, logs.

use std::fs::{self, Permissions};
use std::io::{Read, Seek, SeekFrom};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::failure::{Failure, Result};
use crate::mesh::{CONTROL_PLANE, EXPLICIT, MESH};
use crate::world::{CONTROL_PLANE_USER, Place, Pod, SIDECAR_USER, World};

const TRUST_DOMAIN: &str = "demo.trama";
const POLICY: &str = include_str!("policy.yaml");
const TRACING: &str = include_str!("tracing.yaml");

const PREFIX: &str = "trama-demo-";

/// A folder that every user may look into: the repository may lie where only its owner can. Those of demos that were
/// killed before they could clear up go at the same time.
pub(crate) fn folder() -> Result<TempDir> {
    sweep(&std::env::temp_dir());
    let prefix = format!("{PREFIX}{}-", std::process::id());
    let made = tempfile::Builder::new().prefix(&prefix).tempdir();
    let folder = made.map_err(Failure::on("make", "a folder for the demo"))?;
    mode(folder.path(), 0o755)?;
    Ok(folder)
}

/// Removes the folders of this user's demos that no longer run. One that cannot be removed is none of our business.
fn sweep(all: &Path) {
    let user = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let is_ours = || entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == user);
        if entry.file_name().to_str().and_then(process_of).is_some_and(is_gone) && is_ours() {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// The process in a folder's name.
fn process_of(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

fn is_gone(process: u32) -> bool {
    !Path::new("/proc").join(process.to_string()).exists()
}

pub(crate) fn copy(program: &Path, folder: &Path) -> Result<PathBuf> {
    let target = folder.join(program.file_name().unwrap_or_default());
    fs::copy(program, &target).map_err(Failure::on("copy", program.display()))?;
    Ok(target)
}

/// The folder of the control plane's own.
pub(crate) fn control_plane(folder: &Path) -> PathBuf {
    folder.join("control")
}

/// The file with the token that a pod's sidecar joins by.
pub(crate) fn token(folder: &Path, pod: &Pod) -> PathBuf {
    folder.join(format!("{}.token", pod.name))
}

/// The file with the authorities by which sidecars know the control plane.
pub(crate) fn roots(folder: &Path) -> PathBuf {
    folder.join("roots.pem")
}

/// Everything that is there before the first process starts.
pub(crate) fn write(folder: &Path, world: &World, pods: &[Pod], control: &Pod) -> Result<()> {
    put(&folder.join("policy.yaml"), &policy(&world.service(), pods))?;
    put(&folder.join("tracing.yaml"), TRACING)?;
    let own = control_plane(folder);
    fs::create_dir(&own).map_err(Failure::on("make", own.display()))?;
    put(&own.join("control-plane.yaml"), &of_control_plane(&own, control))?;
    give(&own, 0o700, world.place(), CONTROL_PLANE_USER)?;
    for pod in pods {
        let own = folder.join(pod.name);
        fs::create_dir(&own).map_err(Failure::on("make", own.display()))?;
        // Application and sidecar write here, and in namespaces they are different users.
        mode(&own, 0o1777)?;
        put(&own.join("sidecar.yaml"), &of_sidecar(folder, world.place(), pod, control))?;
        // What `tramactl` prints goes here, for nobody but the sidecar. Not into its folder: in one that all may write to,
        // Linux lets not even root open what somebody else owns (fs.protected_regular).
        let token = token(folder, pod);
        put(&token, "")?;
        give(&token, 0o600, world.place(), SIDECAR_USER)?;
    }
    Ok(())
}

/// The last lines of a text file, without reading all of it.
pub(crate) fn tail(path: &Path, lines: usize) -> Vec<String> {
    const ENOUGH: i64 = 16 * 1024;
    let read = || {
        let mut file = fs::File::open(path)?;
        let length = file.metadata()?.len() as i64;
        file.seek(SeekFrom::End(-ENOUGH.min(length)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    // A log that is not there yet is an empty one.
    let text = read().unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().map(|&line| line.to_owned()).collect()
}

/// The last decisions of an access log, short enough for one line each.
pub(crate) fn decisions(path: &Path) -> Vec<String> {
    let entries = tail(path, 6).into_iter().filter_map(|line| serde_json::from_str(&line).ok());
    entries.map(|entry: serde_json::Value| decision(&entry)).collect()
}

fn decision(entry: &serde_json::Value) -> String {
    let text = |name: &str| entry[name].as_str().unwrap_or("-");
    format!(
        "{:4} {} -> {:14} {:22} status {} attempts {} {} {}",
        text("method"),
        text("path"),
        text("peer_region"),
        text("upstream"),
        entry["status"],
        entry["attempts"],
        text("tls"),
        entry["reason"].as_str().unwrap_or_default()
    )
}

/// The SPIFFE id that a pod's sidecar joins with.
pub(crate) fn identity(pod: &Pod) -> String {
    format!("spiffe://{TRUST_DOMAIN}/ns/shop/sa/{}", pod.account)
}

fn policy(service: &[IpAddr], pods: &[Pod]) -> String {
    let serving = pods.iter().filter(|pod| pod.account == "orders");
    let endpoints: String = serving
        .map(|pod| {
            format!(
                "    - address: {}\n      region: {}\n      identity: {}\n      mesh: {{ address: \"{}\" }}\n",
                pod.address,
                pod.region,
                identity(pod),
                pod.at(MESH)
            )
        })
        .collect();
    let addresses = service.iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(", ");
    POLICY
        .replace("addresses: []", &format!("addresses: [{addresses}]"))
        .replace("endpoints: []", &format!("endpoints:\n{endpoints}"))
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Failure::on("write", path.display()))
}

fn mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Failure::on("open up", path.display()))
}

/// In namespaces each program runs as a user of its own.
fn give(path: &Path, bits: u32, place: Place, user: u32) -> Result<()> {
    mode(path, bits)?;
    if place == Place::Namespaces {
        chown(path, Some(user), Some(user)).map_err(Failure::on("give away", path.display()))?;
    }
    Ok(())
}

fn of_control_plane(own: &Path, pod: &Pod) -> String {
    let (own, address) = (own.display(), pod.address);
    format!(
        "\
trustDomain: {TRUST_DOMAIN}
bindAddress: {address}
store: {{ path: {own}/store, sealingKey: {own}/sealing.key }}
admin: {{ socket: {own}/admin.sock }}
"
    )
}

fn of_sidecar(folder: &Path, place: Place, pod: &Pod, control: &Pod) -> String {
    let own = folder.join(pod.name);
    let own = own.display();
    let ways = match place {
        Place::Namespaces => {
            "# Traffic comes by the capture rules: every port is the default one.\n".to_owned()
        }
        Place::Loopback => format!(
            "\
bindAddress: {address}
admin: {{ address: {address} }}
capture: {{ outbound: false, inbound: false }}
listeners:
  - {{ name: explicit, address: \"{listener}\", protocol: HTTP }}
",
            address = pod.address,
            listener = pod.at(EXPLICIT),
        ),
    };
    format!(
        "\
node: {{ name: {name}, namespace: shop, service: {account}, region: {region} }}
{ways}controlPlane:
  address: \"{control}\"
  bundle: {roots}
  join: {{ identity: \"{identity}\", token: {token} }}
stateDirectory: {own}/state
telemetry: {{ accessLog: {own}/access.log }}
",
        name = pod.name,
        account = pod.account,
        region = pod.region,
        control = control.at(CONTROL_PLANE),
        roots = roots(folder).display(),
        identity = identity(pod),
        token = token(folder, pod).display(),
    )
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use trama_sidecar::config::bootstrap::Config;

    use super::*;
    use crate::scenario::{OTHER, PREFERRED};

    fn pods() -> [Pod; 3] {
        let world = World::make(Place::Loopback).unwrap();
        let pod = |account, region, number| Pod::new(&world, account, account, region, number).unwrap();
        [pod("orders", PREFERRED, 1), pod("storefront", OTHER, 3), pod("control", PREFERRED, 4)]
    }

    #[test]
    fn what_a_killed_demo_left_behind_is_swept_away() {
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        let all = tempfile::tempdir().unwrap();
        let [own, dead] = [std::process::id(), dead.id()].map(|id| format!("trama-demo-{id}-a"));
        let others = ["trama-demo-x", "trama-mesh-1-a", "trama-demo-1a-b"];
        for name in others.into_iter().chain([&*own, &*dead]) {
            fs::create_dir(all.path().join(name)).unwrap();
            put(&all.path().join(name).join("identity.key"), "secret").unwrap();
        }
        sweep(all.path());
        let left = |name: &str| all.path().join(name).exists();
        assert!(!left(&dead) && left(&own) && others.into_iter().all(left));
    }

    #[test]
    fn the_sidecars_take_their_configuration() {
        for place in [Place::Namespaces, Place::Loopback] {
            let [_, storefront, control] = pods();
            let text = of_sidecar(Path::new("/tmp/demo"), place, &storefront, &control);
            let config = Config::parse("sidecar.yaml", &text, []).unwrap();
            assert_eq!(config.capture.outbound, place == Place::Namespaces);
            assert_eq!(config.listeners.len(), usize::from(place == Place::Loopback));
            assert_eq!(config.node.region, OTHER);
            let own = config.bind_address.map(|address| address == Ipv4Addr::new(127, 77, 3, 1));
            assert_eq!(own, (place == Place::Loopback).then_some(true));
            assert_eq!(config.control_plane.unwrap().address, "127.77.4.1:15010");
        }
    }

    #[test]
    fn the_control_plane_takes_its_configuration() {
        let text = of_control_plane(Path::new("/tmp/demo/control"), &pods()[2]);
        let config = trama_control_plane::config::Config::parse("control-plane.yaml", &text, []).unwrap();
        assert_eq!(config.admin.socket, Path::new("/tmp/demo/control/admin.sock"));
        assert_eq!(config.ports.sidecars, CONTROL_PLANE);
    }

    #[test]
    fn the_policies_can_be_read() {
        assert_eq!(trama_proto::document::Document::parse("tracing.yaml", TRACING).unwrap().len(), 1);
        let captured: [IpAddr; 2] = ["10.92.0.10".parse().unwrap(), "fd92::a".parse().unwrap()];
        for service in [&captured[..], &[]] {
            let text = policy(service, &pods());
            let documents = trama_proto::document::Document::parse("policy.yaml", &text);
            assert_eq!(documents.unwrap().len(), 6);
            assert!(text.contains("127.77.1.1:15008"));
        }
    }

    #[test]
    fn a_tail_is_the_end_of_a_file_or_nothing() {
        let folder = folder().unwrap();
        let path = folder.path().join("log");
        assert!(tail(&path, 3).is_empty());
        put(&path, "one\ntwo\nthree\nfour\n").unwrap();
        assert_eq!(tail(&path, 2), ["three", "four"]);
    }

    #[test]
    fn a_decision_is_told_in_one_line() {
        let entry = serde_json::json!({
            "method": "GET", "path": "/orders", "peer_region": "sao-paulo", "upstream": "10.77.1.1:15008",
            "status": 200, "attempts": 2, "tls": "mutual",
        });
        let line = decision(&entry);
        for part in ["GET", "/orders", "sao-paulo", "10.77.1.1:15008", "200", "attempts 2", "mutual"] {
            assert!(line.contains(part), "{line}");
        }
    }
}
