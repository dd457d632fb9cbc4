//! Which phases a filter has: a set in sixteen bits.

use std::ops::BitOr;

/// A set of phases.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Phases(u16);

impl Phases {
    /// No phase.
    pub const NONE: Self = Self(0);
    /// `on_request_headers`
    pub const REQUEST_HEADERS: Self = Self(1);
    /// `on_request_body`, only to look.
    pub const REQUEST_BODY: Self = Self(1 << 1);
    /// `on_request_body`, and what it makes of the data is sent on. The length is then not known before the end.
    pub const CHANGES_REQUEST_BODY: Self = Self(1 << 1 | 1 << 2);
    /// `on_request_trailers`
    pub const REQUEST_TRAILERS: Self = Self(1 << 3);
    /// `on_response_headers`
    pub const RESPONSE_HEADERS: Self = Self(1 << 4);
    /// `on_response_body`, only to look.
    pub const RESPONSE_BODY: Self = Self(1 << 5);
    /// `on_response_body`, and what it makes of the data is sent on. The length is then not known before the end.
    pub const CHANGES_RESPONSE_BODY: Self = Self(1 << 5 | 1 << 6);
    /// `on_response_trailers`
    pub const RESPONSE_TRAILERS: Self = Self(1 << 7);
    /// `on_connection`
    pub const CONNECTION: Self = Self(1 << 8);
    /// `on_log`
    pub const LOG: Self = Self(1 << 9);
    /// `on_tick`
    pub const TICK: Self = Self(1 << 10);

    /// Whether all of these are in the set.
    pub const fn has(self, phases: Self) -> bool {
        self.0 & phases.0 == phases.0
    }

    /// Whether one of these is in the set.
    pub const fn has_any(self, phases: Self) -> bool {
        self.0 & phases.0 != 0
    }
}

impl BitOr for Phases {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
