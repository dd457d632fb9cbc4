//! What a running sidecar is asked at its admin port; by HTTP, because an image without a shell has no other tool for it.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use trama_sidecar::{config::bootstrap::Config, explain::Description};

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
    #[command(flatten)]
    description: Description,
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
    let ExplainArguments { url, description, json, whom } = arguments;
    let described = description.of(url);
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
