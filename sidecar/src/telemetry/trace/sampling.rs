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

    /// The id of a trace that begins here, never zero; `None`: it is not kept at this ratio. Only of one that is kept more is
    /// drawn than what decides.
    #[inline(always)]
    pub(crate) fn kept_trace_id(&mut self, ratio: f64) -> Option<u128> {
        let low = self.low.u64(..);
        keeps(low, ratio).then(|| (u128::from(self.high.u64(..)) << 64 | u128::from(low)).max(1))
    }

    /// A span's id, never zero.
    pub(crate) fn span_id(&mut self) -> u64 {
        self.high.u64(..).max(1)
    }
}

const RANDOMNESS: u64 = 1 << 56;

/// Whether a trace is kept at this ratio whose id has this lower half.
fn keeps(low: u64, ratio: f64) -> bool {
    let rejected = ((1.0 - ratio) * RANDOMNESS as f64) as u64;
    low & (RANDOMNESS - 1) >= rejected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_none_and_the_ratio() {
        let mut draw = Draw::seeded(1, 2);
        let mut kept = |ratio| (0..100_000).filter(|_| draw.kept_trace_id(ratio).is_some()).count();
        assert_eq!((kept(0.0), kept(1.0)), (0, 100_000));
        let tenth = kept(0.1);
        assert!((9_700..10_300).contains(&tenth), "{tenth}");
        assert!(!keeps(u64::MAX, 0.0) && keeps(0, 1.0));
    }

    #[test]
    fn the_low_56_bits_decide_against_the_threshold() {
        let half = 1 << 55;
        assert!(keeps(half, 0.5) && !keeps(half - 1, 0.5));
        assert!(!keeps(0xff << 56, 0.5), "the bits above are not asked");
    }

    #[test]
    fn an_id_has_the_half_that_was_decided_by_and_another_one() {
        let mut draw = Draw::seeded(1, 2);
        let ids: Vec<_> = (0..1000).filter_map(|_| draw.kept_trace_id(0.5)).collect();
        assert!(ids.iter().all(|id| keeps(*id as u64, 0.5)));
        let halves: std::collections::HashSet<_> = ids.iter().map(|id| (id >> 64) as u64).collect();
        assert_eq!(halves.len(), ids.len());
    }

    #[test]
    fn what_is_kept_at_a_ratio_is_kept_at_a_greater_one() {
        let mut draw = Draw::seeded(3, 4);
        for _ in 0..10_000 {
            let low = draw.low.u64(..);
            assert!(!keeps(low, 0.1) || keeps(low, 0.3));
        }
    }
}
