//! Whether a batch that was not taken is sent again, and when, as the OTLP specification says ("OTLP/gRPC Response",
//! "OTLP/gRPC Throttling"). Pure: time and the draw go in.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;
use trama_sidecar::discovery::full_jitter;

/// The longest wait after the first failure; it doubles with each one that follows.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It may be taken later, and no sooner than the receiver asks.
    Later(Duration),
    /// It will never be taken.
    Never,
}

impl Answer {
    /// What a status means.
    pub(super) fn of(status: &Status) -> Self {
        let asked = status.get_details_retry_info();
        let wait = asked.as_ref().and_then(|info| info.retry_delay).unwrap_or_default();
        match status.code() {
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss => Self::Later(wait),
            // It says that it will recover only by saying when.
            Code::ResourceExhausted if asked.is_some() => Self::Later(wait),
            _ => Self::Never,
        }
    }
}

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is sent again after this.
    Again(Duration),
    /// It is lost: the receiver does not want it.
    Refused,
    /// It is lost: it was tried for long enough.
    GivenUp,
}

/// The attempts of a batch.
#[derive(Debug)]
pub(super) struct Retry {
    give_up: Duration,
    failures: u32,
}

impl Retry {
    /// Begins at `now`.
    pub(super) fn new(now: Duration, give_up_after: Duration) -> Self {
        Self { give_up: now + give_up_after, failures: 0 }
    }

    /// It was not taken once more. `draw` is any random number: exponential back-off with full jitter.
    pub(super) fn failed(&mut self, answer: Answer, now: Duration, draw: u64) -> Verdict {
        let Answer::Later(asked) = answer else { return Verdict::Refused };
        let wait = asked.saturating_add(full_jitter(FIRST, LONGEST, self.failures, draw));
        self.failures = self.failures.saturating_add(1);
        if now.saturating_add(wait) >= self.give_up { Verdict::GivenUp } else { Verdict::Again(wait) }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_tried_again_is_what_the_specification_says() {
        let code = |code| Answer::of(&Status::new(code, ""));
        for later in
            [Code::Cancelled, Code::DeadlineExceeded, Code::Aborted, Code::OutOfRange, Code::Unavailable]
        {
            assert_eq!(code(later), Answer::Later(Duration::ZERO), "{later:?}");
        }
        for never in [
            Code::InvalidArgument,
            Code::NotFound,
            Code::AlreadyExists,
            Code::PermissionDenied,
            Code::Unauthenticated,
            Code::FailedPrecondition,
            Code::Unimplemented,
            Code::Internal,
            Code::Unknown,
            Code::ResourceExhausted,
        ] {
            assert_eq!(code(never), Answer::Never, "{never:?}");
        }
        let throttled = |code| {
            let details = ErrorDetails::with_retry_info(Some(7 * SECOND));
            Answer::of(&Status::with_error_details(code, "", details))
        };
        assert_eq!(throttled(Code::ResourceExhausted), Answer::Later(7 * SECOND));
        assert_eq!(throttled(Code::Unavailable), Answer::Later(7 * SECOND));
        assert_eq!(throttled(Code::InvalidArgument), Answer::Never);
    }

    #[test]
    fn waits_double_up_to_a_bound_and_are_spread_from_nothing() {
        let mut retry = Retry::new(Duration::ZERO, 1_000_000 * SECOND);
        let later = Answer::Later(Duration::ZERO);
        let mut wait = |draw| match retry.failed(later, SECOND, draw) {
            Verdict::Again(wait) => wait.as_millis(),
            other => panic!("{other:?}"),
        };
        let longest: Vec<_> = (0..20).map(|_| wait(u64::MAX)).collect();
        assert_eq!(longest[..7], [500, 1000, 2000, 4000, 8000, 16_000, 30_000]);
        assert!(longest[7..].iter().all(|wait| *wait == 30_000));
        assert_eq!((wait(0), wait(u64::MAX / 2)), (0, 15_000));
    }

    #[test]
    fn the_receivers_own_wait_comes_first_and_there_is_an_end() {
        let mut retry = Retry::new(10 * SECOND, 60 * SECOND);
        let asked = Answer::Later(5 * SECOND);
        assert_eq!(retry.failed(asked, 11 * SECOND, 0), Verdict::Again(5 * SECOND));
        assert_eq!(retry.failed(asked, 11 * SECOND, u64::MAX), Verdict::Again(6 * SECOND));
        assert_eq!(retry.failed(asked, 64 * SECOND, 0), Verdict::Again(5 * SECOND));
        assert_eq!(retry.failed(asked, 65 * SECOND, 0), Verdict::GivenUp);
        assert_eq!(retry.failed(Answer::Later(3600 * SECOND), 12 * SECOND, 0), Verdict::GivenUp);
        assert_eq!(retry.failed(Answer::Never, 12 * SECOND, 0), Verdict::Refused);
    }
}
