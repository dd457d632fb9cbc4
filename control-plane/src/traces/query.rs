//! Which traces of the window are wanted. Pure.

use std::sync::Arc;

use trama_proto::admin::v1::TraceSummary;

use super::{Traces, show, span::KeptSpan};

/// Which traces are wanted: those with one span that fits all of these. An empty text or a zero takes any.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// `namespace/name`.
    pub(crate) service: String,
    pub(crate) route: String,
    pub(crate) region: String,
    pub(crate) status: u16,
    pub(crate) failed: bool,
    pub(crate) reason: String,
    /// In nanoseconds.
    pub(crate) min_duration: u64,
    /// The trace begins at this time or later, in nanoseconds since 1970.
    pub(crate) after: u64,
    /// The trace begins before this time.
    pub(crate) before: u64,
}

impl Filter {
    fn takes(&self, spans: &[Arc<KeptSpan>]) -> bool {
        let start = spans.iter().map(|span| span.facts.start).min().unwrap_or_default();
        start >= self.after
            && (self.before == 0 || start < self.before)
            && spans.iter().any(|span| self.fits(span))
    }

    fn fits(&self, span: &KeptSpan) -> bool {
        let facts = &span.facts;
        let is = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        is(&self.service, &facts.service)
            && is(&self.route, &facts.route)
            && is(&self.region, &facts.region)
            && is(&self.reason, &facts.reason)
            && (self.status == 0 || self.status == facts.status)
            && (!self.failed || facts.failed)
            && facts.end - facts.start >= self.min_duration
    }
}

/// A page of traces.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) traces: Vec<TraceSummary>,
    /// Asks for the next page; empty: this is the last one.
    pub(crate) next: String,
}

impl Traces {
    /// The traces that are wanted, the newest first: those after the page with this token, or from the newest on. `None`:
    /// the token is none of this run's.
    pub(crate) fn page(&self, filter: &Filter, size: usize, token: &str) -> Option<Page> {
        let before = match token {
            "" => None,
            token => Some(self.place_of(token)?),
        };
        let mut core = self.core();
        core.window.expire(self.now());
        let mut found = core.window.find(before, |spans| filter.takes(spans));
        let page: Vec<_> = found.by_ref().take(size).collect();
        let last = page.last().filter(|_| found.next().is_some());
        let next = last.map(|(place, ..)| format!("{:x}-{place:x}", self.run)).unwrap_or_default();
        Some(Page { traces: page.iter().map(|(_, id, spans)| show::summary(id, spans)).collect(), next })
    }

    fn place_of(&self, token: &str) -> Option<u64> {
        let (run, place) = token.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        (number(run)? == self.run).then(|| number(place)).flatten()
    }
}
