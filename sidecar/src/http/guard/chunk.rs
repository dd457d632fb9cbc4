//! Chunks, RFC 9112 section 7.1, up to the line of the last one; what follows are field lines.

use super::bytes::{is_text, is_token, refuse};
use super::limits::Limits;
use super::violation::Kind;

/// 16 hexadecimal digits are 64 bits.
const SIZE_DIGITS: u8 = 16;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chunks {
    at: At,
    size: u64,
    extension: usize,
    /// All extensions of the body.
    extensions: usize,
}

#[derive(Clone, Copy, Debug, Default)]
enum At {
    /// With the number of digits seen.
    Size(u8),
    ExtensionStart,
    Extension,
    SizeLf,
    /// `size` bytes are to come.
    Data,
    DataCr,
    DataLf,
    #[default]
    Start,
}

impl Chunks {
    /// Takes bytes off the input until the last chunk's line has ended (`true`) or the input has.
    pub(super) fn feed(&mut self, input: &mut &[u8], limits: &Limits) -> Result<bool, Kind> {
        while let Some((&byte, after)) = input.split_first() {
            if let At::Data = self.at {
                self.skip_data(input);
                continue;
            }
            *input = after;
            self.at = match self.at {
                At::Start => self.digit(0, byte)?,
                At::Size(digits) => self.size(digits, byte)?,
                At::ExtensionStart if is_token(byte) => self.extension(byte, limits)?,
                At::ExtensionStart => return Err(refuse(byte, Kind::MalformedChunkExtension)),
                At::Extension => self.extension(byte, limits)?,
                At::SizeLf | At::DataLf if byte != b'\n' => return Err(Kind::BareCr),
                At::SizeLf if self.size == 0 => return Ok(true),
                At::SizeLf => At::Data,
                At::DataCr if byte == b'\r' => At::DataLf,
                At::Data | At::DataCr => return Err(Kind::MalformedChunkEnd),
                At::DataLf => At::Start,
            };
        }
        Ok(false)
    }

    /// Steps over data without a look at it.
    fn skip_data(&mut self, input: &mut &[u8]) {
        let here = usize::try_from(self.size).map_or(input.len(), |size| size.min(input.len()));
        *input = &input[here..];
        self.size -= here as u64;
        if self.size == 0 {
            self.at = At::DataCr;
        }
    }

    fn size(&mut self, digits: u8, byte: u8) -> Result<At, Kind> {
        match byte {
            b'\r' | b';' if i64::try_from(self.size).is_err() => Err(Kind::ChunkSizeOverflow),
            b'\r' => Ok(At::SizeLf),
            b';' => {
                self.extension = 0;
                Ok(At::ExtensionStart)
            }
            byte => self.digit(digits, byte),
        }
    }

    fn digit(&mut self, digits: u8, byte: u8) -> Result<At, Kind> {
        let Some(value) = char::from(byte).to_digit(16) else {
            return Err(refuse(byte, Kind::MalformedChunkSize));
        };
        if digits == SIZE_DIGITS {
            return Err(Kind::MalformedChunkSize);
        }
        let before = if digits == 0 { 0 } else { self.size };
        self.size = before << 4 | u64::from(value);
        Ok(At::Size(digits + 1))
    }

    fn extension(&mut self, byte: u8, limits: &Limits) -> Result<At, Kind> {
        match byte {
            b'\r' => return Ok(At::SizeLf),
            byte if !is_text(byte) => return Err(refuse(byte, Kind::ControlByte)),
            _ => {}
        }
        self.extension += 1;
        self.extensions += 1;
        if self.extension > limits.chunk_extension || self.extensions > limits.chunk_extensions {
            return Err(Kind::ChunkExtensionTooLong);
        }
        Ok(At::Extension)
    }
}

#[cfg(test)]
mod tests {
    use super::Chunks;
    use crate::http::guard::limits::Limits;
    use crate::http::guard::violation::Kind;

    fn read(text: &str) -> Result<usize, Kind> {
        let mut input = text.as_bytes();
        assert!(Chunks::default().feed(&mut input, &Limits::default())?, "{text:?} has not ended");
        Ok(input.len())
    }

    #[test]
    fn ends_with_the_line_of_the_last_chunk() {
        assert_eq!(read("3\r\nabc\r\n0A;x=y z\r\n0123456789\r\n000\r\nrest"), Ok(4));
    }

    #[test]
    fn extensions_are_limited_in_one_chunk_and_in_a_body() {
        let chunk = |len| format!("1;{}\r\na\r\n", "x".repeat(len));
        assert_eq!(read(&format!("{}0\r\n", chunk(256))), Ok(0));
        assert_eq!(read(&chunk(257)), Err(Kind::ChunkExtensionTooLong));
        assert_eq!(read(&format!("{}0\r\n", chunk(256).repeat(32))), Ok(0));
        assert_eq!(read(&chunk(256).repeat(33)), Err(Kind::ChunkExtensionTooLong));
    }
}
