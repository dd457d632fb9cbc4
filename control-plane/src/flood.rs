//! How much a peer may bring. Pure: time goes in.

use std::{collections::HashMap, hash::Hash, time::Duration};

/// Seconds' worth that may come at once: a sidecar that starts asks for all its services.
const BURST: u32 = 10;
/// Peers that are known apart. Of more at one time the rest share a bucket: none is kept for each address there is.
const MOST_PEERS: usize = 100_000;
/// How often room is made where there is none: it takes a look at each of them.
const TIDY: Duration = Duration::from_secs(1);
/// How often a flood is worth a line of the log.
const TOLD_EVERY: Duration = Duration::from_secs(1);

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

/// A bucket for each peer.
#[derive(Debug)]
pub(crate) struct Floods<K> {
    each_second: u32,
    peers: HashMap<K, Flood>,
    rest: Flood,
    tidied: Duration,
}

impl<K: Clone + Eq + Hash> Floods<K> {
    pub(crate) fn new(each_second: u32) -> Self {
        let (peers, rest) = (HashMap::new(), Flood::new(each_second));
        Self { each_second, peers, rest, tidied: Duration::ZERO }
    }

    /// Takes as many of these as may come of a peer.
    pub(crate) fn grant(&mut self, peer: &K, wanted: usize, now: Duration) -> usize {
        let is_full = self.peers.len() >= MOST_PEERS && !self.peers.contains_key(peer);
        if is_full && now.saturating_sub(self.tidied) >= TIDY {
            self.tidy(now);
        }
        if is_full && self.peers.len() >= MOST_PEERS {
            return self.rest.grant(wanted, now);
        }
        let flood = self.peers.entry(peer.clone()).or_insert_with(|| Flood::new(self.each_second));
        flood.grant(wanted, now)
    }

    /// Forgets peers of whom nothing comes.
    pub(crate) fn tidy(&mut self, now: Duration) {
        self.tidied = now;
        self.peers.retain(|_, flood| !flood.is_idle(now));
    }

    /// How many peers are known apart.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }
}

/// Of refusals, which of them are worth a line of the log: who floods must not fill that either.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    last: Option<Duration>,
    since: u64,
}

impl Lines {
    /// Counts one; and how many there were since the last line, if it is time for one.
    pub(crate) fn count(&mut self, now: Duration) -> Option<u64> {
        self.since += 1;
        if self.last.is_some_and(|last| now.saturating_sub(last) < TOLD_EVERY) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.since))
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

    #[test]
    fn each_peer_has_a_bucket_and_beyond_those_there_are_all_share_one() {
        let mut floods = Floods::new(1);
        let at = Duration::from_secs;
        assert_eq!((floods.grant(&0, 25, at(0)), floods.grant(&1, 25, at(0))), (10, 10));
        for peer in 2..MOST_PEERS {
            floods.grant(&peer, 1, at(0));
        }
        let strangers = MOST_PEERS..MOST_PEERS + 20;
        let granted = strangers.map(|peer| floods.grant(&peer, 1, at(0))).sum::<usize>();
        assert_eq!((granted, floods.len()), (10, MOST_PEERS));
        // Most of them are as if they had never come by now.
        assert_eq!(floods.grant(&MOST_PEERS, 25, at(2)), 10);
        assert_eq!(floods.len(), 3);
    }

    #[test]
    fn a_flood_is_told_of_once_a_second() {
        let mut lines = Lines::default();
        let at = Duration::from_millis;
        assert_eq!(lines.count(at(0)), Some(1));
        assert!((1..900).all(|now| lines.count(at(now)).is_none()));
        assert_eq!((lines.count(at(1000)), lines.count(at(1001))), (Some(900), None));
    }
}
