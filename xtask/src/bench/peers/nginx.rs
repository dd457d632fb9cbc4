//! nginx: one hop, without a route table.

use super::{Launch, Peer, Scene, Site, first_line};
use crate::bench::row::Version;
use crate::bench::site::free_port;
use crate::error::Result;
use crate::tools;

pub(crate) struct Nginx;

impl Peer for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn version(&self) -> Result<String> {
        Ok(first_line(tools::command(tools::NGINX, &["-v"])?)?.replace("nginx version: ", ""))
    }

    fn plays(&self, scene: Scene) -> bool {
        matches!(scene, Scene::OneHop(_))
    }

    fn launches(&self, scene: Scene, site: &Site) -> Result<Vec<Launch>> {
        let port = free_port()?;
        let protocol = if scene == Scene::OneHop(Version::Http2) { " http2" } else { "" };
        let backend = site.backend_port;
        let config = site.write("nginx.conf", configuration(port, protocol, backend))?;
        let config = config.display().to_string();
        let command = tools::command(tools::NGINX, &["-p", &site.path(""), "-c", &config])?;
        Ok(vec![Launch { name: "nginx".to_owned(), command, port }])
    }
}

fn configuration(port: u16, protocol: &str, backend: u16) -> String {
    format!(
        "daemon off; master_process off; worker_processes 1; pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 2048; }}
http {{
  access_log off; tcp_nodelay on; keepalive_timeout 1h; keepalive_requests 1000000000;
  http2_max_concurrent_streams 256;
  client_body_temp_path nginx-body; proxy_temp_path nginx-proxy;
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port}{protocol} backlog=4096;
    location / {{
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection \"\";
      proxy_set_header Host $host;
    }}
  }}
}}
"
    )
}
