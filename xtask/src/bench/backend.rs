//! What all proxies forward to: nginx with two files, and beside it a collector which takes spans and forgets them.

use super::row::Answer;
use super::running::{Launch, Running};
use super::site::{ROUTE, Site};
use crate::error::Result;
use crate::tools;

pub(crate) fn start(site: &Site) -> Result<Running> {
    for answer in [Answer::Small, Answer::Big] {
        // Bytes without a pattern, so that nothing on the way could save work on them.
        let mut state = 1_u32;
        let body: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .take(answer.bytes())
        .collect();
        site.write(&format!("www{ROUTE}/{}", answer.file()), body)?;
    }
    // An empty ExportTraceServiceResponse in its gRPC frame.
    site.write("www/grpc-empty", [0; 5])?;
    let config = site.write("backend.conf", configuration(site))?;
    let config = config.display().to_string();
    let command = tools::command(tools::NGINX, &["-p", &site.path(""), "-c", &config])?;
    Running::start(Launch { name: "backend".to_owned(), command, port: site.backend_port }, &site.folder)
}

fn configuration(site: &Site) -> String {
    let Site { backend_port, collector_port, .. } = site;
    format!(
        "daemon off; master_process off; worker_processes 1; pid backend.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nodelay on; open_file_cache max=100;
  keepalive_timeout 1h; keepalive_requests 1000000000;
  client_body_temp_path backend-body;
  server {{ listen 127.0.0.1:{backend_port} backlog=4096; root www; }}
  server {{
    listen 127.0.0.1:{collector_port} http2; root www;
    # A POST to a file is refused by nginx, and the refusal is answered by the file.
    error_page 405 =200 /grpc-empty;
    location / {{ rewrite ^ /grpc-empty break; default_type application/grpc; add_trailer grpc-status 0; }}
  }}
}}
"
    )
}
