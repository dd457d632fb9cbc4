//! Field lines, RFC 9112 section 5, of a head and of trailers.

use super::bytes::{is_text, is_token, refuse, text_run, token_run};
use super::limits::window;
use super::value::{Padding, Seen, Value};
use super::violation::Kind;
use super::word::Word;

#[derive(Clone, Debug)]
pub(super) struct Fields {
    section: Section,
    at: At,
    line_size: usize,
    word: Word,
    value: Value,
    count: usize,
    seen: Seen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Head { http10: bool },
    Trailers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndOf {
    Input,
    Line,
    Section,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    LineStart,
    Name,
    Value,
    Lf,
    SectionLf,
}

impl Fields {
    pub(super) fn new(section: Section) -> Self {
        Self {
            section,
            at: At::LineStart,
            line_size: 0,
            word: Word::default(),
            value: Value::Plain,
            count: 0,
            seen: Seen::default(),
        }
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen
    }

    /// Takes bytes off the input until the section has ended (`true`) or the input has.
    pub(super) fn feed(
        &mut self,
        input: &mut &[u8],
        max_line: usize,
        max_count: usize,
    ) -> Result<bool, Kind> {
        loop {
            while self.at == At::LineStart
                && self.count < max_count
                && let Some(line) = plain_line(&input[..input.len().min(max_line)])
            {
                self.count += 1;
                *input = &input[line..];
            }
            if input.is_empty() {
                return Ok(false);
            }
            let mut window = window(input, max_line - self.line_size, Kind::FieldLineTooLong)?;
            let before = window.len();
            let end = self.line(&mut window, max_count)?;
            let used = before - window.len();
            self.line_size += used;
            *input = &input[used..];
            match end {
                EndOf::Section => return Ok(true),
                EndOf::Line => self.line_size = 0,
                EndOf::Input => {}
            }
        }
    }

    /// Takes bytes off the input up to the end of a line, of the section, or of the input.
    fn line(&mut self, input: &mut &[u8], max_count: usize) -> Result<EndOf, Kind> {
        while let Some((&byte, after)) = input.split_first() {
            match self.at {
                At::LineStart => self.line_start(byte, max_count)?,
                At::Name => {
                    let used = self.name(input)?;
                    *input = &input[used..];
                    continue;
                }
                At::Value => {
                    let used = self.value(input)?;
                    *input = &input[used..];
                    continue;
                }
                At::Lf | At::SectionLf if byte != b'\n' => return Err(Kind::BareCr),
                At::Lf => {
                    *input = after;
                    self.at = At::LineStart;
                    return Ok(EndOf::Line);
                }
                At::SectionLf => {
                    *input = after;
                    return Ok(EndOf::Section);
                }
            }
            if self.at == At::SectionLf {
                *input = after;
            }
        }
        Ok(EndOf::Input)
    }

    /// Looks at the first byte of a line. Only the CR of the empty line is taken, a name begins with this very byte.
    fn line_start(&mut self, byte: u8, max_count: usize) -> Result<(), Kind> {
        self.at = match byte {
            b'\r' => At::SectionLf,
            b' ' | b'\t' => return Err(Kind::ObsFold),
            b':' => return Err(Kind::EmptyFieldName),
            byte if !is_token(byte) => return Err(refuse(byte, Kind::MalformedFieldName)),
            _ if self.count == max_count => return Err(self.too_many()),
            _ => {
                self.count += 1;
                self.word = Word::default();
                At::Name
            }
        };
        Ok(())
    }

    fn name(&mut self, input: &[u8]) -> Result<usize, Kind> {
        let run = token_run(input);
        let Some(&end) = input.get(run) else {
            self.word.push(&input[..run]);
            return Ok(run);
        };
        match end {
            b':' => {}
            b' ' | b'\t' => return Err(Kind::SpaceBeforeColon),
            end => return Err(refuse(end, Kind::MalformedFieldName)),
        }
        self.value = if self.word.is_empty() {
            self.classify(&input[..run])?
        } else {
            self.word.push(&input[..run]);
            let word = self.word;
            self.classify(word.as_slice())?
        };
        self.at = At::Value;
        Ok(run + 1)
    }

