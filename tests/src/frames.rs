//! HTTP/2 frame by frame (RFC 9113 section 4): what no honest library would send.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a harness makes its test fail by panicking")]

use std::collections::BTreeMap;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::mesh::PATIENCE;

/// What a client says first (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// `SETTINGS_MAX_CONCURRENT_STREAMS`.
pub const MAX_STREAMS: u16 = 3;
/// `SETTINGS_INITIAL_WINDOW_SIZE`, of each stream.
pub const INITIAL_WINDOW: u16 = 4;
/// What a connection's window is before the peer says more (RFC 9113 section 6.9.2).
pub const FIRST_WINDOW: u32 = 65_535;
/// The highest number of a stream: what a GOAWAY names that does not yet know the last one (RFC 9113 section 6.8).
pub const ANY_STREAM: u32 = (1 << 31) - 1;

/// Codes of errors (RFC 9113 section 7).
pub const NO_ERROR: u32 = 0;
/// A rule of the protocol is broken.
pub const PROTOCOL_ERROR: u32 = 1;
/// The stream was not touched.
pub const REFUSED_STREAM: u32 = 7;
/// Given up by who asked.
pub const CANCEL: u32 = 8;
/// The peer behaves as an attacker does.
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// A client's connection.
#[derive(Debug)]
pub struct Frames<S = TcpStream> {
    stream: S,
    /// What the server's SETTINGS have said.
    pub settings: BTreeMap<u16, u32>,
    /// How much may be sent on the connection before the server says more.
    pub window: u32,
}

/// What the server says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Said {
    /// The head of an answer on a stream, with this status.
    Head(u32, u16),
    /// A stream is reset, with this code.
    Reset(u32, u32),
    /// A PING is answered.
    Pong,
    /// The connection ends: the last stream that is served, and the code.
    GoAway(u32, u32),
    /// It has ended.
    End,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    /// Begins a connection: the preface, and SETTINGS that ask for nothing.
    pub async fn begin(stream: S) -> Self {
        let mut frames = Self { stream, settings: BTreeMap::new(), window: FIRST_WINDOW };
        frames.stream.write_all(PREFACE).await.unwrap();
        frames.send(SETTINGS, 0, 0, &[]).await.unwrap();
        frames
    }

    /// The head of a request, each field as it stands here.
    pub async fn head(&mut self, stream: u32, fields: &[(&str, &str)], ends: bool) -> io::Result<()> {
        let mut block = Vec::new();
        for (name, value) in fields {
            // A literal that is in no table (RFC 7541 section 6.2.2).
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).ok().filter(|&length| length < 127).unwrap());
                block.extend_from_slice(text.as_bytes());
            }
        }
        self.send(HEADERS, END_HEADERS | if ends { END_STREAM } else { 0 }, stream, &block).await
    }

    /// Bytes of a body.
    pub async fn data(&mut self, stream: u32, bytes: &[u8], ends: bool) -> io::Result<()> {
        self.send(DATA, if ends { END_STREAM } else { 0 }, stream, bytes).await
    }

    /// Grants windows of so many bytes: to the connection, and to each stream that begins from now on.
    pub async fn widen(&mut self, bytes: u32) -> io::Result<()> {
        let mut setting = INITIAL_WINDOW.to_be_bytes().to_vec();
        setting.extend_from_slice(&bytes.to_be_bytes());
        self.send(SETTINGS, 0, 0, &setting).await?;
        self.send(WINDOW_UPDATE, 0, 0, &bytes.to_be_bytes()).await
    }

    /// Gives a stream up.
    pub async fn reset(&mut self, stream: u32) -> io::Result<()> {
        self.send(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()).await
    }

    /// Bytes as they are, which need be no frame.
    pub async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Asks whether the server lives (RFC 9113 section 6.7).
    pub async fn ping(&mut self) -> io::Result<()> {
        self.send(PING, 0, 0, &[0; 8]).await
    }

    /// What the server says next; what is no news is answered and left out.
    pub async fn hear(&mut self) -> Said {
        let hearing = async {
            loop {
                if let Some(said) = self.hear_frame().await {
                    return said;
                }
            }
        };
        timeout(PATIENCE, hearing).await.expect("the server says something")
    }

    async fn hear_frame(&mut self) -> Option<Said> {
        let mut head = [0; 9];
        if self.stream.read_exact(&mut head).await.is_err() {
            return Some(Said::End);
        }
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        if self.stream.read_exact(&mut payload).await.is_err() {
            return Some(Said::End);
        }
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        let stream = u32::from_be_bytes(stream);
        match kind {
            HEADERS => return Some(Said::Head(stream, status(&payload))),
            RST_STREAM => return Some(Said::Reset(stream, number(0))),
            GOAWAY => return Some(Said::GoAway(number(0), number(4))),
            WINDOW_UPDATE if stream == 0 => self.window += number(0),
            SETTINGS if flags & ACK == 0 => {
                self.settings.extend(settings(&payload));
                self.send(SETTINGS, ACK, 0, &[]).await.ok();
            }
            PING if flags & ACK != 0 => return Some(Said::Pong),
            PING => {
                self.send(PING, ACK, 0, &payload).await.ok();
            }
            _ => {}
        }
        None
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![a, b, c, kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).await
    }
}

