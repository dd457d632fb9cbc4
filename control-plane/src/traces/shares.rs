//! What each sender takes of something that all of them share, so that whoever takes most is the one who loses: the drop
//! from the longest queue of fair queueing (McKenney, "Stochastic Fairness Queueing", 1990). Pure.

use std::collections::{BTreeSet, HashMap};

use trama_proto::spiffe::SpiffeId;

/// The shares of all senders.
#[derive(Debug, Default)]
pub(super) struct Shares {
    of: HashMap<SpiffeId, u64>,
    /// The same, the heaviest last.
    order: BTreeSet<(u64, SpiffeId)>,
    total: u64,
}

impl Shares {
    /// All of them together.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Who has most.
    pub(super) fn heaviest(&self) -> Option<&SpiffeId> {
        self.order.last().map(|(_, sender)| sender)
    }

    /// A sender takes more.
    pub(super) fn add(&mut self, sender: &SpiffeId, weight: u64) {
        self.change(sender, |share| share + weight);
        self.total += weight;
    }

    /// A sender gives back what it has taken.
    pub(super) fn give_back(&mut self, sender: &SpiffeId, weight: u64) {
        self.change(sender, |share| share.saturating_sub(weight));
        self.total = self.total.saturating_sub(weight);
    }

    fn change(&mut self, sender: &SpiffeId, change: impl FnOnce(u64) -> u64) {
        let before = self.of.get(sender).copied().unwrap_or_default();
        self.order.remove(&(before, sender.clone()));
        match change(before) {
            0 => drop(self.of.remove(sender)),
            after => {
                self.of.insert(sender.clone(), after);
                self.order.insert((after, sender.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_is_known_and_who_has_nothing_is_forgotten() {
        let [a, b] = ["a", "b"].map(|name| SpiffeId::parse(&format!("spiffe://mesh.test/{name}")).unwrap());
        let mut shares = Shares::default();
        assert_eq!(shares.heaviest(), None);
        shares.add(&a, 3);
        shares.add(&b, 2);
        assert_eq!((shares.heaviest(), shares.total()), (Some(&a), 5));
        shares.add(&b, 2);
        assert_eq!(shares.heaviest(), Some(&b));
        shares.give_back(&b, 4);
        assert_eq!((shares.heaviest(), shares.total()), (Some(&a), 3));
        shares.give_back(&a, 3);
        assert_eq!((shares.of.len(), shares.order.len(), shares.total()), (0, 0, 0));
    }
}
