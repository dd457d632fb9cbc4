//! What a connection's first bytes are: HTTP, or a protocol that nobody here reads.
//!
//! Opaque bytes pass routes and filters by, so what any server could take for a request must not be called opaque, in
//! whatever spelling: servers are known to skip blanks and empty lines before a request, and to take tabs or several
//! spaces for one. So a first line that begins with a word and ends in a version of HTTP is HTTP, and the guard, which
//! is strict, judges it. Redis' inline commands, memcached, SMTP, RTSP, SIP and ICAP have no such line.
//!
//! Bytes that may still become one are waited for. What cannot is told at once: another first byte, a control byte, or
//! two NULs in a row, which are a number of a binary protocol.

use super::guard::is_token;

/// What the first bytes look like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Detected {
    /// HTTP/1.0 or 1.1, or what could be taken for it.
    Http1,
    /// The HTTP/2 connection preface (RFC 9113 section 3.4).
    Http2,
    /// Anything else, the end of the stream included.
    Opaque,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What still may become a request line after so many bytes is called HTTP, and the guard refuses it: who could make it
/// opaque by its length would go round everything that reads HTTP.
const LONGEST: usize = 8192;

/// Judges the bytes so far; `None`: more are needed. More never change what was told.
pub(crate) fn judge(bytes: &[u8]) -> Option<Detected> {
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    if bytes.is_empty() {
        return None;
    }
    if PREFACE.starts_with(&bytes[..bytes.len().min(PREFACE.len())]) {
        return (bytes.len() >= PREFACE.len()).then_some(Detected::Http2);
    }
    let begins = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n' | b' ' | b'\t' | 0));
    let (blank, line) = bytes.split_at(begins.unwrap_or(bytes.len()));
    if blank.windows(2).any(|two| two == [0, 0]) {
        return Some(Detected::Opaque);
    }
    first_line(line).or_else(|| (bytes.len() == LONGEST).then_some(Detected::Http1))
}

/// Judges all that will ever come. A server may take the end of the stream for the end of a line.
pub(crate) fn judge_all(bytes: &[u8]) -> Detected {
    judge(bytes).or_else(|| judge(&[bytes, b"\n"].concat())).unwrap_or(Detected::Opaque)
}

/// The line that begins with the first byte that is no blank.
fn first_line(line: &[u8]) -> Option<Detected> {
    let word = line.iter().take_while(|byte| is_token(**byte)).count();
    if word == 0 {
        return (!line.is_empty()).then_some(Detected::Opaque);
    }
    let gap = line[word..].iter().take_while(|byte| is_gap(**byte)).count();
    for (at, &byte) in line.iter().enumerate().skip(word) {
        match byte {
            b'\r' | b'\n' if ends_in_version(&line[..at]) => return Some(Detected::Http1),
            b'\n' => return Some(Detected::Opaque),
            0 if line[at - 1] == 0 => return Some(Detected::Opaque),
            byte if is_gap(byte) => {}
            // No gap behind the word, or a byte that no server takes into a request.
            _ if gap == 0 || byte.is_ascii_control() => return Some(Detected::Opaque),
            // HTTP/0.9 has no version.
            _ if at == word + gap && names_a_path(&line[at..]) => return Some(Detected::Http1),
            _ => {}
        }
    }
    None
}

/// Bytes that some server takes for the one space between the parts of a request line.
fn is_gap(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | 0x0b | 0x0c | 0)
}

fn names_a_path(target: &[u8]) -> bool {
    let begins = |with: &[u8]| target.get(..with.len()).is_some_and(|it| it.eq_ignore_ascii_case(with));
    begins(b"/") || begins(b"http://") || begins(b"https://")
}

/// `HTTP/` and a digit, whatever else the version says, with blanks around the slash and behind it.
fn ends_in_version(line: &[u8]) -> bool {
    let line = trimmed(line);
    let said = line.iter().rev().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'.').count();
    let (before, version) = line.split_at(line.len() - said);
    let name = trimmed(before).strip_suffix(b"/").map(trimmed);
    version.first().is_some_and(u8::is_ascii_digit)
        && name.and_then(|name| name.last_chunk::<4>()).is_some_and(|name| name.eq_ignore_ascii_case(b"HTTP"))
}

