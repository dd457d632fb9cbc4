//! How many messages a stream may bring. Pure: time goes in.

use std::time::Duration;

/// Seconds' worth of messages that may come at once: a sidecar that starts asks for all its services.
const BURST: f64 = 10.0;

/// A bucket of tokens, one for each message.
#[derive(Debug)]
pub(super) struct Flood {
    each_second: f64,
    tokens: f64,
    /// When it was looked at last, since the stream began.
    looked: Duration,
}

impl Flood {
    pub(super) fn new(each_second: u32) -> Self {
        let each_second = f64::from(each_second);
        Self { each_second, tokens: each_second * BURST, looked: Duration::ZERO }
    }

    /// Takes a message; false: one too many.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.looked).as_secs_f64();
        self.tokens = (self.tokens + passed * self.each_second).min(self.each_second * BURST);
        self.looked = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
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
}