/// What SETTINGS say (RFC 9113 section 6.5.1).
fn settings(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n << 8 | u32::from(*byte));
    payload.chunks_exact(6).map(move |s| (u16::from_be_bytes([s[0], s[1]]), number(&s[2..])))
}

/// What a client says of itself at the beginning of a connection: its SETTINGS, and its window for the connection.
#[must_use]
pub fn opening(sent: &[u8]) -> (BTreeMap<u16, u32>, u32) {
    let (mut said, mut window) = (BTreeMap::new(), FIRST_WINDOW);
    let mut rest = sent.strip_prefix(PREFACE).expect("a client begins with the preface");
    while let [a, b, c, kind, flags, _, _, _, stream, after @ ..] = rest {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let Some((payload, next)) = after.split_at_checked(length) else { break };
        match *kind {
            SETTINGS if flags & ACK == 0 => said.extend(settings(payload)),
            WINDOW_UPDATE if *stream == 0 => window += u32::from_be_bytes(payload.try_into().unwrap()),
            _ => {}
        }
        rest = next;
    }
    (said, window)
}

/// Whether a request's head is among the bytes: HTTP/1's empty line, or HEADERS after the preface of HTTP/2.
#[must_use]
pub fn has_request(bytes: &[u8]) -> bool {
    let Some(mut frames) = bytes.strip_prefix(PREFACE) else {
        return !bytes.starts_with(b"PRI") && bytes.windows(4).any(|w| w == b"\r\n\r\n");
    };
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = frames {
        if *kind == HEADERS {
            return true;
        }
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let Some(next) = rest.get(length..) else { return false };
        frames = next;
    }
    false
}

/// The status at the beginning of a header block: from the static table, or three digits as a literal with or without
/// Huffman's code, of which only our own 431 and 501 are known (RFC 7541 appendices A and B).
fn status(block: &[u8]) -> u16 {
    match block {
        [at @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(at - 0x88)],
        [0x08 | 0x18 | 0x48, 3, digits @ ..] => {
            digits[..3].iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'))
        }
        // 5 is 011011, 0 is 00000, 1 is 00001; then ones.
        // 4 is 011010, 3 is 011001.
        [0x08 | 0x18 | 0x48, 0x83, 0b0110_1001, 0b1001_0000, 0b1111_1111, ..] => 431,
        [0x08 | 0x18 | 0x48, 0x82, 0b0110_1100, 0b0000_0001, ..] => 501,
        _ => panic!("not a status of ours: {block:x?}"),
    }
}
