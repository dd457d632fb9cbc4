//! How much a peer may bring. Pure: time goes in.

use std::time::Duration;

/// Seconds' worth that may come at once: a sidecar that starts asks for all its services.
const BURST: u32 = 10;

/// A bucket of tokens, one for each message or span.
#[derive(Debug)]
pub(crate) struct Flood {
    each_second: f64,
    tokens: f64,
    /// When it was looked at last, on the clock that `now` is read from.
    looked: Duration,
}

impl Flood {
    pub(crate) fn new(each_second: u32) -> Self {
        let each_second = f64::from(each_second);
        Self { each_second, tokens: each_second * f64::from(BURST), looked: Duration::ZERO }
    }

    /// Takes one; false: one too many.
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        self.grant(1, now) == 1
    }

    /// Takes as many of these as may come.
    pub(crate) fn grant(&mut self, wanted: usize, now: Duration) -> usize {
        self.fill(now);
        let granted = wanted.min(self.tokens as usize);
        self.tokens -= granted as f64;
        granted
    }

    /// Whether it is as if nothing had ever come.
    pub(crate) fn is_idle(&mut self, now: Duration) -> bool {
        self.fill(now);
        self.tokens >= self.most()
    }

    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.looked).as_secs_f64();
        self.tokens = (self.tokens + passed * self.each_second).min(self.most());
        self.looked = now;
    }

    fn most(&self) -> f64 {
        self.each_second * f64::from(BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_a_flood_does_not() {
        let mut flood = Flood::new(2);
        let at = Duration::from_secs;
        assert!((0..20).all(|_| flood.take(at(1))));
        assert!(!flood.take(at(1)));
        assert!(flood.take(at(2)) && flood.take(at(2)));
        assert!(!flood.take(at(2)));
        assert!((0..20).all(|_| flood.take(at(1000))), "it fills up again");
        assert!(!flood.take(at(1000)), "and does not run over");
    }

    #[test]
    fn of_many_at_once_as_many_pass_as_there_is_room_for() {
        let mut flood = Flood::new(3);
        let at = Duration::from_secs;
        assert!(flood.is_idle(at(0)));
        assert_eq!(flood.grant(25, at(0)), 25);
        assert_eq!(flood.grant(25, at(0)), 5);
        assert_eq!((flood.grant(25, at(0)), flood.grant(25, at(1))), (0, 3));
        assert!(!flood.is_idle(at(10)) && flood.is_idle(at(11)));
    }
}
