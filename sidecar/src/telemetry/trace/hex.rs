//! Eight hexadecimal digits at a time, in one register: a trace context is read and written for every request.

/// Each byte of the pattern, in every byte of a word.
const fn every(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The digits of a number, in lower case.
pub(crate) fn digits(number: u32) -> [u8; 8] {
    let mut nibbles = u64::from(number);
    nibbles = (nibbles | nibbles << 16) & 0x0000_ffff_0000_ffff;
    nibbles = (nibbles | nibbles << 8) & 0x00ff_00ff_00ff_00ff;
    nibbles = (nibbles | nibbles << 4) & every(0x0f);
    to_ascii(nibbles).to_be_bytes()
}

/// The number that eight digits in lower case spell; `None`: they are something else.
pub(crate) fn number(digits: [u8; 8]) -> Option<u32> {
    let text = u64::from_be_bytes(digits);
    // Letters have the bit 0x40, and 'a' ends in 1: nine more makes it ten.
    let letters = (text >> 6) & every(1);
    let mut nibbles = (text & every(0x0f)) + letters * 9;
    // Written again it must be the same, or it was upper case, or no digit at all.
    if nibbles & every(0xf0) != 0 || to_ascii(nibbles) != text {
        return None;
    }
    nibbles = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
    nibbles = (nibbles | nibbles >> 8) & 0x0000_ffff_0000_ffff;
    Some((nibbles | nibbles >> 16) as u32)
}

/// One nibble in each byte to its digit: ten and more carry into bit 4 when six is added.
const fn to_ascii(nibbles: u64) -> u64 {
    let letters = ((nibbles + every(6)) >> 4) & every(1);
    nibbles + every(b'0') + letters * (b'a' - b'0' - 10) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for n in [0, 1, 9, 10, 0x0123_4567, 0x89ab_cdef, u32::MAX] {
            assert_eq!(digits(n), format!("{n:08x}").as_bytes());
            assert_eq!(number(digits(n)), Some(n));
        }
    }

    #[test]
    fn every_byte_but_a_lower_case_digit_is_refused_anywhere() {
        for byte in 0..=u8::MAX {
            let is_digit = matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            for at in 0..8 {
                let mut text = *b"09afe5c1";
                text[at] = byte;
                assert_eq!(number(text).is_some(), is_digit, "{byte:#x} at {at}");
            }
        }
    }
}
