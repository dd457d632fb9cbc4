//! What [`find`](super::find) answers in a few look-ups, told at length: every condition of a table in the order of
//! precedence, and what of it does not hold. By the same functions, so that the two cannot disagree.

use http::HeaderName;

use super::{Inquiry, asked_host, condition, prefixes, suffixes};
use crate::config::snapshot::{Match, PathIndex, PathMatch, RouteTable, TableEntry};

/// A condition of a table, for a request.
#[derive(Debug)]
pub struct Considered<'t> {
    /// The hosts that it is for.
    pub host: Host<'t>,
    /// The condition, and the rule it leads to.
    pub entry: &'t TableEntry,
    /// What does not hold; nothing: all of it holds.
    pub unmet: Vec<Unmet<'t>>,
}

/// Hosts that a condition is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Host<'t> {
    /// This one.
    Exact(&'t str),
    /// Those that end so, dot included.
    Suffix(&'t str),
    /// Any.
    Any,
}

/// A part of a condition that does not hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unmet<'t> {
    /// The host.
    Host,
    /// The path.
    Path,
    /// The method.
    Method,
    /// A header field.
    Header {
        /// Its name.
        name: &'t HeaderName,
        /// Whether the request has it, with another value.
        sent: bool,
    },
    /// A query parameter.
    Query {
        /// Its name.
        name: &'t str,
        /// Whether the request has it, with another value.
        sent: bool,
    },
}

/// Why one of two conditions that hold comes first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Precedence {
    /// Its host is more specific.
    Host,
    /// Its path is.
    Path,
    /// It names a method.
    Method,
    /// It has more conditions on headers.
    Headers,
    /// It has more conditions on query parameters.
    Query,
    /// It comes first in the policy.
    Order,
}

/// All conditions in the order of precedence. The first of which all holds is that of the rule that `find` finds.
pub fn consider<'t>(table: &'t RouteTable, request: &Inquiry<'_>) -> Vec<Considered<'t>> {
    let host = asked_host(request);
    let mut considered = Vec::new();
    let mut exact: Vec<_> = table.exact_hosts.iter().collect();
    exact.sort_by_key(|(name, _)| *name);
    for (name, index) in exact {
        within(index, Host::Exact(name), **name == *host, request, &mut considered);
    }
    let mut wildcards: Vec<_> = table.suffix_hosts.iter().collect();
    wildcards.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then(a.cmp(b)));
    for (suffix, index) in wildcards {
        let holds = suffixes(&host).any(|asked| asked == &**suffix);
        within(index, Host::Suffix(suffix), holds, request, &mut considered);
    }
    within(&table.any_host, Host::Any, true, request, &mut considered);
    considered
}

impl Considered<'_> {
    /// Why this one comes before another one that holds too.
    pub fn precedes(&self, other: &Self) -> Precedence {
        let (own, others) = (&self.entry.condition, &other.entry.condition);
        let (own_rank, others_rank) = (own.specificity(), others.specificity());
        if self.host != other.host {
            Precedence::Host
        } else if key(own) != key(others) || own_rank.regex != others_rank.regex {
            Precedence::Path
        } else if own_rank.method != others_rank.method {
            Precedence::Method
        } else if own_rank.headers != others_rank.headers {
            Precedence::Headers
        } else if own_rank.query != others_rank.query {
            Precedence::Query
        } else {
            Precedence::Order
        }
    }
}

/// The list of the index that a condition is in.
fn key(condition: &Match) -> (u8, &str) {
    match &condition.path {
        PathMatch::Exact(path) => (0, path),
        PathMatch::Prefix(prefix) => (1, prefix),
        PathMatch::Regex(_) => (2, ""),
    }
}

/// The conditions of one host.
fn within<'t>(
    index: &'t PathIndex,
    host: Host<'t>,
    host_holds: bool,
    request: &Inquiry<'_>,
    considered: &mut Vec<Considered<'t>>,
) {
    let mut add = |entries: &'t [TableEntry], path_holds: bool| {
        considered.extend(entries.iter().map(|entry| {
            let host_unmet = (!host_holds).then_some(Unmet::Host);
            let path_unmet = (!path_holds).then_some(Unmet::Path);
            let rest = condition::unmet(&entry.condition, request);
            Considered { host, entry, unmet: host_unmet.into_iter().chain(path_unmet).chain(rest).collect() }
        }));
    };
    let mut exact: Vec<_> = index.exact.iter().collect();
    exact.sort_by_key(|(path, _)| *path);
    for (path, entries) in exact {
        add(entries, **path == *request.path);
    }
    let mut by_prefix: Vec<_> = index.prefix.iter().filter(|(prefix, _)| !prefix.is_empty()).collect();
    by_prefix.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then(a.cmp(b)));
    for (prefix, entries) in by_prefix {
        add(entries, prefixes(request.path, index.longest_prefix).any(|asked| asked == &**prefix));
    }
    add(&index.regex, true);
    if let Some(entries) = index.prefix.get("") {
        add(entries, true);
    }
}
