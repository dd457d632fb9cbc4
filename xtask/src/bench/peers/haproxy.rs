//! haproxy: one hop, without a route table.

use super::{Launch, Peer, Scene, Site, first_line};
use crate::bench::row::Version;
use crate::bench::site::free_port;
use crate::error::Result;
use crate::tools;

pub(crate) struct Haproxy;

impl Peer for Haproxy {
    fn name(&self) -> &'static str {
        "haproxy"
    }

    fn version(&self) -> Result<String> {
        first_line(tools::command(tools::HAPROXY, &["-v"])?)
    }

    fn plays(&self, scene: Scene) -> bool {
        matches!(scene, Scene::OneHop(_))
    }

    fn launches(&self, scene: Scene, site: &Site) -> Result<Vec<Launch>> {
        let port = free_port()?;
        let protocol = if scene == Scene::OneHop(Version::Http2) { " proto h2" } else { "" };
        let config = site.write("haproxy.conf", configuration(port, protocol, site.backend_port))?;
        // -db: in the foreground, without a master process.
        let command = tools::command(tools::HAPROXY, &["-db", "-f", &config.display().to_string()])?;
        Ok(vec![Launch { name: "haproxy".to_owned(), command, port }])
    }
}

fn configuration(port: u16, protocol: &str, backend: u16) -> String {
    format!(
        "global
  nbthread 1
  maxconn 2048
  tune.h2.max-concurrent-streams 256
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  http-reuse always
frontend in
  bind 127.0.0.1:{port}{protocol} backlog 4096
  default_backend out
backend out
  server backend 127.0.0.1:{backend} pool-max-conn 1024
"
    )
}
