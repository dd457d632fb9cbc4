//! Two endpoints by weight, and the cheaper of them: the power of two choices (Mitzenmacher 2001).
//!
//! Weights decide who is drawn, load and latency who of two is kept. The one drawn first stays unless the other is
//! cheaper by half a request: among equals the shares then follow the weights, also where an endpoint's fair share is
//! less than one request at a time, and small differences of latency do not herd everybody to one endpoint.

/// A stream of random numbers out of one draw (splitmix64, Steele et al. 2014): one number given, a decision replayed.
#[derive(Clone, Copy, Debug)]
pub struct Draws(u64);

impl Draws {
    /// The stream of this draw.
    pub const fn new(draw: u64) -> Self {
        Self(draw)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number, below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from((u128::from(self.next()) * end as u128) >> 64).unwrap_or(0)
    }

    /// The next number, from 0 up to 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Tries at drawing a candidate by rejection, before all weights are added up.
const QUICK_TRIES: usize = 8;

/// Draws an index by weight; a weight of 0 is never drawn. Usually looks at a few, at worst at all.
pub(super) fn weighted(
    len: usize,
    heaviest: f64,
    draws: &mut Draws,
    mut weight: impl FnMut(usize) -> f64,
) -> Option<usize> {
    if len == 0 {
        return None;
    }
    for _ in 0..QUICK_TRIES {
        let at = draws.below(len);
        if draws.unit() * heaviest < weight(at) {
            return Some(at);
        }
    }
    let total: f64 = (0..len).map(&mut weight).sum();
    let mut place = draws.unit() * total;
    let mut last = None;
    for at in 0..len {
        let here = weight(at);
        if here > 0.0 {
            if place < here {
                return Some(at);
            }
            place -= here;
            // Rounding may leave a rest behind the last one.
            last = Some(at);
        }
    }
    last
}

/// What a rival in the choice of two costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rival {
    /// Seconds that an answer takes; 0: never measured.
    pub(super) latency: f64,
    /// Requests that it has from this worker.
    pub(super) outstanding: u32,
    /// Its weight, slow start applied.
    pub(super) weight: f64,
}

/// What the one drawn first costs, and what its rival does: the second is charged half a request more. An endpoint
/// that was never measured is taken to be as fast as the other.
pub(super) fn costs(first: Rival, second: Rival) -> (f64, f64) {
    let known = |own: f64, other: f64| match (own > 0.0, other > 0.0) {
        (true, _) => own,
        (false, true) => other,
        (false, false) => 1.0,
    };
    let heavier = first.weight.max(second.weight);
    let cost = |rival: Rival, latency: f64, charged: f64| {
        latency * (1.0 + (f64::from(rival.outstanding) + charged) * heavier / rival.weight)
    };
    let first_cost = cost(first, known(first.latency, second.latency), 0.0);
    (first_cost, cost(second, known(second.latency, first.latency), 0.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_follows_the_weights() {
        for weights in [&[1.0, 1.0, 2.0][..], &[90.0, 9.0, 1.0], &[0.0, 1.0, 0.0], &[0.001; 64]] {
            let heaviest = weights.iter().copied().fold(0.0, f64::max);
            let total: f64 = weights.iter().sum();
            let mut seen = vec![0_u32; weights.len()];
            let mut draws = Draws::new(7);
            for _ in 0..100_000 {
                seen[weighted(weights.len(), heaviest, &mut draws, |i| weights[i]).unwrap()] += 1;
            }
            for (weight, seen) in weights.iter().zip(seen) {
                let (share, wanted) = (f64::from(seen) / 100_000.0, weight / total);
                assert!((share - wanted).abs() < 0.01, "{weights:?}: {share} in place of {wanted}");
            }
        }
    }

    #[test]
    fn nothing_is_drawn_from_nothing() {
        assert_eq!(weighted(0, 1.0, &mut Draws::new(1), |_| 1.0), None);
        assert_eq!(weighted(3, 1.0, &mut Draws::new(1), |_| 0.0), None);
    }

    #[test]
    fn the_unmeasured_is_as_fast_as_its_rival() {
        let rival = |latency, outstanding| Rival { latency, outstanding, weight: 1.0 };
        assert_eq!(costs(rival(0.01, 0), rival(0.0, 1)), (0.01, 0.025));
        assert_eq!(costs(rival(0.0, 1), rival(0.0, 0)), (2.0, 1.5));
    }

    #[test]
    fn half_a_request_of_the_lighter_one_is_the_margin() {
        let rival = |latency, outstanding, weight| Rival { latency, outstanding, weight };
        let moves = |first, second| {
            let costs = costs(first, second);
            costs.1 < costs.0
        };
        assert!(!moves(rival(1.2, 0, 1.0), rival(1.0, 0, 1.0)), "a small difference moves nobody");
        assert!(moves(rival(2.0, 0, 1.0), rival(1.0, 0, 1.0)));
        assert!(moves(rival(1.0, 1, 1.0), rival(1.0, 0, 1.0)));
        assert!(
            !moves(rival(1.0, 4, 9.0), rival(1.0, 0, 1.0)),
            "its fair share is less than a whole request"
        );
        assert!(moves(rival(1.0, 5, 9.0), rival(1.0, 0, 1.0)));
    }
}
