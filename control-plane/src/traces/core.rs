//! What all requests share: how much each sender may bring, the window, the queue. Pure; one lock holds it for as long as a
//! request's spans are put in their places.

use std::{sync::Arc, time::Duration};

use trama_proto::spiffe::SpiffeId;

use super::{
    queue::{Queue, QueueLimits},
    span::KeptSpan,
    window::{Lost, Window, WindowLimits},
};
use crate::flood::Floods;

/// What becomes of the spans of a request, for the counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// How many are kept.
    pub(super) spans: u64,
    /// How many are beyond what the sender may bring.
    pub(super) flooded: u64,
    /// How many wait no longer to be sent on, for want of room.
    pub(super) unsent: u64,
    /// What the window lost.
    pub(super) lost: Lost,
}

/// What all requests share.
#[derive(Debug)]
pub(super) struct Core {
    senders: Floods<SpiffeId>,
    pub(super) window: Window,
    /// `None`: nothing is sent on.
    pub(super) queue: Option<Queue>,
}

impl Core {
    pub(super) fn new(each_second: u32, window: WindowLimits, queue: Option<QueueLimits>) -> Self {
        Self { senders: Floods::new(each_second), window: Window::new(window), queue: queue.map(Queue::new) }
    }

    /// Takes the spans of one sender.
    pub(super) fn take(&mut self, sender: &SpiffeId, mut spans: Vec<Arc<KeptSpan>>, now: Duration) -> Taken {
        let granted = self.senders.grant(sender, spans.len(), now);
        let mut taken =
            Taken { spans: granted as u64, flooded: (spans.len() - granted) as u64, ..Taken::default() };
        spans.truncate(granted);
        for span in spans {
            if let Some(queue) = &mut self.queue {
                taken.unsent += queue.push(Arc::clone(&span));
            }
            self.window.keep(span, now);
        }
        taken.lost = self.window.lost();
        taken
    }

    /// Forgets what is too old, and senders who bring nothing.
    pub(super) fn tidy(&mut self, now: Duration) -> Lost {
        self.senders.tidy(now);
        self.window.expire(now);
        self.window.lost()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    const WINDOW: WindowLimits = WindowLimits { traces: 100, bytes: 1 << 20, age: Duration::from_secs(60) };

    #[test]
    fn a_flood_costs_the_sender_alone() {
        let mut core = Core::new(1, WINDOW, Some(QueueLimits { spans: 100, bytes: 1 << 20 }));
        let (flood, orders) = (sender("flood"), sender("orders"));
        let spans = |sender| (1..=20).map(|trace| kept(sender, span(trace, 1))).collect::<Vec<_>>();
        let taken = core.take(&flood, spans(&flood), Duration::ZERO);
        assert_eq!((taken.spans, taken.flooded, taken.unsent), (10, 10, 0));
        let taken = core.take(&orders, spans(&orders)[..10].to_vec(), Duration::ZERO);
        assert_eq!((taken.spans, taken.flooded), (10, 0));
        assert_eq!((core.window.len(), core.queue.as_ref().unwrap().len()), (10, 20));
        let taken = core.take(&flood, spans(&flood), Duration::from_secs(3));
        assert_eq!((taken.spans, taken.flooded), (3, 17));
    }

    #[test]
    fn who_brings_nothing_is_forgotten_and_so_is_what_is_old() {
        let mut core = Core::new(1, WINDOW, None);
        let orders = sender("orders");
        core.take(&orders, vec![kept(&orders, span(1, 1))], Duration::ZERO);
        assert_eq!(core.tidy(Duration::from_millis(500)), Lost::default());
        assert_eq!(core.senders.len(), 1);
        assert_eq!(core.tidy(Duration::from_secs(60)).age, 1);
        assert_eq!((core.senders.len(), core.window.len()), (0, 0));
    }
}
