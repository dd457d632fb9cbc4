//! nginx, as a server of files and as a proxy: the most common application there is.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{Place, app};
use crate::lab::LabError;
use crate::process::Process;
use crate::programs;

/// What an nginx serves.
#[derive(Clone, Debug, Default)]
pub struct Site {
    http2: bool,
    file: Vec<u8>,
    next: Option<SocketAddr>,
}

impl Site {
    /// `/file` is these bytes, counted; `/chunked` the same bytes, in chunks; `/none` is 204.
    #[must_use]
    pub fn of(file: &[u8]) -> Self {
        Self { file: file.to_owned(), ..Self::default() }
    }

    /// HTTP/2 with prior knowledge, and nothing else.
    #[must_use]
    pub fn http2(mut self, http2: bool) -> Self {
        self.http2 = http2;
        self
    }

    /// Everything below `/next/` is passed on to this address, over HTTP/1.1 connections that are kept.
    #[must_use]
    pub fn passes_on(mut self, to: SocketAddr) -> Self {
        self.next = Some(to);
        self
    }

    /// Each answer tells by whom it was served, on which of its connections, and its number there.
    fn configuration(&self, listen: SocketAddr, served_by: &str, file: &Path, own: &Path) -> String {
        let (file, own) = (file.display(), own.display());
        let http2 = if self.http2 { " http2" } else { "" };
        let mut text = format!(
            "daemon off; worker_processes 1; pid {own}.pid;
error_log stderr notice;
events {{ worker_connections 512; }}
http {{
  access_log off; tcp_nodelay on; sendfile on;
  client_body_temp_path {own}.body; proxy_temp_path {own}.proxy; fastcgi_temp_path {own}.fastcgi;
  uwsgi_temp_path {own}.uwsgi; scgi_temp_path {own}.scgi; client_max_body_size 0;
  server {{
    listen {listen}{http2};
    add_header x-served-by {served_by} always;
    add_header x-connection $connection always; add_header x-number $connection_requests always;
    location = /file {{ alias {file}; }}
    location = /chunked {{ alias {file}; ssi on; ssi_types *; }}
    location = /none {{ return 204; }}
"
        );
        if let Some(next) = self.next {
            let passed = "proxy_http_version 1.1; proxy_set_header connection \"\"";
            let _ = writeln!(text, "    location /next/ {{ proxy_pass http://next/; {passed}; }}\n  }}");
            let _ = write!(text, "  upstream next {{ server {next}; keepalive 8; ");
        }
        text + "}\n}\n"
    }
}

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    /// The process, to be killed or asked for its log.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Nginx {
    /// Starts it on a port, which must be free.
    pub fn start(place: &dyn Place, served_by: &str, port: u16, site: &Site) -> Result<Self, LabError> {
        programs::find("nginx").ok_or(LabError::Missing { program: "nginx", package: "nginx-light" })?;
        let address = SocketAddr::new(place.address(), port);
        let file = place.make_file("file", &site.file)?;
        let own = file.with_extension("nginx");
        let config =
            place.make_file("nginx.conf", site.configuration(address, served_by, &file, &own).as_bytes())?;
        let mut command = Command::new("nginx");
        // What it says before it has read its configuration is an error of ours too.
        command.args(["-e", "stderr", "-c"]).arg(config);
        let mut process = place.start(&command)?;
        process.wait_until("worker process", app::START, |nginx| {
            nginx.log().contains("start worker process ").then_some(())
        })?;
        Ok(Self { process, address })
    }
}
