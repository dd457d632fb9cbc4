//! Why the other rules of a service did not serve a request, for its span. Asked for kept traces only: it costs what finding
//! does not.

use std::sync::Arc;

use super::{Considered, Inquiry, consider};
use crate::{
    config::snapshot::RouteTable,
    telemetry::{Rejected, RejectedRule},
};

/// A table with more conditions than these is not gone through while a request waits.
const MOST_CONSIDERED: usize = 200;
/// Conditions that are told. With the bounds below, and names of at most three labels, a span stays far under the 64 KiB above
/// which the control plane refuses it.
const MOST_TOLD: usize = 16;
/// Parts of a condition that are told.
const MOST_PARTS: usize = 8;

/// The conditions of all rules but the one that serves the request, in the order of precedence. If there are too many, those of
/// which least does not hold.
pub fn rejected(table: &RouteTable, request: &Inquiry<'_>) -> Rejected {
    if table.entries > MOST_CONSIDERED {
        return Rejected { rules: Vec::new(), left_out: table.entries };
    }
    let considered = consider(table, request);
    let chosen = considered.iter().find(|it| it.unmet.is_empty());
    let serves =
        |it: &Considered<'_>| chosen.is_some_and(|chosen| Arc::ptr_eq(&chosen.entry.rule, &it.entry.rule));
    let others: Vec<_> = considered.iter().filter(|it| !serves(it)).collect();
    let told = nearest(&others);
    let left_out = others.len() - told.len();
    let rule = |it: &Considered<'_>| RejectedRule {
        rule: Arc::clone(&it.entry.rule.name),
        why: why(it, chosen, request),
    };
    Rejected { rules: told.into_iter().map(rule).collect(), left_out }
}

/// Those of which least does not hold, in their order.
fn nearest<'c, 't>(others: &[&'c Considered<'t>]) -> Vec<&'c Considered<'t>> {
    let mut places: Vec<_> = (0..others.len()).collect();
    places.sort_by_key(|&at| others[at].unmet.len());
    places.truncate(MOST_TOLD);
    places.sort_unstable();
    places.into_iter().map(|at| others[at]).collect()
}

fn why(it: &Considered<'_>, chosen: Option<&Considered<'_>>, request: &Inquiry<'_>) -> String {
    if let Some(chosen) = chosen.filter(|_| it.unmet.is_empty()) {
        return format!("holds too, but {}", chosen.precedes(it).words());
    }
    let told = it.unmet.iter().take(MOST_PARTS);
    let mut parts: Vec<_> = told.map(|unmet| unmet.words(&it.entry.condition, request)).collect();
    let more = it.unmet.len() - parts.len();
    if more > 0 {
        parts.push(format!("and {more} more"));
    }
    parts.join("; ")
}
