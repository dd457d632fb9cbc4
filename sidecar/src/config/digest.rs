//! A checksum of content: it tells two apart, and finds what is torn. It is no defence against who means harm.

/// FNV-1a of 64 bits (RFC 9923).
pub(crate) fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
