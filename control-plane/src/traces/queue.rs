//! Spans that wait to be sent on, bounded, and fair: senders take turns, and when there is no more room the one of whom most
//! waits loses its oldest span. Pure.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

use trama_proto::spiffe::SpiffeId;

use super::{shares::Shares, span::KeptSpan};

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueLimits {
    pub(super) spans: usize,
    /// Bytes of memory, about.
    pub(super) bytes: u64,
}

/// Spans that wait.
#[derive(Debug)]
pub(super) struct Queue {
    limits: QueueLimits,
    waiting: BTreeMap<SpiffeId, VecDeque<Arc<KeptSpan>>>,
    spans: usize,
    shares: Shares,
    /// Whose turn was last.
    last: Option<SpiffeId>,
}

impl Queue {
    pub(super) fn new(limits: QueueLimits) -> Self {
        Self { limits, waiting: BTreeMap::new(), spans: 0, shares: Shares::default(), last: None }
    }

    pub(super) fn len(&self) -> usize {
        self.spans
    }

    /// Puts a span at its sender's end. Gives how many others, or it itself, had to go for want of room.
    pub(super) fn push(&mut self, span: Arc<KeptSpan>) -> u64 {
        self.shares.add(&span.origin.sender, span.weight());
        self.waiting.entry(span.origin.sender.clone()).or_default().push_back(span);
        self.spans += 1;
        let mut dropped = 0;
        while self.spans > self.limits.spans || self.shares.total() > self.limits.bytes {
            let Some(heaviest) = self.shares.heaviest().cloned() else { break };
            self.pop(&heaviest);
            dropped += 1;
        }
        dropped
    }

    /// The next ones: at most so many, of so many bytes on the wire; one at least, if any waits.
    pub(super) fn take(&mut self, spans: usize, bytes: usize) -> Vec<Arc<KeptSpan>> {
        let (mut batch, mut length) = (Vec::new(), 0);
        while batch.len() < spans && length < bytes {
            let Some(sender) = self.turn() else { break };
            let Some(span) = self.pop(&sender) else { break };
            length += span.length();
            batch.push(span);
            self.last = Some(sender);
        }
        batch
    }

    /// The sender after the one whose turn was last.
    fn turn(&self) -> Option<SpiffeId> {
        let after = self.last.as_ref().and_then(|last| {
            self.waiting.range::<SpiffeId, _>((Bound::Excluded(last), Bound::Unbounded)).next()
        });
        after.or_else(|| self.waiting.first_key_value()).map(|(sender, _)| sender.clone())
    }

    fn pop(&mut self, sender: &SpiffeId) -> Option<Arc<KeptSpan>> {
        let own = self.waiting.get_mut(sender)?;
        let span = own.pop_front()?;
        if own.is_empty() {
            self.waiting.remove(sender);
        }
        self.spans -= 1;
        self.shares.give_back(sender, span.weight());
        Some(span)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    const ROOM: QueueLimits = QueueLimits { spans: 100, bytes: 1 << 20 };

    /// Trace and sender of each.
    fn taken(queue: &mut Queue, spans: usize, bytes: usize) -> Vec<(u8, String)> {
        let taken = queue.take(spans, bytes);
        let name = |span: &KeptSpan| span.origin.sender.as_str().rsplit('/').next().unwrap().to_owned();
        taken.iter().map(|span| (span.trace[0], name(span))).collect()
    }

    #[test]
    fn senders_take_turns() {
        let mut queue = Queue::new(ROOM);
        let (flood, orders) = (sender("flood"), sender("orders"));
        for trace in 1..=4 {
            assert_eq!(queue.push(kept(&flood, span(trace, 1))), 0);
        }
        queue.push(kept(&orders, span(8, 1)));
        queue.push(kept(&orders, span(9, 1)));
        let named = |names: &[(u8, &str)]| {
            names.iter().map(|(trace, name)| (*trace, (*name).to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(taken(&mut queue, 3, 1 << 20), named(&[(1, "flood"), (8, "orders"), (2, "flood")]));
        assert_eq!(taken(&mut queue, 9, 1 << 20), named(&[(9, "orders"), (3, "flood"), (4, "flood")]));
        assert_eq!((queue.len(), queue.shares.total()), (0, 0));
        assert!(queue.take(1, 1).is_empty());
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_and_never_empty() {
        let mut queue = Queue::new(ROOM);
        for trace in 1..=4 {
            queue.push(kept(&sender("orders"), span(trace, 1)));
        }
        let each = kept(&sender("orders"), span(1, 1)).length();
        assert_eq!(taken(&mut queue, 9, each + 1).len(), 2);
        assert_eq!(taken(&mut queue, 9, 1).len(), 1);
    }

    #[test]
    fn who_floods_loses_its_own_oldest_spans() {
        let calm = sender("calm");
        let each = kept(&calm, span(1, 1)).weight();
        for limits in [QueueLimits { spans: 3, ..ROOM }, QueueLimits { bytes: 3 * each + each / 2, ..ROOM }] {
            let mut queue = Queue::new(limits);
            assert_eq!(queue.push(kept(&calm, span(9, 1))), 0);
            let dropped = (1..=8).map(|trace| queue.push(kept(&sender("flood"), span(trace, 1))));
            assert_eq!(dropped.sum::<u64>(), 6);
            let mut left: Vec<u8> = queue.take(9, 1 << 20).iter().map(|span| span.trace[0]).collect();
            left.sort_unstable();
            assert_eq!(left, [7, 8, 9], "{limits:?}");
        }
    }
}
