//! Classes of bytes, and how far a run of one class reaches.

use super::violation::Kind;

const TOKEN: u8 = 1;
const TARGET: u8 = 2;
const HOST: u8 = 4;

static CLASS: [u8; 256] = classes();

/// Length of the leading run of token bytes (RFC 9110 section 5.6.2).
pub(super) fn token_run(bytes: &[u8]) -> usize {
    run::<TOKEN>(bytes)
}

pub(in crate::http) fn is_token(byte: u8) -> bool {
    is::<TOKEN>(byte)
}

/// Length of the leading run of bytes that a path with its query may have.
pub(super) fn target_run(bytes: &[u8]) -> usize {
    run::<TARGET>(bytes)
}

/// Length of the leading run of bytes that the name of a host may have: the unreserved ones of RFC 3986.
pub(super) fn host_run(bytes: &[u8]) -> usize {
    run::<HOST>(bytes)
}

pub(super) fn is_host(byte: u8) -> bool {
    is::<HOST>(byte)
}

fn is<const CLASSES: u8>(byte: u8) -> bool {
    CLASS[usize::from(byte)] & CLASSES != 0
}

fn run<const CLASSES: u8>(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((four, after)) = rest.split_first_chunk::<4>() {
        if !four.iter().fold(true, |all, byte| all & is::<CLASSES>(*byte)) {
            break;
        }
        rest = after;
    }
    let tail = rest.iter().position(|byte| !is::<CLASSES>(*byte)).unwrap_or(rest.len());
    bytes.len() - rest.len() + tail
}

/// Length of the leading run of bytes that a field value may have: everything but control bytes, and the tab.
///
/// This is where most bytes of a head go, so many are looked at together. A byte of 0x80 or more is fine (obs-text).
pub(super) fn text_run(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    // No branch inside a block: the compiler makes vector instructions of it.
    while let Some((block, after)) = rest.split_first_chunk::<32>() {
        if block.iter().fold(false, |control, byte| control | (*byte < b' ') | (*byte == 0x7f)) {
            break;
        }
        rest = after;
    }
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        let hits = control_bytes(u64::from_le_bytes(*word));
        if hits == 0 {
            rest = after;
            continue;
        }
        rest = &rest[(hits.trailing_zeros() / 8) as usize..];
        if rest[0] != b'\t' {
            return bytes.len() - rest.len();
        }
        rest = &rest[1..];
    }
    let tail = rest.iter().position(|byte| !is_text(*byte)).unwrap_or(rest.len());
    bytes.len() - rest.len() + tail
}

pub(super) fn is_text(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f || byte == b'\t'
}

/// Why a byte is refused where only text may stand. `other` names the rule for a byte that is text, only not here.
pub(super) fn refuse(byte: u8, other: Kind) -> Kind {
    match byte {
        b'\n' => Kind::BareLf,
        byte if is_text(byte) || byte == b'\r' => other,
        _ => Kind::ControlByte,
    }
}

/// The high bit of each byte below 0x20 or equal to 0x7f. Exact up to the lowest hit: borrows only run upwards.
fn control_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES * 0x80;
    let below_space = word.wrapping_sub(ONES * 0x20) & !word;
    let delete = word ^ (ONES * 0x7f);
    let is_delete = delete.wrapping_sub(ONES) & !delete;
    (below_space | is_delete) & HIGH
}

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        let b = byte as u8;
        if b.is_ascii_alphanumeric() || in_set(b, b"!#$%&'*+-.^_`|~") {
            table[byte] |= TOKEN;
        }
        // Not `#` (a fragment is never sent) and not `" < > backtick`: hyper refuses them in a path or in a query.
        if b.is_ascii_graphic() && !in_set(b, b"#\"<>`") {
            table[byte] |= TARGET;
        }
        if b.is_ascii_alphanumeric() || in_set(b, b"-._~") {
            table[byte] |= HOST;
        }
        byte += 1;
    }
    table
}

const fn in_set(byte: u8, set: &[u8]) -> bool {
    let mut at = 0;
    while at < set.len() {
        if set[at] == byte {
            return true;
        }
        at += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{is_text, text_run};

    #[test]
    fn text_ends_at_the_first_control_byte_wherever_it_stands() {
        for byte in 0..=255 {
            for at in 0..44 {
                for len in at + 1..=44 {
                    let mut bytes = vec![b'x'; len];
                    bytes[at] = byte;
                    if let Some(next) = bytes.get_mut(at + 1) {
                        *next = 0x80;
                    }
                    assert_eq!(
                        text_run(&bytes),
                        if is_text(byte) { len } else { at },
                        "{byte:#x} at {at} of {len}"
                    );
                }
            }
        }
    }
}
