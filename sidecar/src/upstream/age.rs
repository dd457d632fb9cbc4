//! How long a connection takes requests.

use std::time::Duration;

use tokio::time::Instant;

/// The age of a connection and the most that it may reach.
#[derive(Clone, Copy, Debug)]
pub(super) struct Age {
    born: Instant,
    most: Duration,
}

impl Age {
    /// Up to a tenth less than `most`, by `draw` (0 to 1): connections made at one time do not end at one time.
    pub(super) fn from(born: Instant, most: Duration, draw: f64) -> Self {
        Self { born, most: most.mul_f64(1.0 - draw / 10.0) }
    }

    /// Whether it takes no new request any more.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.born) >= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_within_the_last_tenth() {
        let born = Instant::now();
        let at = |seconds| born + Duration::from_secs(seconds);
        let hour = Duration::from_secs(3600);
        for (draw, end) in [(0.0, 3600), (0.5, 3420), (1.0, 3240)] {
            let age = Age::from(born, hour, draw);
            assert!(!age.is_over(at(end - 1)), "{draw}");
            assert!(age.is_over(at(end + 1)), "{draw}");
        }
    }
}
