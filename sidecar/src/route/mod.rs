//! The route table: which rule serves a request, what it changes, and which backend gets its share.
//!
//! Everything here is a function of its arguments. Precedence is the Gateway API's (HTTPRoute v1):
//!
//! * *Hosts.* `HTTPRouteSpec.hostnames` gives precedence to *rules* of the exact host, then of the longest wildcard,
//!   then of no host at all. It is a precedence among rules that match, not a choice of one host: where no rule of the
//!   more specific host matches, the rules of the next one are asked, and only at the end of all is it 404. A wildcard
//!   stands for one or more labels.
//! * *Within a host.* `HTTPRouteRule.matches`: an exact path, then the longest prefix, then a method, then the most
//!   headers, then the most query parameters, then the order of the policy. The place of regular expressions is left
//!   to the implementation: ours is after every prefix that names a segment and before the prefix `/`, which every
//!   rule without a path has; behind it no regular expression would ever be reached.

mod condition;
mod consider;
mod rejected;
pub mod rewrite;
mod words;

#[cfg(test)]
mod tests;

use std::{borrow::Cow, sync::Arc};

use http::{HeaderMap, Method};

pub use self::{
    consider::{Considered, Host, Precedence, Unmet, consider},
    rejected::rejected,
};
use crate::config::snapshot::{Backend, PathIndex, RouteTable, Rule, TableEntry};

/// The longest name that can be a host's (RFC 1123 section 2.1, with a dot at the end).
const LONGEST_HOST: usize = 254;

/// What a request is asked for, as the table needs it.
#[derive(Clone, Copy, Debug)]
pub struct Inquiry<'r> {
    /// Host or `:authority`, in any case, with or without a port; empty: none was sent.
    pub host: &'r str,
    /// The path, as sent.
    pub path: &'r str,
    /// The query, without the question mark.
    pub query: Option<&'r str>,
    /// The method.
    pub method: &'r Method,
    /// The headers.
    pub headers: &'r HeaderMap,
}

/// The rule that serves the request. No allocation, unless the host has upper case letters.
pub fn find<'t>(table: &'t RouteTable, request: &Inquiry<'_>) -> Option<&'t Arc<Rule>> {
    let host = asked_host(request);
    let exact = table.exact_hosts.get(&*host);
    let wildcards = suffixes(&host).filter_map(|suffix| table.suffix_hosts.get(suffix));
    let mut hosts = exact.into_iter().chain(wildcards).chain([&table.any_host]);
    hosts.find_map(|index| find_path(index, request))
}

/// The backend that gets this request: `draw` is spread over the weights. `None`: there is none, or all weigh nothing.
pub fn pick_backend(backends: &[Backend], draw: u64) -> Option<&Backend> {
    let total: u64 = backends.iter().map(|b| u64::from(b.weight)).sum();
    let mut place = u64::try_from((u128::from(draw) * u128::from(total)) >> 64).unwrap_or(0);
    backends.iter().find(|backend| {
        let weight = u64::from(backend.weight);
        let here = place < weight;
        place = place.saturating_sub(weight);
        here
    })
}

/// The host that is asked for, as the table spells it.
fn asked_host<'r>(request: &Inquiry<'r>) -> Cow<'r, str> {
    let host = hostname(request.host);
    // A longer one matches no name, and would make the look-ups by suffix quadratic.
    if host.len() > LONGEST_HOST { Cow::Borrowed("") } else { lower(host) }
}

/// The host of an authority, without port and final dot.
fn hostname(authority: &str) -> &str {
    let host = match authority.find(']') {
        Some(end) if authority.starts_with('[') => &authority[..=end],
        _ => authority.split(':').next().unwrap_or_default(),
    };
    host.strip_suffix('.').unwrap_or(host)
}

fn lower(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|b| b.is_ascii_uppercase()) { host.to_ascii_lowercase().into() } else { host.into() }
}

/// `.b.c` and `.c` of `a.b.c`.
fn suffixes(host: &str) -> impl Iterator<Item = &str> {
    memchr::memchr_iter(b'.', host.as_bytes()).filter(|&at| at > 0).map(|at| &host[at..])
}

fn find_path<'t>(index: &'t PathIndex, request: &Inquiry<'_>) -> Option<&'t Arc<Rule>> {
    if let Some(rule) = index.exact.get(request.path).and_then(|entries| first(entries, request)) {
        return Some(rule);
    }
    let mut by_prefix = prefixes(request.path, index.longest_prefix)
        .filter_map(|prefix| index.prefix.get(prefix))
        .filter_map(|entries| first(entries, request));
    if let Some(rule) = by_prefix.next() {
        return Some(rule);
    }
    let by_regex = || first(&index.regex, request);
    let by_nothing = || index.prefix.get("").and_then(|entries| first(entries, request));
    by_regex().or_else(by_nothing)
}

/// `/a/b` and `/a` of `/a/b/c` when `longest` is 4; longest first, the empty one left out.
fn prefixes(path: &str, longest: usize) -> impl Iterator<Item = &str> {
    let whole = (path.len() <= longest).then_some(path.len());
    let reach = path.len().min(longest.saturating_add(1));
    let slashes = memchr::memrchr_iter(b'/', &path.as_bytes()[..reach]);
    whole.into_iter().chain(slashes).filter(|&end| end > 0).map(|end| &path[..end])
}

fn first<'t>(entries: &'t [TableEntry], request: &Inquiry<'_>) -> Option<&'t Arc<Rule>> {
    entries.iter().find(|entry| condition::holds(&entry.condition, request)).map(|entry| &entry.rule)
}
