//! The request line, RFC 9112 section 3: method, one space, request-target, one space, version, CRLF.

use super::authority::Authority;
use super::bytes::{is_token, refuse, target_run, token_run};
use super::violation::Kind;
use super::word::Word;

const VERSION: &[u8] = b"HTTP/1.";

/// How nearly every request line ends.
const END: &[u8] = b"HTTP/1.1\r\n";

#[derive(Clone, Debug, Default)]
pub(super) struct RequestLine {
    at: At,
    /// The method, then the scheme of an absolute target: only while one is split between two reads or is looked at.
    word: Word,
    form: Form,
    http10: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum At {
    #[default]
    Start,
    Method,
    Target,
    Path,
    Asterisk,
    Scheme,
    Authority(Authority),
    Version(u8),
    Cr,
    Lf,
}

/// Which forms of request-target the method allows beside a path and an absolute URI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Plain,
    Asterisk,
    Authority,
}

impl RequestLine {
    /// Takes bytes off the input until the line has ended (`true`) or the input has.
    pub(super) fn feed(&mut self, input: &mut &[u8]) -> Result<bool, Kind> {
        while let Some((&byte, after)) = input.split_first() {
            let used = match self.at {
                At::Method => self.method(input)?,
                At::Path => self.path(input)?,
                At::Version(0) if input.starts_with(END) => {
                    self.at = At::Start;
                    *input = &input[END.len()..];
                    return Ok(true);
                }
                _ => {
                    self.push(byte)?;
                    if matches!(self.at, At::Start) {
                        *input = after;
                        return Ok(true);
                    }
                    1
                }
            };
            *input = &input[used..];
        }
        Ok(false)
    }

    pub(super) fn is_http10(&self) -> bool {
        self.http10
    }

    pub(super) fn is_connect(&self) -> bool {
        self.form == Form::Authority
    }

    fn method(&mut self, input: &[u8]) -> Result<usize, Kind> {
        let run = token_run(input);
        self.word.push(&input[..run]);
        let Some(&end) = input.get(run) else { return Ok(run) };
        if end != b' ' {
            return Err(refuse(end, Kind::MalformedMethod));
        }
        self.form = match self.word.as_slice() {
            b"CONNECT" => Form::Authority,
            b"OPTIONS" => Form::Asterisk,
            _ => Form::Plain,
        };
        self.at = At::Target;
        Ok(run + 1)
    }

    fn path(&mut self, input: &[u8]) -> Result<usize, Kind> {
        let run = target_run(input);
        let Some(&end) = input.get(run) else { return Ok(run) };
        if end != b' ' {
            return Err(refuse(end, Kind::MalformedTarget));
        }
        self.at = At::Version(0);
        Ok(run + 1)
    }

    /// One byte of what is not a run. Back at `Start` when it ended the line.
    fn push(&mut self, byte: u8) -> Result<(), Kind> {
        self.at = match self.at {
            At::Start | At::Method if is_token(byte) => {
                *self = Self::default();
                self.word.push(&[byte]);
                At::Method
            }
            At::Start | At::Method => return Err(first_byte(byte)),
            At::Target => self.target(byte)?,
            At::Scheme => self.scheme(byte)?,
            At::Authority(authority) => self.authority(authority, byte)?,
            At::Asterisk if byte == b' ' => At::Version(0),
            At::Asterisk | At::Path => return Err(refuse(byte, Kind::MalformedTarget)),
            At::Version(at) => self.version(at, byte)?,
            At::Cr if byte == b'\r' => At::Lf,
            At::Cr => return Err(refuse(byte, Kind::MalformedVersion)),
            At::Lf if byte == b'\n' => At::Start,
            At::Lf => return Err(Kind::BareCr),
        };
        Ok(())
    }

    fn target(&mut self, byte: u8) -> Result<At, Kind> {
        self.word = Word::default();
        match (self.form, byte) {
            (Form::Authority, byte) => self.authority(Authority::default(), byte),
            (_, b'/') => Ok(At::Path),
            (Form::Asterisk, b'*') => Ok(At::Asterisk),
            (_, byte) => self.scheme(byte),
        }
    }

    fn scheme(&mut self, byte: u8) -> Result<At, Kind> {
        self.word.push(&[byte.to_ascii_lowercase()]);
        match self.word.as_slice() {
            b"http://" | b"https://" => Ok(At::Authority(Authority::default())),
            seen if b"http://".starts_with(seen) || b"https://".starts_with(seen) => Ok(At::Scheme),
            _ => Err(refuse(byte, Kind::MalformedTarget)),
        }
    }

    fn authority(&self, mut authority: Authority, byte: u8) -> Result<At, Kind> {
        let absolute = self.form != Form::Authority;
        match byte {
            b' ' if absolute && authority.is_complete() => Ok(At::Version(0)),
            b' ' if !absolute && authority.has_port() => Ok(At::Version(0)),
            b'/' | b'?' if absolute && authority.is_complete() => Ok(At::Path),
            byte if authority.push(byte) => Ok(At::Authority(authority)),
            byte => Err(refuse(byte, Kind::MalformedTarget)),
        }
    }

    fn version(&mut self, at: u8, byte: u8) -> Result<At, Kind> {
        match VERSION.get(usize::from(at)) {
            Some(&expected) if expected == byte => Ok(At::Version(at + 1)),
            None if matches!(byte, b'0' | b'1') => {
                self.http10 = byte == b'0';
                Ok(At::Cr)
            }
            _ => Err(refuse(byte, Kind::MalformedVersion)),
        }
    }
}

/// The scanner has tolerated one empty line already: a CR here begins the second one.
fn first_byte(byte: u8) -> Kind {
    match byte {
        b'\r' => Kind::LeadingEmptyLines,
        byte => refuse(byte, Kind::MalformedMethod),
    }
}

#[cfg(test)]
mod tests {
    use super::RequestLine;
    use crate::http::guard::violation::Kind;

    fn read(line: &str) -> Result<RequestLine, Kind> {
        let mut machine = RequestLine::default();
        assert!(machine.feed(&mut line.as_bytes())?, "{line:?} has not ended");
        Ok(machine)
    }

    #[test]
    fn tells_the_version_and_a_connect() {
        assert!(read("GET / HTTP/1.0\r\n").unwrap().is_http10());
        assert!(!read("GET / HTTP/1.1\r\n").unwrap().is_http10());
        assert!(read("CONNECT a:443 HTTP/1.1\r\n").unwrap().is_connect());
        assert!(!read("CONNECTX /a HTTP/1.1\r\n").unwrap().is_connect());
    }

    #[test]
    fn a_machine_is_fit_for_the_next_line_once_one_has_ended() {
        let mut machine = read("CONNECT a:443 HTTP/1.0\r\n").unwrap();
        assert!(machine.feed(&mut &b"GET / HTTP/1.1\r\n"[..]).unwrap());
        assert!(!machine.is_connect() && !machine.is_http10());
    }
}