    fn value(&mut self, input: &[u8]) -> Result<usize, Kind> {
        let run = match &mut self.value {
            Value::Plain => text_run(input),
            Value::Host(Padding::Inside, authority) => authority.take_name(input),
            _ => 0,
        };
        let Some(&byte) = input.get(run) else { return Ok(run) };
        if byte == b'\r' {
            self.value.end(&mut self.seen)?;
            self.at = At::Lf;
        } else if is_text(byte) {
            self.value.push(byte)?;
        } else {
            return Err(refuse(byte, Kind::ControlByte));
        }
        Ok(run + 1)
    }

    /// Which value follows a name; and whether that name may stand here at all.
    fn classify(&mut self, name: &[u8]) -> Result<Value, Kind> {
        let value = match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => Value::Host(Padding::Before, Default::default()),
            7 if name.eq_ignore_ascii_case(b"upgrade") => Value::Upgrade,
            14 if name.eq_ignore_ascii_case(b"content-length") => Value::Length(Padding::Before, 0, 0),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => Value::Encoding(Padding::Before, 0),
            _ => return Ok(Value::Plain),
        };
        match (self.section, value) {
            (_, Value::Upgrade) => {
                self.seen.upgrade = true;
                Ok(Value::Plain)
            }
            (Section::Trailers, _) => Err(Kind::ForbiddenTrailer),
            (_, Value::Host(..)) if self.seen.host => Err(Kind::DuplicateHost),
            (_, Value::Length(..)) if self.seen.length.is_some() => Err(Kind::DuplicateContentLength),
            (_, Value::Length(..)) if self.seen.chunked => Err(Kind::TransferEncodingWithLength),
            (Section::Head { http10: true }, Value::Encoding(..)) => Err(Kind::TransferEncodingInHttp10),
            (_, Value::Encoding(..)) if self.seen.chunked => Err(Kind::DuplicateTransferEncoding),
            (_, Value::Encoding(..)) if self.seen.length.is_some() => Err(Kind::TransferEncodingWithLength),
            _ => Ok(value),
        }
    }

    fn too_many(&self) -> Kind {
        match self.section {
            Section::Head { .. } => Kind::TooManyFields,
            Section::Trailers => Kind::TooManyTrailers,
        }
    }
}

/// The length of a line that lies in the input whole, breaks no rule, and has a name that `classify` cannot know.
/// Most lines are such; of all others, and of whatever is wrong, the state machine judges.
fn plain_line(input: &[u8]) -> Option<usize> {
    let name = token_run(input);
    let initial = input.first()?.to_ascii_lowercase();
    let known = matches!((name, initial), (4, b'h') | (7, b'u') | (14, b'c') | (17, b't'));
    if known || name == 0 || input.get(name) != Some(&b':') {
        return None;
    }
    let end = name + 1 + text_run(&input[name + 1..]);
    input[end..].starts_with(b"\r\n").then_some(end + 2)
}

#[cfg(test)]
mod tests {
    use super::{Fields, Section, Seen};
    use crate::http::guard::violation::Kind;

    fn read(text: &str) -> Result<Seen, Kind> {
        let mut fields = Fields::new(Section::Head { http10: false });
        assert!(fields.feed(&mut text.as_bytes(), 100, 10)?, "{text:?} has not ended");
        Ok(fields.seen())
    }

    #[test]
    fn collects_what_decides_about_framing() {
        let seen = read("hOsT: a\r\nUpgrade: x\r\nCONTENT-length:  007 \r\n\r\n").unwrap();
        assert_eq!((seen.length, seen.chunked, seen.host, seen.upgrade), (Some(7), false, true, true));
        assert!(read("Transfer-Encoding: cHunked\r\n\r\n").unwrap().chunked);
    }

    #[test]
    fn the_largest_length_is_that_of_a_signed_number() {
        assert_eq!(
            read("Content-Length: 9223372036854775807\r\n\r\n").unwrap().length,
            Some(i64::MAX as u64)
        );
        for length in ["9223372036854775808", "00000000000000000001", "-1", "+1", "1,1", "0x1", "1\t", ""] {
            let error = read(&format!("Content-Length: {length}\r\n\r\n")).err();
            assert_eq!(error, Some(Kind::MalformedContentLength), "{length:?}");
        }
    }
}
