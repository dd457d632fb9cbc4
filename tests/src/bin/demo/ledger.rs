//! What the client saw, kept for two readers: the view wants the last second, the checks want everything between two
//! moments.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::load::Outcome;

/// The span over which the view averages.
const WINDOW: Duration = Duration::from_secs(2);

/// In microseconds; a longer wait counts as this long.
const LONGEST: u64 = 60_000_000;

#[derive(Default)]
pub(crate) struct Ledger {
    recent: VecDeque<(Instant, Outcome)>,
    act: Tally,
    /// GETs and POSTs.
    failed: (u64, u64),
}

impl Ledger {
    pub(crate) fn add(&mut self, outcome: Outcome, now: Instant) {
        let failed = u64::from(!outcome.is_success());
        match outcome.order {
            None => self.failed.0 += failed,
            Some(_) => self.failed.1 += failed,
        }
        self.act.add(&outcome);
        self.recent.push_back((now, outcome));
        while self.recent.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            self.recent.pop_front();
        }
    }

    /// GETs and POSTs since the last call of `take`.
    pub(crate) fn so_far(&self) -> (u64, u64) {
        (self.act.gets, self.act.posts)
    }

    /// Everything since the last call.
    pub(crate) fn take(&mut self) -> Tally {
        std::mem::take(&mut self.act)
    }

    /// The last two seconds, and how long they were.
    pub(crate) fn recent(&self, now: Instant) -> (Tally, Duration) {
        let mut tally = Tally::default();
        let fresh = self.recent.iter().filter(|(at, _)| now.duration_since(*at) <= WINDOW);
        fresh.for_each(|(_, outcome)| tally.add(outcome));
        (tally, WINDOW)
    }

    /// GETs and POSTs that failed since the start.
    pub(crate) fn failed(&self) -> (u64, u64) {
        self.failed
    }
}

/// Counts over some time.
pub(crate) struct Tally {
    pub(crate) gets: u64,
    pub(crate) posts: u64,
    pub(crate) regions: BTreeMap<String, u64>,
    /// GETs that failed before an answer began, each with its reason.
    pub(crate) lost_gets: Vec<String>,
    /// GETs whose answer began and then broke off: nobody may repeat these unseen.
    pub(crate) broken_gets: Vec<String>,
    /// POSTs that failed, with their reasons.
    pub(crate) lost_posts: BTreeMap<u64, String>,
    pub(crate) placed: BTreeSet<u64>,
    latency: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            gets: 0,
            posts: 0,
            regions: BTreeMap::new(),
            lost_gets: Vec::new(),
            broken_gets: Vec::new(),
            lost_posts: BTreeMap::new(),
            placed: BTreeSet::new(),
            latency: Histogram::new_with_bounds(1, LONGEST, 3).expect("the bounds are in order"),
        }
    }
}

impl Tally {
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        match outcome.order {
            None => self.gets += 1,
            Some(_) => self.posts += 1,
        }
        self.latency.saturating_record(outcome.took);
        if let Some(region) = &outcome.region {
            *self.regions.entry(region.clone()).or_default() += 1;
        }
        match (outcome.order, !outcome.is_success()) {
            (None, false) => {}
            (None, true) if outcome.status == Some(200) => self.broken_gets.push(reason(outcome)),
            (None, true) => self.lost_gets.push(reason(outcome)),
            (Some(order), false) => {
                self.placed.insert(order);
            }
            (Some(order), true) => {
                self.lost_posts.insert(order, reason(outcome));
            }
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.gets + self.posts
    }

    /// In percent of the answers that named a region.
    pub(crate) fn share(&self, region: &str) -> f64 {
        let all: u64 = self.regions.values().sum();
        let own = self.regions.get(region).copied().unwrap_or(0);
        if all == 0 { 0.0 } else { own as f64 * 100.0 / all as f64 }
    }

    /// In milliseconds.
    pub(crate) fn latency(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }
}

fn reason(outcome: &Outcome) -> String {
    match (&outcome.error, outcome.status) {
        (Some(error), _) => error.clone(),
        (None, status) => format!("status {}", status.unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(order: Option<u64>, status: Option<u16>, error: Option<&str>) -> Outcome {
        let region = status.map(|_| "rio-de-janeiro".to_owned());
        Outcome { sent: 0, took: 1500, order, status, region, error: error.map(str::to_owned) }
    }

    #[test]
    fn failures_are_told_apart_by_what_the_client_had_seen() {
        let mut tally = Tally::default();
        tally.add(&outcome(None, Some(200), None));
        tally.add(&outcome(None, Some(200), Some("broke off")));
        tally.add(&outcome(None, Some(503), None));
        tally.add(&outcome(None, None, Some("refused")));
        tally.add(&outcome(Some(7), Some(201), None));
        tally.add(&outcome(Some(8), Some(502), None));
        assert_eq!((tally.gets, tally.posts), (4, 2));
        assert_eq!(tally.lost_gets, ["status 503", "refused"]);
        assert_eq!(tally.broken_gets, ["broke off"]);
        assert_eq!(tally.lost_posts.keys().collect::<Vec<_>>(), [&8]);
        assert!(tally.placed.contains(&7));
        assert!((1.4..1.6).contains(&tally.latency(0.5)));
    }

    #[test]
    fn shares_are_of_the_answers() {
        let mut tally = Tally::default();
        assert!(tally.share("rio-de-janeiro") < 0.1);
        tally.add(&outcome(None, Some(200), None));
        tally.add(&outcome(None, None, Some("refused")));
        assert!(tally.share("rio-de-janeiro") > 99.9);
    }

    #[test]
    fn the_view_forgets_and_the_act_does_not() {
        let began = Instant::now();
        let mut ledger = Ledger::default();
        ledger.add(outcome(None, Some(200), None), began);
        let later = began + Duration::from_secs(9);
        assert_eq!(ledger.recent(later).0.total(), 0);
        ledger.add(outcome(None, Some(200), None), later);
        assert_eq!(ledger.take().total(), 2);
        assert_eq!(ledger.take().total(), 0);
    }
}
