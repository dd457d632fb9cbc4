//! What a running sidecar is asked at its admin port; by HTTP, because an image without a shell has no other tool for it.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use trama_proto::explain::v1::{DescribedRequest, HeaderField};
use trama_sidecar::config::bootstrap::Config;

use super::failed;

const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(crate) struct DrainArguments {
    /// Only what comes in; the application's own calls go on. For a preStop hook.
    #[arg(long)]
    inbound: bool,
    #[command(flatten)]
    whom: Whom,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArguments {
    /// What is asked for, such as `http://orders.shop/v1/orders?limit=1`; with --address a path alone will do.
    url: String,
    /// The address that the application dials and the sidecar captures. Left out: the request comes in on an explicit
    /// listener.
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "listener")]
    address: Option<SocketAddr>,
    /// The service that the explicit listener is for. Left out: the authority says which is meant.
    #[arg(long, value_name = "NAMESPACE/NAME:PORT")]
    listener: Option<String>,
    /// The method.
    #[arg(long, short = 'X', default_value = "GET")]
    method: String,
    /// A header field; may be given several times.
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<HeaderField>,
    /// What the application speaks: HTTP/1.0, HTTP/1.1 or HTTP/2.
    #[arg(long, default_value = "HTTP/1.1", value_name = "VERSION")]
    http_version: String,
    /// Where the application's connection comes from: filters may ask.
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    source: IpAddr,
    /// The random number to decide with, to have the same answer again. Left out: any.
    #[arg(long)]
    draw: Option<u64>,
    /// The worker whose latencies decide.
    #[arg(long, default_value_t = 0)]
    worker: u32,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    whom: Whom,
}

#[derive(Debug, clap::Args)]
struct Whom {
    /// The configuration that the sidecar was started with: its `admin` is where it is asked. Variables such as
    /// TRAMA_ADMIN_PORT count as for the sidecar itself.
    #[arg(long, env = "TRAMA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The admin address of the sidecar, whatever its configuration says.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
}

/// Asks it to drain.
pub(crate) fn drain(arguments: &DrainArguments) -> ExitCode {
    let path = if arguments.inbound { "/drain?inbound" } else { "/drain" };
    arguments.whom.post(path, "").map_or_else(|problem| failed(&problem), |_| ExitCode::SUCCESS)
}

/// Asks it why a request would go where it would go.
pub(crate) fn explain(arguments: ExplainArguments) -> ExitCode {
    let ExplainArguments {
        url, address, listener, method, headers, source, draw, worker, json, whom, ..
    } = arguments;
    let described = DescribedRequest {
        url,
        address: address.map(|address| address.to_string()).unwrap_or_default(),
        listener: listener.unwrap_or_default(),
        method,
        headers,
        version: arguments.http_version,
        source: source.to_string(),
        draw,
        worker,
    };
    let asked = serde_json::to_string(&described).map_err(|error| error.to_string());
    let path = if json { "/explain" } else { "/explain?text" };
    match asked.and_then(|asked| whom.post(path, &asked)) {
        Ok(explanation) => {
            print!("{explanation}");
            ExitCode::SUCCESS
        }
        Err(problem) => failed(&problem),
    }
}

impl Whom {
    fn address(&self) -> Result<SocketAddr, String> {
        if let Some(address) = self.admin {
            return Ok(address);
        }
        let config = Config::load(self.config.as_deref(), std::env::vars()).map_err(|e| e.to_string())?;
        match config.admin.port {
            0 => Err("admin.port is 0, any free one: only --admin can tell it".to_owned()),
            port => Ok(SocketAddr::new(config.admin.address, port)),
        }
    }

    /// The body of a good answer.
    fn post(&self, path: &str, body: &str) -> Result<String, String> {
        let admin = self.address()?;
        let answer = ask(admin, path, body).map_err(|error| {
            format!("no sidecar answers at {admin}: {error}; is it the admin address of --config or --admin?")
        })?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        if head.starts_with("HTTP/1.1 2") {
            return Ok(body.to_owned());
        }
        let status = head.lines().next().unwrap_or("nothing");
        Err(format!("the sidecar answered: {status}\n{}", body.trim_end()).trim_end().to_owned())
    }
}

fn ask(admin: SocketAddr, path: &str, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: {admin}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn header(text: &str) -> Result<HeaderField, String> {
    let (name, value) = text.split_once(':').ok_or("write name and value, such as `x-canary: 1`")?;
    Ok(HeaderField { name: name.trim().to_owned(), value: value.trim().to_owned() })
}
