//! Why a message was refused.

use std::error::Error;
use std::fmt;

use crate::error::Reason;

/// The rule that a message broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    pub kind: Kind,
}

impl Violation {
    /// The named reason: a head or trailers beyond a limit, or else what is malformed.
    pub fn reason(self) -> Reason {
        match self.kind {
            Kind::RequestLineTooLong
            | Kind::FieldLineTooLong
            | Kind::HeadTooLarge
            | Kind::TooManyFields
            | Kind::TrailersTooLarge
            | Kind::TooManyTrailers => Reason::HeadersTooLarge,
            _ => Reason::MalformedRequest,
        }
    }

    /// The rule's name in logs and metrics. Names stay as they are.
    pub fn name(self) -> &'static str {
        self.kind.words().0
    }

    /// The rule in words, for the person who sent the request.
    pub fn rule(self) -> &'static str {
        self.kind.words().1
    }
}

impl From<Kind> for Violation {
    fn from(kind: Kind) -> Self {
        Self { kind }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.rule())
    }
}

impl Error for Violation {}

/// Declares the kinds, each with its name in logs and its rule in words, so that neither can be forgotten.
macro_rules! kinds {
    ($($kind:ident = $name:literal, $rule:literal;)+) => {
        /// The rules, in the order in which a message meets them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($kind),+ }

        impl Kind {
            fn words(self) -> (&'static str, &'static str) {
                match self { $(Self::$kind => ($name, $rule)),+ }
            }

            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$kind),+];
        }
    };
}

kinds! {
    LeadingEmptyLines = "leading_empty_lines", "at most one empty line may stand before a request";
    MalformedMethod = "malformed_method", "the method must be a token, followed by one space";
    MalformedTarget = "malformed_target", "the request-target must be a path, an http(s) URI, * with OPTIONS, or host:port with CONNECT";
    MalformedVersion = "malformed_version", "the request line must end in one space and HTTP/1.0 or HTTP/1.1";
    RequestLineTooLong = "request_line_too_long", "the request line is too long";
    BareCr = "bare_cr", "a CR must be followed by LF";
    BareLf = "bare_lf", "a line must end in CR LF, not in LF alone";
    ControlByte = "control_byte", "control bytes are not allowed";
    ObsFold = "obs_fold", "a field line must not begin with a space or a tab";
    EmptyFieldName = "empty_field_name", "a field name must not be empty";
    SpaceBeforeColon = "space_before_colon", "no space may stand between a field name and its colon";
    MalformedFieldName = "malformed_field_name", "a field name must be a token, followed by a colon";
    FieldLineTooLong = "field_line_too_long", "a field line is too long";
    TooManyFields = "too_many_fields", "there are too many fields";
    HeadTooLarge = "head_too_large", "the head is too large";
    MalformedContentLength = "malformed_content_length", "Content-Length must be one decimal number below 2^63";
    DuplicateContentLength = "duplicate_content_length", "Content-Length must not be repeated";
    MalformedTransferEncoding = "malformed_transfer_encoding", "the only Transfer-Encoding of a request is chunked";
    DuplicateTransferEncoding = "duplicate_transfer_encoding", "Transfer-Encoding must not be repeated";
    TransferEncodingWithLength = "transfer_encoding_with_length", "Transfer-Encoding and Content-Length exclude each other";
    TransferEncodingInHttp10 = "transfer_encoding_in_http10", "HTTP/1.0 has no Transfer-Encoding";
    MissingHost = "missing_host", "an HTTP/1.1 request must have a Host field";
    DuplicateHost = "duplicate_host", "Host must not be repeated";
    MalformedHost = "malformed_host", "Host must be a name or an address, with or without a port";
    ContentInConnect = "content_in_connect", "a CONNECT request has no content";
    MalformedChunkSize = "malformed_chunk_size", "a chunk size must be 1 to 16 hexadecimal digits, followed by CR LF or an extension";
    ChunkSizeOverflow = "chunk_size_overflow", "a chunk must be smaller than 2^63 bytes";
    MalformedChunkExtension = "malformed_chunk_extension", "a chunk extension must begin with a name";
    ChunkExtensionTooLong = "chunk_extension_too_long", "the chunk extensions are too long";
    MalformedChunkEnd = "malformed_chunk_end", "the data of a chunk must be followed by CR LF";
    ForbiddenTrailer = "forbidden_trailer", "Content-Length, Transfer-Encoding and Host must not stand in trailers";
    TrailersTooLarge = "trailers_too_large", "the trailers are too large";
    TooManyTrailers = "too_many_trailers", "there are too many trailers";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Kind, Violation};

    #[test]
    fn every_kind_has_a_snake_case_name_of_its_own() {
        let names: HashSet<_> = Kind::ALL.iter().map(|kind| Violation::from(*kind).name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        for name in names {
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{name}"
            );
        }
    }

    #[test]
    fn sizes_of_heads_are_431_and_the_rest_is_400() {
        let status = |kind: Kind| Violation::from(kind).reason().status().as_u16();
        assert_eq!(status(Kind::HeadTooLarge), 431);
        assert_eq!(status(Kind::TooManyTrailers), 431);
        assert_eq!(status(Kind::ChunkExtensionTooLong), 400);
        assert_eq!(status(Kind::BareLf), 400);
    }
}
