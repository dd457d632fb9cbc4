//! The sizes beyond which a message is refused.

use super::violation::Kind;

/// Every limit of the guard. All are finite; sizes are bytes and include line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request line and fields together, with the empty line that ends them.
    pub head: usize,
    /// The request line.
    pub request_line: usize,
    /// One field line of a head or of trailers.
    pub field_line: usize,
    /// Field lines of a head. hyper's own limit (`max_headers`) must not be lower.
    pub fields: usize,
    /// The extensions of one chunk.
    pub chunk_extension: usize,
    /// The chunk extensions of one body together. hyper fails a body at 16 KiB, so this stays below.
    pub chunk_extensions: usize,
    /// The trailer section with the empty line that ends it. hyper fails at 16 KiB, so this stays below.
    pub trailers: usize,
    /// Field lines of a trailer section.
    pub trailer_fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: 64 * 1024,
            request_line: 16 * 1024,
            field_line: 32 * 1024,
            fields: 100,
            chunk_extension: 256,
            chunk_extensions: 8 * 1024,
            trailers: 16 * 1024 - 1,
            trailer_fields: 50,
        }
    }
}

/// The part of the input that a limit leaves room for. Refused is the first byte beyond, not the last within, so that
/// the verdict does not depend on how the input was split.
pub(super) fn window(rest: &[u8], room: usize, kind: Kind) -> Result<&[u8], Kind> {
    if room == 0 { Err(kind) } else { Ok(&rest[..rest.len().min(room)]) }
}
