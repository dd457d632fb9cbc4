//! What becomes of the identity of the workload.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// What the control plane is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IdentityRequest {
    /// A certificate for a token.
    Join,
    /// The next certificate by the one before.
    Renew,
}

/// Why there was no certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IdentityFailure {
    /// The file of the token is missing, unreadable or empty.
    NoToken,
    /// The token is not known, has ended, or was used by another key.
    TokenRefused,
    /// The certificate that we have is not taken.
    CertificateRefused,
    /// The token, or the certificate, is for another identity.
    IdentityRefused,
    /// Our signing request could not be made or was not understood.
    BadRequest,
    /// Whoever answered is not the control plane that is pinned.
    Untrusted,
    /// A certificate is not valid at our time.
    Clock,
    /// Nobody answered.
    Unreachable,
    /// The control plane cannot now.
    Unavailable,
    /// What was given is no identity, or another one.
    BadAnswer,
}

/// The state of an identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum IdentityState {
    /// The workload is to have none.
    None,
    /// It is to be had from the control plane, and was not yet.
    Joining,
    /// There is one that holds.
    Valid,
    /// There is one, and it has ended.
    Expired,
}

/// The identity's counts and times.
#[derive(Debug, Default)]
pub struct IdentityMetrics {
    joins: AtomicBool,
    /// In seconds since 1970; 0: there was none.
    ends: AtomicI64,
    roots: AtomicU64,
    /// By request: how often it succeeded.
    given: [AtomicU64; 2],
    failed: [[AtomicU64; IdentityFailure::ALL.len()]; 2],
    store_failures: AtomicU64,
}

impl IdentityRequest {
    /// Both, in the order of the counters.
    pub(crate) const ALL: [Self; 2] = [Self::Join, Self::Renew];

    /// The label's value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Renew => "renew",
        }
    }
}

impl IdentityFailure {
    /// Every reason, in the order of the counters.
    pub(crate) const ALL: [Self; 10] = [
        Self::NoToken,
        Self::TokenRefused,
        Self::CertificateRefused,
        Self::IdentityRefused,
        Self::BadRequest,
        Self::Untrusted,
        Self::Clock,
        Self::Unreachable,
        Self::Unavailable,
        Self::BadAnswer,
    ];

    /// The label's value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::TokenRefused => "token_refused",
            Self::CertificateRefused => "certificate_refused",
            Self::IdentityRefused => "identity_refused",
            Self::BadRequest => "bad_request",
            Self::Untrusted => "untrusted",
            Self::Clock => "clock",
            Self::Unreachable => "unreachable",
            Self::Unavailable => "unavailable",
            Self::BadAnswer => "bad_answer",
        }
    }
}

impl IdentityState {
    /// Every state.
    pub(crate) const ALL: [Self; 4] = [Self::None, Self::Joining, Self::Valid, Self::Expired];

    /// The label's value.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Joining => "joining",
            Self::Valid => "valid",
            Self::Expired => "expired",
        }
    }
}

impl IdentityMetrics {
    /// The identity is to be had from the control plane.
    pub fn joins(&self) {
        self.joins.store(true, Ordering::Relaxed);
    }

    /// There is an identity, which ends at this second since 1970, with so many roots.
    pub fn in_use(&self, ends: i64, roots: usize) {
        self.ends.store(ends, Ordering::Relaxed);
        self.roots.store(roots as u64, Ordering::Relaxed);
    }

    /// Counts what became of a request.
    pub fn asked(&self, request: IdentityRequest, result: Result<(), IdentityFailure>) {
        let counter = match result {
            Ok(()) => &self.given[request as usize],
            Err(failure) => &self.failed[request as usize][failure as usize],
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an identity that could not be kept on disk, or a kept one that could not be read.
    pub fn store_failed(&self) {
        self.store_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// The state at this second since 1970.
    pub(crate) fn state(&self, now: i64) -> IdentityState {
        match self.ends() {
            0 if self.joins.load(Ordering::Relaxed) => IdentityState::Joining,
            0 => IdentityState::None,
            ends if now < ends => IdentityState::Valid,
            _ => IdentityState::Expired,
        }
    }

    pub(crate) fn ends(&self) -> i64 {
        self.ends.load(Ordering::Relaxed)
    }

    pub(crate) fn roots(&self) -> u64 {
        self.roots.load(Ordering::Relaxed)
    }

    pub(crate) fn given(&self, request: IdentityRequest) -> u64 {
        self.given[request as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn failed(&self, request: IdentityRequest, why: IdentityFailure) -> u64 {
        self.failed[request as usize][why as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn store_failures(&self) -> u64 {
        self.store_failures.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_follows_the_clock() {
        let identity = IdentityMetrics::default();
        assert_eq!(identity.state(100), IdentityState::None);
        identity.joins();
        assert_eq!(identity.state(100), IdentityState::Joining);
        identity.in_use(101, 1);
        assert_eq!(
            (identity.state(100), identity.state(101)),
            (IdentityState::Valid, IdentityState::Expired)
        );
    }

    #[test]
    fn a_request_is_counted_by_what_became_of_it() {
        let identity = IdentityMetrics::default();
        identity.asked(IdentityRequest::Join, Err(IdentityFailure::BadAnswer));
        identity.asked(IdentityRequest::Join, Ok(()));
        identity.asked(IdentityRequest::Renew, Ok(()));
        let failed = |why| identity.failed(IdentityRequest::Join, why);
        assert_eq!(IdentityFailure::ALL.map(failed), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(IdentityRequest::ALL.map(|request| identity.given(request)), [1, 1]);
    }
}
