//! Sixteen hexadecimal digits at a time, in one wide word: a trace context is read for every request.

/// Alternating runs of ones and zeros of this many bits; the lowest run is ones.
const fn runs(bits: u32) -> u128 {
    u128::MAX / ((1 << bits) + 1)
}

/// A byte in every byte of a word.
const fn every(byte: u8) -> u128 {
    u128::from_ne_bytes([byte; 16])
}

/// The digits of a number, in lower case.
pub(crate) fn digits(number: u64) -> [u8; 16] {
    let mut nibbles = u128::from(number);
    for bits in [32, 16, 8, 4] {
        nibbles = (nibbles | nibbles << bits) & runs(bits);
    }
    // Ten and more carry into bit 4 when six is added.
    let letters = ((nibbles + every(6)) >> 4) & every(1);
    (nibbles + every(b'0') + letters * u128::from(b'a' - b'0' - 10)).to_be_bytes()
}

/// The number that the digits spell; nonsense if they are none.
pub(crate) fn number(digits: &[u8; 16]) -> u64 {
    let text = u128::from_be_bytes(*digits);
    // Letters have the bit 0x40, and 'a' ends in 1: nine more makes it ten.
    let letters = (text >> 6) & every(1);
    let mut nibbles = (text & every(0x0f)) + (letters << 3) + letters;
    for bits in [4, 8, 16, 32] {
        nibbles = (nibbles | nibbles >> bits) & runs(2 * bits);
    }
    nibbles as u64
}

/// Whether all bytes are digits in lower case. Looks at all of them, for that is quicker than to stop at the first.
pub(crate) fn all_digits<const N: usize>(text: &[u8; N]) -> bool {
    let is_digit = |b: u8| b.wrapping_sub(b'0') < 10 || b.wrapping_sub(b'a') < 6;
    text.iter().fold(true, |all, b| all & is_digit(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for n in [0, 1, 9, 10, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, u64::MAX] {
            assert_eq!(digits(n), format!("{n:016x}").as_bytes());
            assert_eq!(number(&digits(n)), n);
        }
    }

    #[test]
    fn only_lower_case_digits_are_digits() {
        for byte in 0..=u8::MAX {
            for at in [0, 7, 15] {
                let mut text = [b'0'; 16];
                text[at] = byte;
                assert_eq!(all_digits(&text), matches!(byte, b'0'..=b'9' | b'a'..=b'f'), "{byte:#x} at {at}");
            }
        }
    }
}
