//! Protocol detection from a connection's first bytes.
//!
//! Ours and not a library's, because it must have a deadline and must be able to say "opaque" (crates' `auto` servers
//! wait without end, hyper#3962). Nothing is judged here: bytes that begin like HTTP/1 go to the guard, which is strict.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::HttpLimits;

/// What the first bytes look like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Detected {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// The HTTP/2 connection preface (RFC 9113 section 3.4).
    Http2,
    /// Anything else, the end of the stream included.
    Opaque,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest method that still counts as HTTP/1: the registry's longest is `UPDATEREDIRECTREF`, 17 letters.
const LONGEST_METHOD: usize = 24;

/// Judges the bytes so far; `None`: more are needed.
pub fn judge(bytes: &[u8]) -> Option<Detected> {
    if bytes.is_empty() {
        return None;
    }
    if PREFACE.starts_with(&bytes[..bytes.len().min(PREFACE.len())]) {
        return (bytes.len() >= PREFACE.len()).then_some(Detected::Http2);
    }
    // RFC 9112 section 2.2: an empty line before the request line is to be ignored.
    let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let method = bytes.iter().take_while(|b| b.is_ascii_alphabetic() || matches!(b, b'-' | b'_')).count();
    match bytes.get(method) {
        Some(b' ') if (1..=LONGEST_METHOD).contains(&method) => target(&bytes[method + 1..]),
        None if method <= LONGEST_METHOD => None,
        Some(b'\r') if bytes.len() == 1 => None,
        _ => Some(Detected::Opaque),
    }
}

/// After `METHOD SP`: a request target begins with a slash, an asterisk or a scheme or host. `+OK ` and `USER x` of mail
/// protocols have neither, so the version is waited for, as far as a line of theirs reaches.
fn target(rest: &[u8]) -> Option<Detected> {
    match rest.first() {
        None => None,
        Some(b'/' | b'*') => Some(Detected::Http1),
        Some(b) if b.is_ascii_alphanumeric() || *b == b'[' => version_on_line(rest),
        Some(_) => Some(Detected::Opaque),
    }
}

fn version_on_line(rest: &[u8]) -> Option<Detected> {
    let end = memchr::memchr(b'\n', rest);
    let line = &rest[..end.unwrap_or(rest.len())];
    if memchr::memmem::find(line, b" HTTP/1.").is_some() {
        return Some(Detected::Http1);
    }
    (end.is_some() || line.len() > 8192).then_some(Detected::Opaque)
}

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
pub async fn detect(stream: &mut (impl AsyncRead + Unpin), read: &mut BytesMut) -> std::io::Result<Detected> {
    loop {
        if stream.read_buf(read).await? == 0 {
            return Ok(if read.is_empty() {
                Detected::Opaque
            } else {
                judge(read).unwrap_or(Detected::Opaque)
            });
        }
        if let Some(detected) = judge(read) {
            return Ok(detected);
        }
    }
}

/// The same, where only HTTP is expected: silence for the idle time-out is the end, and what has begun must go on.
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
            detected.unwrap_or(Ok(Detected::Opaque))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn first_bytes_tell() {
        let cases: &[(&[u8], Option<Detected>)] = &[
            (b"", None),
            (b"G", None),
            (b"GET /", Some(Detected::Http1)),
            (b"GET  /", Some(Detected::Opaque)),
            (b"OPTIONS *", Some(Detected::Http1)),
            (b"\r\nPOST /", Some(Detected::Http1)),
            (b"CONNECT a:443 HTTP/1.1\r\n", Some(Detected::Http1)),
            (b"GET http://a/ HTTP/1.1\r\n", Some(Detected::Http1)),
            (b"PRI * HT", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Detected::Http2)),
            (b"PRI * HTTP/1.1\r\n", Some(Detected::Http1)),
            (b"EHLO mail.example\r\n", Some(Detected::Opaque)),
            (b"USER anonymous\r\n", Some(Detected::Opaque)),
            (b"*1\r\n$4\r\nPING\r\n", Some(Detected::Opaque)),
            (b"\x16\x03\x01", Some(Detected::Opaque)),
            (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Some(Detected::Opaque)),
            (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ /", Some(Detected::Opaque)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(judge(bytes), *expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

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
        let (mut client, mut server) = tokio::io::duplex(1);
        let write = tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut client, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await
        });
        let mut read = BytesMut::new();
        assert_eq!(detect(&mut server, &mut read).await.unwrap(), Detected::Http2);
        assert_eq!(&read[..], PREFACE);
        write.await.unwrap().unwrap();
    }

    proptest! {
        /// However the network cuts the bytes, they mean the same, and what once was told is not taken back.
        #[test]
        fn more_bytes_never_change_what_was_told(
            start in prop::sample::select(vec!["", "GET ", "GET /", "PRI * HTTP/2.0\r\n\r\nSM", "\r\nPUT a", "A-B "]),
            rest in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let bytes = [start.as_bytes(), &rest].concat();
            let told: Vec<_> = (0..=bytes.len()).filter_map(|end| judge(&bytes[..end])).collect();
            prop_assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:?}");
        }
    }
}
