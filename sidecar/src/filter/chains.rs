//! One worker's chains. Policy holds a rule's filters as data; a chain is made of them when the first request takes the
//! rule on this worker, and lives as long as the policy that the rule belongs to.

use std::{
    collections::HashMap,
    rc::Rc,
    sync::{Arc, Weak},
    time::Duration,
};

use super::{Chain, Filter, headers::Headers};
use crate::config::snapshot::{RouteFilter, Rule};

/// The chains of the rules that requests took.
#[derive(Debug, Default)]
pub struct Chains {
    /// By the rule's address. The weak handle keeps the address from being given to another rule meanwhile.
    by_rule: HashMap<*const Rule, (Weak<Rule>, Chain), foldhash::fast::FixedState>,
}

impl Chains {
    /// The chain of a rule. Not worth asking for a rule without filters.
    pub fn of(&mut self, rule: &Arc<Rule>) -> Chain {
        let made = || (Arc::downgrade(rule), Chain::new(rule.filters.iter().map(filter).collect()));
        self.by_rule.entry(Arc::as_ptr(rule)).or_insert_with(made).1.clone()
    }

    /// Forgets the chains of rules that are gone, and gives the others the time. A request under way keeps its own.
    pub fn tick(&mut self, now: Duration) {
        self.by_rule.retain(|_, (rule, _)| rule.strong_count() > 0);
        for (_, chain) in self.by_rule.values() {
            chain.tick(now);
        }
    }

    /// Has a rule take these filters, whatever it says.
    #[cfg(test)]
    pub(crate) fn put(&mut self, rule: &Arc<Rule>, chain: Chain) {
        self.by_rule.insert(Arc::as_ptr(rule), (Arc::downgrade(rule), chain));
    }
}

fn filter(data: &RouteFilter) -> Rc<dyn Filter> {
    Rc::new(match data {
        RouteFilter::RequestHeaders(changes) => Headers::new(Some(changes.clone()), None),
        RouteFilter::ResponseHeaders(changes) => Headers::new(None, Some(changes.clone())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::snapshot::{HeaderModifier, RetryPolicy, RuleAction, RuleTimeouts},
        filter::{
            Phases,
            tests::{Log, Told},
        },
    };

    fn rule() -> Arc<Rule> {
        Arc::new(Rule {
            name: "shop/orders/0".into(),
            rewrite: None,
            filters: vec![RouteFilter::RequestHeaders(HeaderModifier::default())],
            action: RuleAction::Forward(Vec::new()),
            timeouts: RuleTimeouts::default(),
            retry: RetryPolicy::default(),
        })
    }

    #[test]
    fn a_chain_is_made_once_for_each_rule() {
        let (mut chains, rules) = (Chains::default(), [rule(), rule()]);
        let first = chains.of(&rules[0]);
        assert!(Rc::ptr_eq(&first.filters, &chains.of(&rules[0]).filters));
        assert!(!Rc::ptr_eq(&first.filters, &chains.of(&rules[1]).filters));
        assert_eq!(first.phases, Phases::REQUEST_HEADERS);
    }

    #[test]
    fn a_tick_reaches_the_filters_and_forgets_rules_that_are_gone() {
        let (mut chains, log) = (Chains::default(), Log::default());
        let (kept, gone) = (rule(), rule());
        for (rule, name) in [(&kept, "kept"), (&gone, "gone")] {
            chains.put(rule, Chain::new(vec![Rc::new(Told::new(name, Phases::TICK, &log))]));
        }
        drop(gone);
        chains.tick(Duration::from_secs(7));
        assert_eq!(*log.borrow(), ["kept tick 7s"]);
        assert_eq!(chains.by_rule.len(), 1);
    }
}
