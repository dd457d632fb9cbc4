//! The values of fields that decide about framing, byte by byte.

use super::authority::Authority;
use super::violation::Kind;

/// What the fields of a head said about framing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) host: bool,
    pub(super) upgrade: bool,
}

/// The value being read. What is not `Plain` is read byte by byte, and may be padded with spaces, not with tabs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Plain,
    Upgrade,
    /// With the number of digits and the number.
    Length(Padding, u8, u64),
    /// With the number of bytes of `chunked` that were met.
    Encoding(Padding, u8),
    Host(Padding, Authority),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    Before,
    Inside,
    After,
}

impl Padding {
    /// Whether the byte belongs to the value itself; `None` where nothing but padding may follow.
    fn takes(&mut self, byte: u8) -> Option<bool> {
        *self = match (*self, byte) {
            (Self::Before, b' ') => Self::Before,
            (_, b' ') => Self::After,
            (Self::After, _) => return None,
            _ => Self::Inside,
        };
        Some(*self == Self::Inside)
    }
}

const CHUNKED: &[u8] = b"chunked";

/// 2^63 - 1 has nineteen digits.
const LENGTH_DIGITS: u8 = 19;

impl Value {
    pub(super) fn push(&mut self, byte: u8) -> Result<(), Kind> {
        match self {
            Self::Plain | Self::Upgrade => Ok(()),
            Self::Length(padding, digits, length) => match padding.takes(byte) {
                Some(false) => Ok(()),
                Some(true) if byte.is_ascii_digit() && *digits < LENGTH_DIGITS => {
                    *digits += 1;
                    *length = *length * 10 + u64::from(byte - b'0');
                    Ok(())
                }
                _ => Err(Kind::MalformedContentLength),
            },
            Self::Encoding(padding, met) => match padding.takes(byte) {
                Some(false) => Ok(()),
                Some(true) if CHUNKED.get(usize::from(*met)) == Some(&byte.to_ascii_lowercase()) => {
                    *met += 1;
                    Ok(())
                }
                _ => Err(Kind::MalformedTransferEncoding),
            },
            Self::Host(padding, authority) => match padding.takes(byte) {
                Some(false) => Ok(()),
                Some(true) if authority.push(byte) => Ok(()),
                _ => Err(Kind::MalformedHost),
            },
        }
    }

    pub(super) fn end(&self, seen: &mut Seen) -> Result<(), Kind> {
        match *self {
            Self::Plain | Self::Upgrade => {}
            Self::Length(_, digits, length) => {
                if digits == 0 || i64::try_from(length).is_err() {
                    return Err(Kind::MalformedContentLength);
                }
                seen.length = Some(length);
            }
            Self::Encoding(_, met) => {
                if usize::from(met) != CHUNKED.len() {
                    return Err(Kind::MalformedTransferEncoding);
                }
                seen.chunked = true;
            }
            Self::Host(_, authority) => {
                if !authority.is_empty() && !authority.is_complete() {
                    return Err(Kind::MalformedHost);
                }
                seen.host = true;
            }
        }
        Ok(())
    }
}
