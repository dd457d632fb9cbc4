//! One worker's chains. Policy holds filters as data; a chain is made of them when it is first needed on this worker, and
//! lives as long as the policy that it belongs to.

use std::{
    collections::HashMap,
    rc::Rc,
    sync::{Arc, Weak},
    time::Duration,
};

use super::{Chain, Filter, headers::Headers, sources::Sources};
use crate::config::snapshot::{FilterChain, FilterSpec};

/// The chains that were needed so far.
#[derive(Debug, Default)]
pub struct Chains {
    /// By the data's address. The weak handle keeps the address from being given to other data meanwhile.
    made: HashMap<*const FilterChain, (Weak<FilterChain>, Chain), foldhash::fast::FixedState>,
}

impl Chains {
    /// The chain of this data.
    pub fn of(&mut self, data: &Arc<FilterChain>) -> Chain {
        let made = || (Arc::downgrade(data), Chain::new(data.0.iter().map(filter).collect()));
        self.made.entry(Arc::as_ptr(data)).or_insert_with(made).1.clone()
    }

    /// Forgets the chains whose policy is gone, and gives the others the time. A request under way keeps its own.
    pub fn tick(&mut self, now: Duration) {
        self.made.retain(|_, (data, _)| data.strong_count() > 0);
        for (_, chain) in self.made.values() {
            chain.tick(now);
        }
    }

    /// Has this data mean these filters, whatever it says.
    #[cfg(test)]
    pub(crate) fn put(&mut self, data: &Arc<FilterChain>, chain: Chain) {
        self.made.insert(Arc::as_ptr(data), (Arc::downgrade(data), chain));
    }
}

fn filter(data: &FilterSpec) -> Rc<dyn Filter> {
    match data {
        FilterSpec::RequestHeaders(changes) => Rc::new(Headers::new(Some(changes.clone()), None)),
        FilterSpec::ResponseHeaders(changes) => Rc::new(Headers::new(None, Some(changes.clone()))),
        FilterSpec::Sources(ranges) => Rc::new(Sources::new(ranges.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::snapshot::HeaderModifier,
        filter::{
            Phases,
            tests::{Log, Told},
        },
    };

    fn data() -> Arc<FilterChain> {
        Arc::new(FilterChain(vec![FilterSpec::RequestHeaders(HeaderModifier::default())]))
    }

    #[test]
    fn a_chain_is_made_once_for_its_data() {
        let (mut chains, data) = (Chains::default(), [data(), data()]);
        let first = chains.of(&data[0]);
        assert!(Rc::ptr_eq(&first.filters, &chains.of(&data[0]).filters));
        assert!(!Rc::ptr_eq(&first.filters, &chains.of(&data[1]).filters));
        assert_eq!(first.phases, Phases::REQUEST_HEADERS);
    }

    #[test]
    fn a_tick_reaches_the_filters_and_forgets_policy_that_is_gone() {
        let (mut chains, log) = (Chains::default(), Log::default());
        let (kept, gone) = (data(), data());
        for (data, name) in [(&kept, "kept"), (&gone, "gone")] {
            chains.put(data, Chain::new(vec![Rc::new(Told::new(name, Phases::TICK, &log))]));
        }
        drop(gone);
        chains.tick(Duration::from_secs(7));
        assert_eq!(*log.borrow(), ["kept tick 7s"]);
        assert_eq!(chains.made.len(), 1);
    }
}
