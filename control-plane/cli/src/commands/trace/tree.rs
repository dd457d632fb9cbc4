//! The spans of a trace as one tree, whoever wrote them. Pure.

use std::collections::HashMap;

use trama_proto::admin::v1::TraceSpan;

/// A span's place in the tree.
#[derive(Debug)]
pub(super) struct Branch<'t> {
    pub(super) span: &'t TraceSpan,
    pub(super) depth: usize,
    /// What stands before it where the tree is drawn.
    pub(super) before: String,
    /// What stands before further lines of it.
    pub(super) beneath: String,
}

/// The spans from top to bottom: each beneath the one that it comes from, and beside its siblings in their order. One that
/// comes from a span that is not here begins a tree of its own. Ids are what their senders say: whatever that is, each span
/// is there once.
pub(super) fn branches(spans: &[TraceSpan]) -> Vec<Branch<'_>> {
    let mut by_id = HashMap::new();
    for (index, span) in spans.iter().enumerate() {
        by_id.entry(span.id.as_str()).or_insert(index);
    }
    let mut children = vec![Vec::new(); spans.len()];
    let mut tops = Vec::new();
    for (index, span) in spans.iter().enumerate() {
        match by_id.get(span.parent.as_str()) {
            Some(&parent) if parent != index => children[parent].push(index),
            _ => tops.push(index),
        }
    }
    let mut grown = Grown { spans, children, seen: vec![false; spans.len()], branches: Vec::new() };
    // Those that come from each other in a circle are reached from no top.
    tops.into_iter().chain(0..spans.len()).for_each(|top| grown.grow(top));
    grown.branches
}

struct Grown<'t> {
    spans: &'t [TraceSpan],
    children: Vec<Vec<usize>>,
    seen: Vec<bool>,
    branches: Vec<Branch<'t>>,
}

impl Grown<'_> {
    fn grow(&mut self, top: usize) {
        if std::mem::replace(&mut self.seen[top], true) {
            return;
        }
        let mut waiting = vec![(top, 0, String::new(), String::new())];
        while let Some((index, depth, before, within)) = waiting.pop() {
            let mut children = std::mem::take(&mut self.children[index]);
            children.retain(|&child| !std::mem::replace(&mut self.seen[child], true));
            let beneath = format!("{within}{}", if children.is_empty() { "   " } else { "│  " });
            self.branches.push(Branch { span: &self.spans[index], depth, before, beneath });
            // The last one that waits comes next.
            for (from_last, child) in children.into_iter().rev().enumerate() {
                let (corner, line) = if from_last == 0 { ("└─ ", "   ") } else { ("├─ ", "│  ") };
                waiting.push((child, depth + 1, format!("{within}{corner}"), format!("{within}{line}")));
            }
        }
    }
}

/// The spans that others come from and that are not here, in their order.
pub(super) fn absent(spans: &[TraceSpan]) -> Vec<&str> {
    let mut absent: Vec<&str> = Vec::new();
    for parent in spans.iter().map(|span| span.parent.as_str()).filter(|parent| !parent.is_empty()) {
        if !absent.contains(&parent) && !spans.iter().any(|span| span.id == parent) {
            absent.push(parent);
        }
    }
    absent
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(pairs: &[(&str, &str)]) -> Vec<TraceSpan> {
        let span = |(id, parent): &(&str, &str)| TraceSpan {
            id: (*id).to_owned(),
            parent: (*parent).to_owned(),
            ..TraceSpan::default()
        };
        pairs.iter().map(span).collect()
    }

    fn drawn(pairs: &[(&str, &str)]) -> Vec<String> {
        let spans = spans(pairs);
        branches(&spans).iter().map(|branch| format!("{}{}", branch.before, branch.span.id)).collect()
    }

    #[test]
    fn what_comes_from_a_span_stands_beneath_it() {
        // As they come: by their beginnings, and by clocks that are not one.
        let spans = spans(&[("d", "b"), ("a", ""), ("b", "a"), ("c", "a"), ("e", "b")]);
        let branches = branches(&spans);
        let drawn: Vec<_> = branches.iter().map(|it| (it.depth, it.before.clone() + &it.span.id)).collect();
        let expected = [(0, "a"), (1, "├─ b"), (2, "│  ├─ d"), (2, "│  └─ e"), (1, "└─ c")];
        assert_eq!(drawn, expected.map(|(depth, text)| (depth, text.to_owned())));
        let beneath: Vec<_> = branches.iter().map(|it| it.beneath.as_str()).collect();
        assert_eq!(beneath, ["│  ", "│  │  ", "│  │     ", "│        ", "      "]);
    }

    #[test]
    fn what_is_not_here_is_named_and_begins_a_tree() {
        let pairs = [("a", "x"), ("b", "a"), ("c", "x"), ("d", "y"), ("e", "")];
        assert_eq!(drawn(&pairs), ["a", "└─ b", "c", "d", "e"]);
        assert_eq!(absent(&spans(&pairs)), ["x", "y"]);
    }

    #[test]
    fn whatever_the_ids_say_each_span_is_there_once() {
        assert_eq!(drawn(&[]), Vec::<String>::new());
        assert_eq!(drawn(&[("a", "a")]), ["a"]);
        assert_eq!(drawn(&[("a", "b"), ("b", "a"), ("c", "b")]), ["a", "└─ b", "   └─ c"]);
        assert_eq!(drawn(&[("a", ""), ("a", ""), ("b", "a")]), ["a", "└─ b", "a"]);
        let long: Vec<_> = (0..1000).map(|number| (number.to_string(), (number + 1).to_string())).collect();
        let long: Vec<_> = long.iter().map(|(id, parent)| (id.as_str(), parent.as_str())).collect();
        assert_eq!(branches(&spans(&long)).last().unwrap().depth, 999);
    }
}
