//! Whether the workers live: each beats once a second, and somebody else looks at the oldest beat.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The beats of all workers.
#[derive(Debug)]
pub(crate) struct Pulses {
    zero: Instant,
    workers: Mutex<Vec<Weak<AtomicU64>>>,
}

/// One worker's beat; a worker that is gone does not count.
#[derive(Debug)]
pub(crate) struct Pulse {
    zero: Instant,
    last: Arc<AtomicU64>,
}

impl Pulses {
    pub(crate) fn new(zero: Instant) -> Self {
        Self { zero, workers: Mutex::default() }
    }

    /// One more worker, which lives now.
    pub(crate) fn worker(&self, now: Instant) -> Pulse {
        let pulse = Pulse { zero: self.zero, last: Arc::default() };
        pulse.beat(now);
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&pulse.last));
        pulse
    }

    /// How long ago the quietest worker beat.
    pub(crate) fn stalled_for(&self, now: Instant) -> Duration {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|w| w.strong_count() > 0);
        let beats = workers.iter().filter_map(Weak::upgrade).map(|last| last.load(Ordering::Relaxed));
        let oldest = beats.min().map(|millis| self.zero + Duration::from_millis(millis));
        oldest.map_or(Duration::ZERO, |oldest| now.saturating_duration_since(oldest))
    }
}

impl Pulse {
    pub(crate) fn beat(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.zero).as_millis();
        self.last.store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quietest_worker_counts_until_it_is_gone() {
        let zero = Instant::now();
        let at = |seconds| zero + Duration::from_secs(seconds);
        let pulses = Pulses::new(zero);
        assert_eq!(pulses.stalled_for(at(9)), Duration::ZERO);
        let (one, two) = (pulses.worker(at(0)), pulses.worker(at(1)));
        one.beat(at(5));
        assert_eq!(pulses.stalled_for(at(9)), Duration::from_secs(8));
        drop(two);
        assert_eq!(pulses.stalled_for(at(9)), Duration::from_secs(4));
    }
}
