//! How long an endpoint takes, as one worker sees it: peak EWMA.
//!
//! The idea is Finagle's (`PeakEwma`, in turn after "The power of two choices" and TCP's smoothed round trip): an
//! exponentially weighted mean that jumps at once to a worse sample and comes down slowly, so that an endpoint which
//! stalls is left before the mean would have told.

use std::time::Duration;

/// After this time a sample counts for a third (1/e).
const DECAY: Duration = Duration::from_secs(10);
/// A failure costs at least this, however fast it came.
const FAILURE_FLOOR: f64 = 0.1;
/// A failure makes an endpoint this much more expensive than it was; several in a row, exponentially so.
const FAILURE_FACTOR: f64 = 4.0;
/// Nothing is thought slower than this, so that the mean comes down again within a minute or two.
const CEILING: f64 = 30.0;

/// The mean, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ewma {
    seconds: f64,
    at: Duration,
}

impl Ewma {
    /// The mean now. Without samples it fades, so that an endpoint which was slow is tried again. 0: never measured.
    pub(super) fn at(self, now: Duration) -> f64 {
        self.seconds * fade(now.saturating_sub(self.at))
    }

    /// An answer came after this time.
    pub(super) fn answered(&mut self, after: Duration, now: Duration) {
        let sample = after.as_secs_f64().min(CEILING);
        self.seconds = if sample >= self.seconds {
            sample
        } else {
            let old = fade(now.saturating_sub(self.at));
            self.seconds * old + sample * (1.0 - old)
        };
        self.at = now;
    }

    /// A failure came after this time: it counts as a slow answer, or a fast failure would attract what is to come.
    pub(super) fn failed(&mut self, after: Duration, now: Duration) {
        let penalty = (self.at(now) * FAILURE_FACTOR).max(FAILURE_FLOOR).max(after.as_secs_f64());
        self.seconds = penalty.min(CEILING);
        self.at = now;
    }
}

fn fade(elapsed: Duration) -> f64 {
    (-elapsed.as_secs_f64() / DECAY.as_secs_f64()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn it_jumps_up_and_comes_down_slowly() {
        let mut ewma = Ewma::default();
        ewma.answered(ms(10), ms(0));
        ewma.answered(ms(100), ms(1));
        assert!((ewma.at(ms(1)) - 0.1).abs() < 1e-9, "a worse sample counts at once");
        ewma.answered(ms(10), ms(1_001));
        assert!((0.09..0.1).contains(&ewma.at(ms(1_001))), "a better one by its share: {ewma:?}");
        for n in 1..=60 {
            ewma.answered(ms(10), ms(1_001 + n * 1_000));
        }
        assert!(ewma.at(ms(61_001)) < 0.011);
    }

    #[test]
    fn silence_lets_it_fade() {
        let mut ewma = Ewma::default();
        ewma.answered(ms(1_000), ms(0));
        assert!((ewma.at(ms(10_000)) - (-1.0_f64).exp()).abs() < 1e-9);
    }

    #[test]
    fn a_failure_is_never_cheap_and_never_for_ever() {
        let mut ewma = Ewma::default();
        ewma.failed(ms(0), ms(0));
        assert!(ewma.at(ms(0)) >= FAILURE_FLOOR);
        for _ in 0..100 {
            ewma.failed(ms(0), ms(1));
        }
        assert!(ewma.at(ms(1)) <= CEILING);
    }
}
