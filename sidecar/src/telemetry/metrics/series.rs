//! The numbers behind a series: one writer, many readers.
//!
//! Each worker owns its own series and is the only one to write them, so a relaxed load and store take the place of a
//! locked add. The scraper reads them from another thread and sums over the workers.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A count with one writer.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Counts. Only the worker that owns the series may call it, or counts are lost.
    pub(crate) fn add(&self, by: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    }

    /// What was counted.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Requests of one label set.
#[derive(Debug, Default)]
pub(crate) struct RequestSeries {
    /// How many ended.
    pub(crate) requests: Counter,
    /// Body bytes from downstream.
    pub(crate) received: Counter,
    /// Body bytes to downstream.
    pub(crate) sent: Counter,
}

/// Connections of one label set.
#[derive(Debug, Default)]
pub(crate) struct ConnectionSeries {
    /// How many were opened.
    pub(crate) opened: Counter,
    /// How many of these are closed again.
    pub(crate) closed: Counter,
}

/// Upper bounds of the buckets in seconds: those that OpenTelemetry's HTTP conventions advise, and four below them,
/// because a hop between two sidecars is far faster than a request through an application.
pub(crate) const BOUNDS: [f64; 18] = [
    0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0,
    7.5, 10.0,
];

const BOUNDS_NANOS: [u64; BOUNDS.len()] = nanos(BOUNDS);

const fn nanos(bounds: [f64; BOUNDS.len()]) -> [u64; BOUNDS.len()] {
    let mut out = [0; BOUNDS.len()];
    let mut at = 0;
    while at < bounds.len() {
        // The microsecond is exact in a double, the nanosecond is not.
        out[at] = (bounds[at] * 1e6 + 0.5) as u64 * 1000;
        at += 1;
    }
    out
}

/// Durations of one label set.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [Counter; BOUNDS.len() + 1],
    sum_nanos: Counter,
}

impl Histogram {
    /// Counts one duration; a bound belongs to the bucket below it.
    pub(crate) fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[BOUNDS_NANOS.partition_point(|bound| *bound < nanos)].add(1);
        self.sum_nanos.add(nanos);
    }

    /// Adds what was counted here to `total`.
    pub(crate) fn add_to(&self, total: &mut HistogramTotal) {
        for (sum, bucket) in total.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.get();
        }
        total.sum_seconds += Duration::from_nanos(self.sum_nanos.get()).as_secs_f64();
    }
}

/// Durations summed over the workers.
#[derive(Debug, Default)]
pub(crate) struct HistogramTotal {
    /// Counts per bucket, not cumulative; the last one has no bound.
    pub(crate) buckets: [u64; BOUNDS.len() + 1],
    /// The sum of all.
    pub(crate) sum_seconds: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_bucket_whose_bound_it_does_not_pass() {
        let histogram = Histogram::default();
        for micros in [250, 251, 1_000, 10_000_000, 10_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let mut total = HistogramTotal::default();
        histogram.add_to(&mut total);
        let filled: Vec<_> = total.buckets.iter().enumerate().filter(|(_, n)| **n > 0).collect();
        assert_eq!(filled, [(0, &1), (1, &1), (2, &1), (17, &1), (18, &1)]);
        assert!((total.sum_seconds - 20.001_502).abs() < 1e-9);
    }
}
