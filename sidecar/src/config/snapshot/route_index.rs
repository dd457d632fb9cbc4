//! The index over a service's rules, built with the snapshot, so that a request among a thousand rules costs a few
//! look-ups. Precedence is the Gateway API's (HTTPRouteRule, `matches`): the most specific host, then an exact path
//! before the longest prefix, then a method, then the most header conditions, then the
//! most query conditions, then the order of the policy.

use std::{collections::HashMap, sync::Arc};

use super::route::{Match, PathMatch, Rule};

type Map<V> = HashMap<Box<str>, V, foldhash::fast::FixedState>;

/// A match and the rule it leads to.
#[derive(Debug)]
pub struct TableEntry {
    /// The condition.
    pub condition: Match,
    /// The rule.
    pub rule: Arc<Rule>,
}

/// All rules of one port of a service.
#[derive(Debug, Default)]
pub struct RouteTable {
    /// Rules for one exact host, in lower case.
    pub exact_hosts: Map<PathIndex>,
    /// Rules for hosts under a suffix, dot included: `*.example.com` is `.example.com`.
    pub suffix_hosts: Map<PathIndex>,
    /// Rules for any host.
    pub any_host: PathIndex,
    /// How many entries there are.
    pub entries: usize,
}

/// The entries of one host by path; in each list the most specific comes first.
#[derive(Debug, Default)]
pub struct PathIndex {
    /// By the whole path.
    pub exact: Map<Vec<TableEntry>>,
    /// By prefix, without the slash at the end.
    pub prefix: Map<Vec<TableEntry>>,
    /// Length of the longest prefix in bytes: what lies behind it in a path needs no look-up.
    pub longest_prefix: usize,
    /// Regular expressions, in the order of precedence.
    pub regex: Vec<TableEntry>,
}

impl RouteTable {
    /// Whether there are no rules at all.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Adds a match, in the order of the policy. `host`: `None` or `*` for any, `*.suffix` for a wildcard.
    pub fn insert(&mut self, host: Option<&str>, condition: Match, rule: Arc<Rule>) {
        let host = host.unwrap_or("*").to_ascii_lowercase();
        let index = match host.strip_prefix('*') {
            Some("") => &mut self.any_host,
            Some(suffix) => self.suffix_hosts.entry(suffix.into()).or_default(),
            None => self.exact_hosts.entry(host.into_boxed_str()).or_default(),
        };
        index.insert(TableEntry { condition, rule });
        self.entries += 1;
    }
}

impl PathIndex {
    fn insert(&mut self, entry: TableEntry) {
        let list = match &entry.condition.path {
            PathMatch::Exact(path) => self.exact.entry(path.clone()).or_default(),
            PathMatch::Prefix(prefix) => {
                self.longest_prefix = self.longest_prefix.max(prefix.len());
                self.prefix.entry(prefix.clone()).or_default()
            }
            PathMatch::Regex(_) => &mut self.regex,
        };
        let at = list.partition_point(|e| e.condition.specificity() >= entry.condition.specificity());
        list.insert(at, entry);
    }
}

/// What decides between conditions of the same host and path, the greater first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Specificity {
    /// The length of a regular expression for the path.
    pub regex: usize,
    /// Whether a method is named.
    pub method: bool,
    /// Conditions on headers.
    pub headers: usize,
    /// Conditions on query parameters.
    pub query: usize,
}

impl Match {
    /// How specific it is, host and path left out.
    pub fn specificity(&self) -> Specificity {
        let regex = match &self.path {
            PathMatch::Regex(regex) => regex.as_str().len(),
            PathMatch::Exact(_) | PathMatch::Prefix(_) => 0,
        };
        Specificity {
            regex,
            method: self.method.is_some(),
            headers: self.headers.len(),
            query: self.query.len(),
        }
    }
}
