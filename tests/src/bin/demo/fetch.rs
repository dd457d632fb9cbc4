//! Asks for one page: how the demo looks into a pod's network from outside.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::failure::{Failure, Result};
use crate::world::{Pod, User};

const PATIENCE: Duration = Duration::from_secs(3);

/// What a port of a pod answers. `own` is this program, where every user may read it.
pub(crate) async fn within(own: &Path, pod: &Pod, port: u16, path: &str) -> Result<String> {
    // As the sidecar's user, for nothing of it shall be captured.
    let mut command = pod.command(User::Sidecar, own);
    command.args(["fetch", "--from", &pod.at(port).to_string(), "--path", path]);
    let output = command.output().await.map_err(Failure::on("ask", pod.name))?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(Failure(text(&output.stderr))) }
}

/// Whether such a page is there, and well.
pub(crate) async fn is_well(own: &Path, pod: &Pod, port: u16, path: &str) -> bool {
    let answer = within(own, pod, port, path).await;
    answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    from: SocketAddr,
    #[arg(long)]
    path: String,
}

/// Prints whatever comes back, head and body, until the other side closes.
pub(crate) async fn run(args: Args) -> Result<()> {
    let answer = tokio::time::timeout(PATIENCE, exchange(&args)).await;
    let answer = answer.unwrap_or_else(|_| Err(Failure(format!("{} did not answer in time", args.from))))?;
    print!("{answer}");
    Ok(())
}

async fn exchange(args: &Args) -> Result<String> {
    let failed = |action: &'static str| Failure::on(action, args.from);
    let mut stream = TcpStream::connect(args.from).await.map_err(failed("connect to"))?;
    let request = format!("GET {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", args.path, args.from);
    stream.write_all(request.as_bytes()).await.map_err(failed("write to"))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.map_err(failed("read from"))?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
