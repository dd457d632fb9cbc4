//! How long to wait before it is tried again: exponential back-off with full jitter, so that a thousand sidecars whose
//! control plane has died do not all come back at once. Pure: the draw is an argument.

use std::time::Duration;

/// The longest wait after the first failure; it doubles with each one that follows.
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);

/// How long to wait after a failure that came after `failures` others: by chance up to `first`, doubled for each of those,
/// and up to `longest`. `draw` is any random number.
pub fn full_jitter(first: Duration, longest: Duration, failures: u32, draw: u64) -> Duration {
    let most = first.saturating_mul(1 << failures.min(16)).min(longest);
    most.mul_f64(draw as f64 / u64::MAX as f64)
}

/// Failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// It failed once more: how long to wait. `draw` is any random number.
    pub(super) fn failed(&mut self, draw: u64) -> Duration {
        self.failed_up_to(LONGEST, draw)
    }

    /// The same with another bound.
    pub(super) fn failed_up_to(&mut self, longest: Duration, draw: u64) -> Duration {
        let wait = full_jitter(FIRST, longest, self.failures, draw);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// It succeeded: the next failure is a first one.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_are_spread_from_nothing() {
        let mut backoff = Backoff::default();
        let longest: Vec<_> = (0..100).map(|_| backoff.failed(u64::MAX).as_millis()).collect();
        assert_eq!(longest[..7], [200, 400, 800, 1600, 3200, 6400, 10_000]);
        assert!(longest[7..].iter().all(|wait| *wait == 10_000));
        assert_eq!(backoff.failed(0), Duration::ZERO);
        assert_eq!(backoff.failed(u64::MAX / 2).as_millis(), 5000);
        assert_eq!(backoff.failed_up_to(100 * LONGEST, u64::MAX).as_secs(), 1000);
        backoff.succeeded();
        assert_eq!(backoff.failed(u64::MAX).as_millis(), 200);
    }
}
