//! The load: h2load with a fixed count of requests, and connections that stay idle.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::row::{Answer, Version};
use super::site::{HOST, ROUTE};
use crate::error::{Error, Result};
use crate::process;
use crate::tools;

const LONGEST: Duration = Duration::from_secs(120);

/// The command that sends `count` requests to the port.
pub(crate) fn command(port: u16, version: Version, answer: Answer, count: u32) -> Result<Command> {
    let (count, target) = (count.to_string(), format!("--connect-to=127.0.0.1:{port}"));
    let url = format!("http://{HOST}{ROUTE}/{}", answer.file());
    let mut arguments = vec!["-t1", "-n", &count, &target];
    arguments.extend(match version {
        Version::Http1 => &["--h1", "-c32"][..],
        Version::Http2 => &["-c4", "-m32"][..],
    });
    arguments.push(&url);
    tools::command(tools::H2LOAD, &arguments)
}

/// Sends the requests and fails unless each was answered by 2xx and the whole body.
pub(crate) fn requests(name: &str, port: u16, version: Version, answer: Answer, count: u32) -> Result<()> {
    let mut command = command(port, version, answer, count)?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = command.spawn();
    let mut child = started.map_err(|source| Error::Start { command: process::spell(&command), source })?;

    // What h2load prints fits into a pipe, so that waiting before reading cannot block it.
    let begin = Instant::now();
    while !child.try_wait().is_ok_and(|status| status.is_some()) {
        if begin.elapsed() > LONGEST {
            let _ = child.kill();
        }
        thread::sleep(Duration::from_millis(5));
    }
    let output = child
        .wait_with_output()
        .map_err(|source| Error::Start { command: process::spell(&command), source })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let whole = u64::from(count) * answer.bytes() as u64;
    match result(&text) {
        Some((good, bytes)) if good == u64::from(count) && bytes == whole => Ok(()),
        _ => Err(Error::Load { name: name.to_owned(), command: process::spell(&command), text }),
    }
}

/// Opens keep-alive connections, has a request answered on each, all at once, and hands them over open.
pub(crate) fn connections(name: &str, port: u16, count: u32) -> Result<Vec<TcpStream>> {
    let open = || -> std::io::Result<Vec<TcpStream>> {
        let mut streams = (0..count).map(|_| ask(port)).collect::<std::io::Result<Vec<_>>>()?;
        streams.iter_mut().try_for_each(hear)?;
        Ok(streams)
    };
    open().map_err(|source| Error::Load {
        name: name.to_owned(),
        command: format!("{count} connections, one request each"),
        text: source.to_string(),
    })
}

fn ask(port: u16) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let path = format!("{ROUTE}/{}", Answer::Small.file());
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n")?;
    Ok(stream)
}

fn hear(stream: &mut TcpStream) -> std::io::Result<()> {
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    let end = |seen: &[u8]| seen.windows(4).position(|window| window == b"\r\n\r\n");
    while end(&seen).is_none_or(|head| seen.len() < head + 4 + Answer::Small.bytes()) {
        match stream.read(&mut buffer)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => seen.extend_from_slice(&buffer[..count]),
        }
    }
    if seen.starts_with(b"HTTP/1.1 200 ") {
        return Ok(());
    }
    Err(std::io::Error::other(String::from_utf8_lossy(&seen).into_owned()))
}

/// The count of 2xx answers and of body bytes in what h2load prints.
fn result(text: &str) -> Option<(u64, u64)> {
    let after = |prefix: &str| text.lines().find_map(|line| line.strip_prefix(prefix));
    let good = after("status codes: ")?.split_once(" 2xx")?.0.parse().ok()?;
    let (_, data) = after("traffic: ")?.rsplit_once('(')?;
    Some((good, data.split_once(')')?.0.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_bytes_are_read_from_what_h2load_prints() {
        let text = "requests: 100 total, 100 started, 100 done, 98 succeeded, 2 failed, 2 errored, 0 timeout\n\
                    status codes: 98 2xx, 0 3xx, 2 4xx, 0 5xx\n\
                    traffic: 24.29KB (24876) total, 2.10KB (2148) headers (space savings 91%), 3.35KB (3430) data\n";
        assert_eq!(result(text), Some((98, 3430)));
        assert_eq!(result("connection refused"), None);
    }
}
