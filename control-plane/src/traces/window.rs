//! The traces of the last while, bounded by count, bytes and age. Pure: time goes in.
//!
//! When there are too many, the sender whose spans take most loses the oldest trace in which it has one. So a sender that
//! floods loses its own traces, and not those of others.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use trama_proto::spiffe::SpiffeId;

use super::{
    shares::Shares,
    span::{KeptSpan, TraceId},
};

/// Spans of one trace that are kept. Further ones are as good as a flood: nobody reads them.
pub(super) const MOST_SPANS: usize = 1000;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowLimits {
    /// Traces.
    pub(crate) traces: usize,
    /// Bytes of memory, about.
    pub(crate) bytes: u64,
    /// Since the first span of a trace came.
    pub(crate) age: Duration,
}

/// What the window has lost to its bounds since it was asked last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// Traces beyond the count.
    pub(super) count: u64,
    /// Traces beyond the bytes.
    pub(super) bytes: u64,
    /// Traces that were too old.
    pub(super) age: u64,
    /// Spans of traces that have too many.
    pub(super) spans: u64,
}

impl Lost {
    /// For the count.
    pub(super) fn by_bound(self) -> [(&'static str, u64); 4] {
        let Self { count, bytes, age, spans } = self;
        [("count", count), ("bytes", bytes), ("age", age), ("spans", spans)]
    }
}

/// How far back the window goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// At most.
    pub(crate) age: Duration,
    /// How long ago the oldest trace that is kept came, if there is one.
    pub(crate) oldest: Option<Duration>,
}

/// Traces of the last while.
#[derive(Debug)]
pub(super) struct Window {
    limits: WindowLimits,
    traces: HashMap<TraceId, Held>,
    /// By the place in the order in which they came.
    order: BTreeMap<u64, TraceId>,
    /// The places of the traces in which a sender has spans.
    places: HashMap<SpiffeId, BTreeSet<u64>>,
    shares: Shares,
    next: u64,
    lost: Lost,
}

/// A trace.
#[derive(Debug)]
struct Held {
    place: u64,
    since: Duration,
    spans: Vec<Arc<KeptSpan>>,
}

impl Window {
    pub(super) fn new(limits: WindowLimits) -> Self {
        Self {
            limits,
            traces: HashMap::new(),
            order: BTreeMap::new(),
            places: HashMap::new(),
            shares: Shares::default(),
            next: 1,
            lost: Lost::default(),
        }
    }

    /// How many traces there are.
    pub(super) fn len(&self) -> usize {
        self.traces.len()
    }

    /// How many bytes they take, about.
    pub(super) fn bytes(&self) -> u64 {
        self.shares.total()
    }

    /// How far back it goes.
    pub(super) fn reach(&self, now: Duration) -> Reach {
        let oldest = self.order.first_key_value().and_then(|(_, trace)| self.traces.get(trace));
        Reach { age: self.limits.age, oldest: oldest.map(|held| now.saturating_sub(held.since)) }
    }

    /// What was lost since this was asked last.
    pub(super) fn lost(&mut self) -> Lost {
        std::mem::take(&mut self.lost)
    }

    /// Keeps a span. One that is there already, sent a second time, is kept once.
    pub(super) fn keep(&mut self, span: Arc<KeptSpan>, now: Duration) {
        self.expire(now);
        let (trace, sender, weight) = (span.trace, span.origin.sender.clone(), span.weight());
        let held = self.traces.entry(trace).or_insert_with(|| {
            let place = self.next;
            self.next += 1;
            self.order.insert(place, trace);
            Held { place, since: now, spans: Vec::new() }
        });
        if held.spans.iter().any(|other| other.id == span.id && other.origin.sender == sender) {
            return;
        }
        if held.spans.len() >= MOST_SPANS {
            self.lost.spans += 1;
            return;
        }
        held.spans.push(span);
        self.shares.add(&sender, weight);
        self.places.entry(sender).or_default().insert(held.place);
        while self.traces.len() > self.limits.traces && self.evict() {
            self.lost.count += 1;
        }
        while self.shares.total() > self.limits.bytes && self.evict() {
            self.lost.bytes += 1;
        }
    }

    /// Forgets what is too old.
    pub(super) fn expire(&mut self, now: Duration) {
        while let Some((_, trace)) = self.order.first_key_value() {
            let trace = *trace;
            let is_old = |held: &Held| now.saturating_sub(held.since) >= self.limits.age;
            if !self.traces.get(&trace).is_some_and(is_old) {
                return;
            }
            self.remove(trace);
            self.lost.age += 1;
        }
    }

    /// The spans of a trace, by their beginnings. `None`: there is no such trace.
    pub(super) fn trace(&self, id: &TraceId) -> Option<Vec<Arc<KeptSpan>>> {
        let mut spans = self.traces.get(id)?.spans.clone();
        spans.sort_by_key(|span| span.facts.start);
        Some(spans)
    }

