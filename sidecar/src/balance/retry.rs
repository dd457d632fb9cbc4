//! Whether a request may be sent a second time, as far as the request itself is concerned.

use std::time::Duration;

use http::{Method, StatusCode};

use super::Draws;
use crate::{
    config::snapshot::RetryPolicy,
    error::{Failure, Reached, Reason},
};

/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How an attempt went wrong.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'o> {
    /// No answer.
    Failed(&'o Failure),
    /// An answer of this status.
    Status(StatusCode),
}

/// What is tried again.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// Attempts made so far, the failed one included.
    pub made: u32,
    /// Whether the whole body can be sent again: there is none, none of it was read, or it was kept.
    pub replayable: bool,
}

/// Whether the request may be tried again, and how long to wait before a try in the *same* region: at least the
/// policy's back-off, doubled each time, with as much again by chance. A try in another region waits for nothing.
///
/// What no application can have seen is tried again whatever the method; what one may have seen, and what one has
/// answered, only if the method is idempotent (RFC 9110 section 9.2.2).
pub fn may_retry(
    policy: &RetryPolicy,
    outcome: Outcome<'_>,
    attempt: Attempt<'_>,
    draw: u64,
) -> Option<Duration> {
    if attempt.made > policy.attempts || !attempt.replayable {
        return None;
    }
    let allowed = match outcome {
        Outcome::Status(status) => policy.codes.contains(&status) && attempt.method.is_idempotent(),
        Outcome::Failed(failure) => {
            elsewhere_may_help(failure.reason)
                && (failure.reached == Reached::No || attempt.method.is_idempotent())
        }
    };
    allowed.then(|| wait(policy.backoff, attempt.made, draw))
}

fn wait(least: Duration, made: u32, draw: u64) -> Duration {
    let doubled = least.saturating_mul(1_u32.checked_shl(made.saturating_sub(1)).unwrap_or(u32::MAX));
    let doubled = doubled.min(LONGEST_WAIT);
    (doubled + doubled.mul_f64(Draws::new(draw).unit())).min(LONGEST_WAIT)
}

/// Whether another endpoint may do better. Not where policy, the caller or we ourselves said no.
const fn elsewhere_may_help(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ConnectTimeout
            | Reason::ConnectFailed
            | Reason::TlsFailed
            | Reason::IdentityMismatch
            | Reason::UpstreamRefused
            | Reason::UpstreamClosed
            | Reason::UpstreamMalformed
            | Reason::BackendRequestTimeout
            | Reason::ApplicationUnreachable
    )
}
