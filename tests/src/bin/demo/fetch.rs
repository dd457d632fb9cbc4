//! Asks for one page: how the demo looks into a pod's network from outside.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::failure::{Failure, Result};

const PATIENCE: Duration = Duration::from_secs(3);

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