    /// The traces that fit, the newest first, each with its place; before a place, or from the newest on.
    pub(super) fn find<'w>(
        &'w self,
        before: Option<u64>,
        fits: impl Fn(&[Arc<KeptSpan>]) -> bool + 'w,
    ) -> impl Iterator<Item = (u64, TraceId, &'w [Arc<KeptSpan>])> + 'w {
        let earlier = self.order.range(..before.unwrap_or(u64::MAX)).rev();
        let spans = earlier.filter_map(|(place, id)| Some((*place, *id, &*self.traces.get(id)?.spans)));
        spans.filter(move |(_, _, spans)| fits(spans))
    }

    /// The heaviest sender loses its oldest trace. False: there is nothing to lose.
    fn evict(&mut self) -> bool {
        let oldest = self.shares.heaviest().and_then(|sender| self.places.get(sender)?.first());
        let Some(trace) = oldest.and_then(|place| self.order.get(place)).copied() else { return false };
        self.remove(trace);
        true
    }

    fn remove(&mut self, trace: TraceId) {
        let Some(held) = self.traces.remove(&trace) else { return };
        self.order.remove(&held.place);
        for span in held.spans {
            let sender = &span.origin.sender;
            self.shares.give_back(sender, span.weight());
            let Some(places) = self.places.get_mut(sender) else { continue };
            places.remove(&held.place);
            if places.is_empty() {
                self.places.remove(sender);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    const SECOND: Duration = Duration::from_secs(1);

    fn window(traces: usize, bytes: u64) -> Window {
        Window::new(WindowLimits { traces, bytes, age: 10 * SECOND })
    }

    /// The first bytes of the traces' ids, the newest first.
    fn there(window: &Window) -> Vec<u8> {
        window.find(None, |_| true).map(|(_, id, _)| id[0]).collect()
    }

    #[test]
    fn the_spans_of_a_trace_come_together_whoever_wrote_them() {
        let mut window = window(10, 1 << 20);
        let (orders, prices) = (sender("orders"), sender("prices"));
        window.keep(kept(&orders, span(1, 1)), SECOND);
        window.keep(kept(&prices, span(1, 2)), SECOND);
        window.keep(kept(&prices, span(2, 3)), SECOND);
        // The same ids by another sender are another span: nobody may hide somebody else's.
        window.keep(kept(&prices, span(1, 1)), SECOND);
        window.keep(kept(&orders, span(1, 1)), 2 * SECOND);
        let spans = window.trace(&[1; 16]).unwrap();
        assert_eq!(spans.iter().map(|span| span.id[0]).collect::<Vec<_>>(), [1, 2, 1]);
        assert!(window.trace(&[3; 16]).is_none());
        assert_eq!(there(&window), [2, 1]);
        assert_eq!(window.find(Some(2), |_| true).count(), 1, "before the second place");
        assert_eq!(window.find(None, |spans| spans.len() > 2).count(), 1);
    }

    #[test]
    fn what_is_too_old_is_forgotten() {
        let mut window = window(10, 1 << 20);
        let orders = sender("orders");
        assert_eq!(window.reach(SECOND), Reach { age: 10 * SECOND, oldest: None });
        window.keep(kept(&orders, span(1, 1)), SECOND);
        window.keep(kept(&orders, span(2, 1)), 5 * SECOND);
        assert_eq!(window.reach(7 * SECOND), Reach { age: 10 * SECOND, oldest: Some(6 * SECOND) });
        window.expire(11 * SECOND - Duration::from_nanos(1));
        assert_eq!(there(&window), [2, 1]);
        window.expire(11 * SECOND);
        assert_eq!(there(&window), [2]);
        assert_eq!(window.lost(), Lost { age: 1, ..Lost::default() });
        window.expire(20 * SECOND);
        assert_eq!((window.len(), window.bytes(), window.places.len(), window.order.len()), (0, 0, 0, 0));
    }

    #[test]
    fn beyond_count_or_bytes_the_heaviest_sender_loses_its_oldest_trace() {
        let (orders, flood) = (sender("orders"), sender("flood"));
        let mut counted = window(4, 1 << 20);
        counted.keep(kept(&orders, span(1, 1)), SECOND);
        for trace in 2..=9 {
            counted.keep(kept(&flood, span(trace, 1)), SECOND);
        }
        assert_eq!(there(&counted), [9, 8, 7, 1]);
        assert_eq!(counted.lost(), Lost { count: 5, ..Lost::default() });

        let room = kept(&orders, span(1, 1)).weight() * 4;
        let mut weighed = window(100, room);
        weighed.keep(kept(&orders, span(1, 1)), SECOND);
        for trace in 2..=9 {
            weighed.keep(kept(&flood, span(trace, 1)), SECOND);
        }
        assert_eq!(there(&weighed), [9, 8, 7, 1]);
        assert!(weighed.bytes() <= room);
        assert_eq!(weighed.lost(), Lost { bytes: 5, ..Lost::default() });
        weighed.keep(kept(&orders, span(10, 1)), SECOND);
        weighed.keep(kept(&orders, span(11, 1)), SECOND);
        assert_eq!(there(&weighed).len(), 4);
    }

    #[test]
    fn a_trace_has_an_end() {
        let mut window = window(10, 1 << 30);
        let flood = sender("flood");
        for number in 0..=MOST_SPANS {
            let mut span = span(1, 1);
            span.span_id = (number as u64 + 1).to_be_bytes().to_vec();
            window.keep(kept(&flood, span), SECOND);
        }
        assert_eq!(window.trace(&[1; 16]).unwrap().len(), MOST_SPANS);
        assert_eq!(window.lost().spans, 1);
    }
}
