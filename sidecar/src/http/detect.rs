//! Protocol detection from a connection's first bytes.
//!
//! Ours and not a library's, because it must have a deadline and must be able to say "opaque" (crates' `auto` servers
//! wait without end, hyper#3962). What the bytes mean is judged in [`super::first_bytes`], and what begins like HTTP/1
//! goes to the guard, which is strict.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::HttpLimits;
pub use super::first_bytes::Detected;
use super::first_bytes::{judge, judge_all};

/// What becomes of a connection whose first bytes were read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Told {
    /// It is served as HTTP. What is not HTTP on a port that policy calls HTTP goes to the guard, which answers it.
    Http1,
    /// It is served as HTTP/2.
    Http2,
    /// It is carried as it is.
    Opaque,
    /// The peer broke off before it said anything.
    Gone,
}

/// Concludes from what detection found, how many bytes it read, and whether policy leaves the protocol open.
pub fn conclude(detected: std::io::Result<Detected>, read: usize, open: bool) -> Told {
    match detected {
        Err(_) => Told::Gone,
        Ok(Detected::Opaque) if read == 0 => Told::Gone,
        Ok(Detected::Opaque) if open => Told::Opaque,
        Ok(Detected::Opaque | Detected::Http1) => Told::Http1,
        Ok(Detected::Http2) => Told::Http2,
    }
}

/// Reads until the protocol is told. The bytes read come back with it; the caller owns the deadline.
async fn detect(stream: &mut (impl AsyncRead + Unpin), read: &mut BytesMut) -> std::io::Result<Detected> {
    loop {
        if stream.read_buf(read).await? == 0 {
            return Ok(judge_all(read));
        }
        if let Some(detected) = judge(read) {
            return Ok(detected);
        }
    }
}

/// The same within its time: silence for the idle time-out is the end, and what has begun must go on. Bytes that may still
/// become a request then are HTTP's, whose answer is that they did not come in time.
pub async fn detect_within(
    limits: &HttpLimits,
    stream: &mut (impl AsyncRead + Unpin),
    read: &mut BytesMut,
) -> std::io::Result<Detected> {
    let began = tokio::time::timeout(limits.idle_timeout, stream.read_buf(read)).await;
    match began.unwrap_or(Ok(0))? {
        0 => Ok(Detected::Opaque),
        _ if let Some(detected) = judge(read) => Ok(detected),
        _ => {
            let detected = tokio::time::timeout(limits.head_timeout, detect(stream, read)).await;
            detected.unwrap_or(Ok(Detected::Http1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_open_port_carries_what_is_not_http() {
        assert_eq!(conclude(Ok(Detected::Opaque), 9, true), Told::Opaque);
        assert_eq!(conclude(Ok(Detected::Opaque), 9, false), Told::Http1);
        assert_eq!(conclude(Ok(Detected::Opaque), 0, true), Told::Gone);
        assert_eq!(conclude(Ok(Detected::Http2), 24, false), Told::Http2);
        assert_eq!(conclude(Err(std::io::ErrorKind::ConnectionReset.into()), 0, true), Told::Gone);
    }

    #[tokio::test]
    async fn bytes_may_come_one_by_one() {
        const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let (mut client, mut server) = tokio::io::duplex(1);
        let write =
            tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut client, PREFACE).await });
        let mut read = BytesMut::new();
        assert_eq!(detect(&mut server, &mut read).await.unwrap(), Detected::Http2);
        assert_eq!(&read[..], PREFACE);
        write.await.unwrap().unwrap();
    }
}