fn trimmed(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|byte| !is_gap(*byte));
    &line[..end.map_or(0, |last| last + 1)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assert_told(cases: &[&[u8]], expected: Option<Detected>) {
        for bytes in cases {
            assert_eq!(judge(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn http_is_told() {
        assert_told(&[PREFACE], Some(Detected::Http2));
        let http1: [&[u8]; 8] = [
            b"GET /",
            b"\r\nPOST /",
            b"OPTIONS * HTTP/1.1\r\n",
            b"CONNECT a:443 HTTP/1.1\r\n",
            b"GET http://",
            b"PRI * HTTP/1.1\r\n",
            b"PRI * HTTP/2.0\r\n\r\nMS",
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZ /",
        ];
        assert_told(&http1, Some(Detected::Http1));
    }

    #[test]
    fn what_a_lenient_server_takes_for_a_request_is_http_in_every_spelling() {
        let spellings: [&[u8]; 24] = [
            b"GET  /s HTTP/1.1\r\n",
            b"GET\t/s HTTP/1.1\r\n",
            b"GET\0 /s HTTP/1.1\r\n",
            b"GET\x0b/s HTTP/1.1\r\n",
            b" GET /s HTTP/1.1\r\n",
            b"\tGET /s HTTP/1.1\r\n",
            b"\0GET /s HTTP/1.1\r\n",
            b"\nGET /s HTTP/1.1\r\n",
            b"\r\n\r\nGET /s HTTP/1.1\r\n",
            b"\r\n \r\n\t\nGET /s HTTP/1.1\r\n",
            b"GET \\s HTTP/1.1\r\n",
            b"GET s HTTP/1.1\n",
            b"GET s HTTP/1.1\r",
            b"GET s  HTTP/1.1 \t \r\n",
            b"GET\rs HTTP/1.1\n",
            b"GET \xc3\xa9 HTTP/1.1\r\n",
            b"GET raw HTTP/2.0\r\n",
            b"get s http/1.0\r\n",
            b"GET s HTTP/1.1x\r\n",
            b"GET s HTTP / 1.1\r\n",
            b"GET HtTpS://",
            b"A!#$%&'*+.^`|~1  /",
            b"\r\nPRI * HTTP/2.0\r\n",
            b"BREW pot HTTP/9\r\n",
        ];
        assert_told(&spellings, Some(Detected::Http1));
    }

    #[test]
    fn other_protocols_are_opaque_with_their_first_line() {
        let lines: [&[u8]; 21] = [
            b"GET key\r\n",
            b"KEYS *\r\n",
            b"PING\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"get key another\r\n",
            b"set key 0 900 5\r\n",
            b"EHLO mail.example\r\n",
            b"USER anonymous\r\n",
            b"a001 LOGIN me secret\r\n",
            b"SSH-2.0-OpenSSH_9.9\r\n",
            b"DESCRIBE rtsp://a/b RTSP/1.0\r\n",
            b"INVITE sip:bob@b.example SIP/2.0\r\n",
            b"REQMOD icap://i.example/m ICAP/1.0\r\n",
            b"CONNECT {\"verbose\":false}\r\n",
            b"CONNECT\naccept-version:1.2\n",
            b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n",
            // Lines of somebody else's log.
            b"10.0.0.1 - - [21/Nov/2026] \"GET / HTTP/1.1\" 200 5\n",
            b"10.0.0.1 - - \"GET / HTTP/1.1\"\n",
            b"servers.http/1.count 5 1764000000\n",
            b"HTTP/1.1 200 OK\r\n",
            b"\n\nHELP\n",
        ];
        assert_told(&lines, Some(Detected::Opaque));
    }

    #[test]
    fn binary_protocols_are_opaque_with_what_their_clients_say_first() {
        let first: [&[u8]; 20] = [
            b"\x16\x03\x01",
            // PostgreSQL: the request for TLS, and a startup message whose length is a letter.
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
            b"\x00\x00\x00T\x00\x03\x00\x00user\x00me\x00",
            // AMQP 0-9-1 and 1.0.
            b"AMQP\x00\x00\x09\x01",
            b"AMQP\x00\x01\x00\x00",
            // Kafka, Thrift, gearman, MongoDB, LDAP.
            b"\x00\x00\x00*\x00\x12\x00\x03",
            b"\x00\x00\x00.\x80\x01\x00\x01",
            b"\x00REQ\x00\x00\x00\x09\x00\x00\x00\x00",
            b"A\x00\x00\x00\x01\x00\x00\x00",
            b"0\x0c\x02\x01\x01\x60\x07",
            // DNS, whose length and number are letters.
            b"\x00Aab\x01\x20\x00\x01",
            b"\x10\x13\x00\x04MQTT",
            b"\x03rtmp",
            b"\x0bMSH|^~\\&|",
            b"{\"jsonrpc\"",
            b"<34>1 2026",
            b"ZBXD\x01",
            b"C\x87\x00",
            b"USER:me",
            b"\x80",
        ];
        assert_told(&first, Some(Detected::Opaque));
    }

    #[test]
    fn what_may_still_become_a_request_is_waited_for_but_not_without_end() {
        let begun: [&[u8]; 9] =
            [b"", b"G", b"\r\n", b" \0\n", b"GET ", b"GET \\s HTTP/1", b"GET s\r", b"PRI * HT", b"A-B "];
        assert_told(&begun, None);
        let target = [b"GET ".to_vec(), b"s".repeat(8188)].concat();
        for bytes in [b"\r\n".repeat(4096), b"G".repeat(8192), target] {
            assert_eq!(judge(&bytes[..8191]), None);
            assert_eq!(judge(&bytes), Some(Detected::Http1));
            assert_eq!(judge(&[&bytes[..], b"\r\n"].concat()), Some(Detected::Http1));
        }
    }

    #[test]
    fn the_end_of_the_stream_ends_a_line() {
        for (bytes, expected) in [
            (&b""[..], Detected::Opaque),
            (b"ruok", Detected::Opaque),
            (b"PRI * HT", Detected::Opaque),
            (b"GET s HTTP/1.1", Detected::Http1),
            (b"GET /", Detected::Http1),
        ] {
            assert_eq!(judge_all(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    proptest! {
        /// However the network cuts the bytes, they mean the same, and what once was told is not taken back.
        #[test]
        fn more_bytes_never_change_what_was_told(
            start in prop::sample::select(vec![
                "", "GET ", "GET /", "PRI * HTTP/2.0\r\n\r\nSM", "\r\nPUT a", "A-B ", "GET \\s HTTP/1", "\0\r\n X\t",
            ]),
            rest in prop::collection::vec(any::<u8>(), 0..64),
            end in prop::sample::select(vec!["", " HTTP/1.1\r\n", " \n"]),
        ) {
            let bytes = [start.as_bytes(), &rest, end.as_bytes()].concat();
            let told: Vec<_> = (0..=bytes.len()).filter_map(|end| judge(&bytes[..end])).collect();
            prop_assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:?}");
        }
    }
}
