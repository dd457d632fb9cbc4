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
pub const fn elsewhere_may_help(reason: Reason) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            attempts: 2,
            codes: vec![StatusCode::SERVICE_UNAVAILABLE],
            backoff: Duration::from_millis(25),
        }
    }

    fn may(outcome: Outcome<'_>, method: &Method, made: u32, replayable: bool) -> bool {
        may_retry(&policy(), outcome, Attempt { method, made, replayable }, 1).is_some()
    }

    #[test]
    fn what_nobody_saw_is_tried_again_whatever_the_method_and_the_rest_if_idempotent() {
        let before = Failure::before(Reason::ConnectFailed);
        let after = Failure::after(Reason::UpstreamClosed);
        let idempotent =
            [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE];
        let others = [Method::POST, Method::PATCH, Method::CONNECT, Method::from_bytes(b"PURGE").unwrap()];
        let unavailable = Outcome::Status(StatusCode::SERVICE_UNAVAILABLE);
        for (methods, may_have_reached) in [(&idempotent[..], true), (&others[..], false)] {
            for method in methods {
                assert!(may(Outcome::Failed(&before), method, 1, true), "{method}");
                assert_eq!(may(Outcome::Failed(&after), method, 1, true), may_have_reached, "{method}");
                assert_eq!(may(unavailable, method, 1, true), may_have_reached, "{method}");
                assert!(!may(Outcome::Status(StatusCode::BAD_GATEWAY), method, 1, true), "not in the policy");
            }
        }
    }

    #[test]
    fn attempts_and_a_body_that_is_gone_end_it() {
        let failure = Failure::before(Reason::ConnectFailed);
        let outcome = Outcome::Failed(&failure);
        assert!(may(outcome, &Method::GET, 2, true));
        assert!(!may(outcome, &Method::GET, 3, true), "two tries after the first");
        assert!(!may(outcome, &Method::GET, 1, false));
    }

    #[test]
    fn only_what_another_endpoint_may_do_better() {
        let helped: Vec<_> = Reason::ALL
            .iter()
            .filter(|r| may(Outcome::Failed(&Failure::before(**r)), &Method::GET, 1, true))
            .collect();
        assert!(helped.contains(&&Reason::UpstreamRefused));
        for hopeless in [Reason::CircuitOpen, Reason::RequestTimeout, Reason::Denied, Reason::NoEndpoint] {
            assert!(!helped.contains(&&hopeless), "{hopeless}");
        }
        assert_eq!(helped.len(), 9);
    }

    #[test]
    fn the_wait_doubles_with_jitter_and_has_an_end() {
        for draw in 0..1_000 {
            for (made, least) in [(1, 25), (2, 50), (3, 100), (40, 10_000)] {
                let least = Duration::from_millis(least);
                let wait = wait(Duration::from_millis(25), made, draw);
                assert!(wait >= least && wait <= (least * 2).min(LONGEST_WAIT), "{made}: {wait:?}");
            }
        }
        assert_ne!(wait(Duration::from_millis(25), 1, 1), wait(Duration::from_millis(25), 1, 2));
    }
}
