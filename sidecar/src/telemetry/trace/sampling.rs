//! New ids, and which of the traces that begin here are kept.
//!
//! The decision is drawn from the trace's id itself, as OpenTelemetry's consistent probability sampling does (OTEP 235
//! and the specification's `ProbabilitySampler`): the low 56 bits, which Trace Context level 2 promises to be random,
//! are compared with a rejection threshold. So everybody who knows the id and the ratio decides alike.

use std::hash::{BuildHasher, RandomState};

/// Where ids come from: two generators of 64 bits of state each, because one cannot tell 2^128 ids apart.
#[derive(Debug)]
pub(crate) struct Draw {
    high: fastrand::Rng,
    low: fastrand::Rng,
}

impl Draw {
    /// Seeded by the operating system, by way of the standard library's hash keys.
    pub(crate) fn new() -> Self {
        let [high, low] = [(); 2].map(|()| RandomState::new().hash_one("trace id"));
        Self::seeded(high, low)
    }

    /// The same ids each time.
    pub(crate) fn seeded(high: u64, low: u64) -> Self {
        Self { high: fastrand::Rng::with_seed(high), low: fastrand::Rng::with_seed(low) }
    }

    /// A trace's id, never zero.
    pub(crate) fn trace_id(&mut self) -> u128 {
        (u128::from(self.high.u64(..)) << 64 | u128::from(self.low.u64(..))).max(1)
    }

    /// A span's id, never zero.
    pub(crate) fn span_id(&mut self) -> u64 {
        self.high.u64(..).max(1)
    }
}

const RANDOMNESS: u64 = 1 << 56;

/// Whether a trace with this id is kept at this ratio.
pub(crate) fn keeps(trace_id: u128, ratio: f64) -> bool {
    let rejected = ((1.0 - ratio) * RANDOMNESS as f64) as u64;
    trace_id as u64 & (RANDOMNESS - 1) >= rejected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_none_and_the_ratio() {
        let mut draw = Draw::seeded(1, 2);
        let ids: Vec<u128> = (0..100_000).map(|_| draw.trace_id()).collect();
        let kept = |ratio| ids.iter().filter(|id| keeps(**id, ratio)).count();
        assert_eq!((kept(0.0), kept(1.0)), (0, 100_000));
        assert!((9_700..10_300).contains(&kept(0.1)), "{}", kept(0.1));
        assert!(!keeps(u128::MAX, 0.0) && keeps(0, 1.0));
    }

    #[test]
    fn the_low_56_bits_decide_against_the_threshold() {
        let half = 1 << 55;
        assert!(keeps(half, 0.5) && !keeps(half - 1, 0.5));
        assert!(!keeps(0xff << 56, 0.5), "the bits above are not asked");
    }

    #[test]
    fn what_is_kept_at_a_ratio_is_kept_at_a_greater_one() {
        let mut draw = Draw::seeded(3, 4);
        for _ in 0..10_000 {
            let id = draw.trace_id();
            assert!(!keeps(id, 0.1) || keeps(id, 0.3));
        }
    }
}
