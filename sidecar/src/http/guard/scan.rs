//! The state machine over a connection's bytes: head, body, next head.
//!
//! It keeps no bytes, and where the input is split makes no difference to what it finds. It does not decode either: it
//! only knows where messages begin and end, and that both hyper and the letter of RFC 9112 see the same ends.

use super::chunk::Chunks;
use super::fields::{Fields, Section};
use super::limits::{Limits, window};
use super::line::RequestLine;
use super::violation::{Kind, Violation};

#[derive(Debug)]
pub struct Scanner {
    limits: Limits,
    state: State,
    line: RequestLine,
    fields: Fields,
    chunks: Chunks,
    /// Bytes of the head or trailers so far.
    section_size: usize,
    /// The message asked for another protocol.
    switches: bool,
    heads: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Start,
    EmptyLineLf,
    RequestLine,
    Head,
    /// Of a body with a Content-Length, this much is to come.
    Length(u64),
    Chunks,
    Trailers,
    Held,
    PassThrough,
    Refused(Violation),
}

/// A message was refused. The scanner stays refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub violation: Violation,
    /// So many leading bytes of the input belong to messages before the refused one, and may be passed on.
    pub keep: usize,
    /// The head of the refused message was passed on by an earlier call: the violation lies in its body.
    pub head_passed: bool,
}

impl Scanner {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Start,
            line: RequestLine::default(),
            fields: Fields::new(Section::Trailers),
            chunks: Chunks::default(),
            section_size: 0,
            switches: false,
            heads: 0,
        }
    }

    /// Looks at the next bytes of the connection, and tells how many of them may be passed on: all of them, unless the
    /// scanner is held.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<usize, Refused> {
        let began_in_body = self.in_body();
        let mut message_start = None;
        let mut rest = bytes;
        while !rest.is_empty() {
            if let State::Start = self.state {
                message_start = Some(bytes.len() - rest.len());
            }
            if let State::Held = self.state {
                break;
            }
            if let Err(kind) = self.step(&mut rest) {
                let head_passed = began_in_body && message_start.is_none();
                return Err(self.refuse(kind, message_start.unwrap_or(0), head_passed));
            }
        }
        Ok(bytes.len() - rest.len())
    }

    /// After a CONNECT, or a request with an Upgrade field, nobody but the owner can know in which protocol the next
    /// bytes are. The scanner takes none until `resume` or `pass_through`.
    pub fn is_held(&self) -> bool {
        matches!(self.state, State::Held)
    }

    /// The switch of protocols was declined: HTTP goes on.
    pub fn resume(&mut self) {
        if self.is_held() {
            self.state = State::Start;
        }
    }

    /// The switch of protocols was accepted: from here on no byte is looked at.
    pub fn pass_through(&mut self) {
        self.state = State::PassThrough;
    }

    /// Heads that were passed on to their end.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether the bytes so far end where a message does.
    pub fn is_between_messages(&self) -> bool {
        matches!(self.state, State::Start | State::Held)
    }

    /// The number of the head whose first byte has come and whose last has not.
    pub fn head_begun(&self) -> Option<u64> {
        matches!(self.state, State::EmptyLineLf | State::RequestLine | State::Head).then_some(self.heads)
    }

    fn in_body(&self) -> bool {
        matches!(self.state, State::Length(_) | State::Chunks | State::Trailers)
    }

    fn refuse(&mut self, kind: Kind, keep: usize, head_passed: bool) -> Refused {
        if self.in_body() && !head_passed {
            self.heads -= 1;
        }
        let violation = Violation::from(kind);
        self.state = State::Refused(violation);
        Refused { violation, keep, head_passed }
    }

    /// Takes at least one byte off the input, or refuses.
    fn step(&mut self, rest: &mut &[u8]) -> Result<(), Kind> {
        match self.state {
            State::Start => self.start(rest),
            State::EmptyLineLf => {
                if rest[0] != b'\n' {
                    return Err(Kind::BareCr);
                }
                *rest = &rest[1..];
                self.state = State::RequestLine;
            }
            State::RequestLine => self.request_line(rest)?,
            State::Head => self.head(rest)?,
            State::Length(length) => {
                let here = usize::try_from(length).map_or(rest.len(), |length| length.min(rest.len()));
                *rest = &rest[here..];
                self.body(length - here as u64);
            }
            State::Chunks => {
                if self.chunks.feed(rest, &self.limits)? {
                    self.fields = Fields::new(Section::Trailers);
                    self.section_size = 0;
                    self.state = State::Trailers;
                }
            }
            State::Trailers => self.trailers(rest)?,
            State::Held | State::PassThrough => *rest = &[],
            State::Refused(violation) => return Err(violation.kind),
        }
        Ok(())
    }

    /// Between messages. A request line's first byte is left to the request line.
    fn start(&mut self, rest: &mut &[u8]) {
        self.section_size = 0;
        if rest[0] == b'\r' {
            *rest = &rest[1..];
            self.state = State::EmptyLineLf;
        } else {
            self.state = State::RequestLine;
        }
    }

    fn request_line(&mut self, rest: &mut &[u8]) -> Result<(), Kind> {
        let room = self.limits.request_line.min(self.limits.head) - self.section_size;
        let mut window = window(rest, room, Kind::RequestLineTooLong)?;
        let before = window.len();
        let ended = self.line.feed(&mut window)?;
        self.take(rest, before - window.len());
        if ended {
            self.fields = Fields::new(Section::Head { http10: self.line.is_http10() });
            self.state = State::Head;
        }
        Ok(())
    }

    fn head(&mut self, rest: &mut &[u8]) -> Result<(), Kind> {
        if self.fields(rest, self.limits.head, self.limits.fields, Kind::HeadTooLarge)? {
            self.end_of_head()?;
        }
        Ok(())
    }

    fn trailers(&mut self, rest: &mut &[u8]) -> Result<(), Kind> {
        if self.fields(rest, self.limits.trailers, self.limits.trailer_fields, Kind::TrailersTooLarge)? {
            self.body(0);
        }
        Ok(())
    }

    fn fields(&mut self, rest: &mut &[u8], size: usize, count: usize, kind: Kind) -> Result<bool, Kind> {
        let mut window = window(rest, size.saturating_sub(self.section_size), kind)?;
        let before = window.len();
        let ended = self.fields.feed(&mut window, self.limits.field_line, count)?;
        self.take(rest, before - window.len());
        Ok(ended)
    }

    fn take(&mut self, rest: &mut &[u8], used: usize) {
        *rest = &rest[used..];
        self.section_size += used;
    }

    fn end_of_head(&mut self) -> Result<(), Kind> {
        let seen = self.fields.seen();
        let connect = self.line.is_connect();
        if !seen.host && !self.line.is_http10() {
            return Err(Kind::MissingHost);
        }
        if connect && (seen.chunked || seen.length.is_some_and(|length| length > 0)) {
            return Err(Kind::ContentInConnect);
        }
        self.heads += 1;
        self.switches = connect || seen.upgrade && !self.line.is_http10();
        if seen.chunked {
            self.chunks = Chunks::default();
            self.state = State::Chunks;
        } else {
            self.body(seen.length.unwrap_or(0));
        }
        Ok(())
    }

    /// Inside a body of known length, with so much of it to come; or at the end of a message.
    fn body(&mut self, length: u64) {
        self.state = match length {
            0 if self.switches => State::Held,
            0 => State::Start,
            length => State::Length(length),
        };
    }
}
