//! Traces: the context is read for every request, a span is made only of kept ones, at their end.
//!
//! A request whose trace is kept gets our span's id into its headers, so that the next hop's parent is our span. One
//! whose trace is not kept passes as it came: with the header that it brought, or with none. There is no span of ours
//! that could be anybody's parent, and it costs one look-up. So does one with a broken header, which means nothing to
//! whoever gets it: to take it out would cost three times as much as all else. A mesh that traces nothing so leaves the tracing of its
//! applications alone.

mod context;
mod export;
mod hex;
mod receiver;
mod sampling;
mod span;
mod state;

use std::cell::RefCell;

use http::HeaderMap;

use self::context::Incoming;
pub use self::receiver::{ReceiverTls, channel as channel_to_receiver};
pub(crate) use self::{
    export::{Exporter, ExporterSettings},
    sampling::Draw,
};
use super::record::TraceContext;

/// What one worker needs to continue and begin traces.
#[derive(Debug)]
pub(crate) struct Tracer {
    draw: RefCell<Draw>,
}

impl Tracer {
    pub(crate) fn new(draw: Draw) -> Self {
        Self { draw: RefCell::new(draw) }
    }

    /// Continues the trace that a request came with, or begins one with this probability, and has the headers say so
    /// if it is kept. Whoever began a trace has decided about it. `None`: the request belongs to no trace.
    #[inline(always)]
    pub(crate) fn trace(&self, headers: &mut HeaderMap, ratio: impl FnOnce() -> f64) -> Option<TraceContext> {
        match Incoming::of(headers) {
            Incoming::Dropped(context) => Some(context),
            Incoming::Kept(context) => Some(self.go_on(context, headers)),
            Incoming::Absent | Incoming::Invalid => {
                let id = self.draw.borrow_mut().kept_trace_id(ratio())?;
                Some(self.begin(id, headers))
            }
        }
    }

    /// Apart, as `begin` is: what most requests need is short.
    #[inline(never)]
    fn go_on(&self, context: TraceContext, headers: &mut HeaderMap) -> TraceContext {
        state::bound(headers);
        let context = context.with_span(&mut self.draw.borrow_mut());
        context.write(headers);
        context
    }

    #[inline(never)]
    fn begin(&self, id: u128, headers: &mut HeaderMap) -> TraceContext {
        headers.remove(&state::TRACESTATE);
        let context = TraceContext::begun(id, &mut self.draw.borrow_mut());
        context.write(headers);
        context
    }

    /// Gives the next attempt its own span, if there are spans. The headers are those of the attempt before.
    pub(crate) fn retrace(&self, context: TraceContext, headers: &mut HeaderMap) -> TraceContext {
        if !context.sampled {
            return context;
        }
        let context = context.with_span(&mut self.draw.borrow_mut());
        context.write(headers);
        context
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-";

    fn tracer() -> Tracer {
        Tracer::new(Draw::seeded(1, 2))
    }

    fn headers(traceparent: &str) -> HeaderMap {
        let pairs = [("traceparent", traceparent), ("tracestate", "vendor=1")];
        pairs.into_iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect()
    }

    fn said(headers: &HeaderMap) -> (&str, &str) {
        let value = |name| headers.get(name).map_or("", |v| v.to_str().unwrap());
        (value("traceparent"), value("tracestate"))
    }

    #[test]
    fn a_kept_trace_is_continued_with_our_span_as_parent() {
        let mut headers = headers(&format!("{PARENT}03"));
        let context = tracer().trace(&mut headers, || 0.0).unwrap();
        assert_eq!(context.parent_id, 0x00f0_67aa_0ba9_02b7);
        let expected = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{:016x}-03", context.span_id);
        assert_eq!(said(&headers), (expected.as_str(), "vendor=1"));
    }

    #[test]
    fn what_is_not_kept_passes_as_it_came_whatever_the_ratio() {
        let text = format!("{PARENT}00");
        let mut headers = headers(&text);
        let context = tracer().trace(&mut headers, || 1.0).unwrap();
        assert!(!context.sampled);
        assert_eq!(said(&headers), (text.as_str(), "vendor=1"));
        assert_eq!(tracer().trace(&mut HeaderMap::new(), || 0.0), None);
    }

    #[test]
    fn a_broken_context_passes_or_a_trace_begins_in_its_place() {
        let text = format!("{PARENT}zz");
        let mut broken = headers(&text);
        assert_eq!(tracer().trace(&mut broken, || 0.0), None);
        assert_eq!(said(&broken), (text.as_str(), "vendor=1"));
        broken.append("traceparent", text.parse().unwrap());
        let context = tracer().trace(&mut broken, || 1.0).unwrap();
        assert_eq!((context.parent_id, context.sampled, context.random), (0, true, true));
        assert!(said(&broken).0.ends_with("-03") && said(&broken).1.is_empty());
        assert_eq!(broken.get_all("traceparent").iter().count(), 1);
    }

    #[test]
    fn attempts_stand_beside_each_other() {
        let (tracer, mut headers) = (tracer(), headers(&format!("{PARENT}01")));
        let first = tracer.trace(&mut headers, || 0.0).unwrap();
        let second = tracer.retrace(first, &mut headers);
        assert_ne!(second.span_id, first.span_id);
        assert_eq!(second.parent_id, first.parent_id);
        assert!(said(&headers).0.contains(&format!("{:016x}", second.span_id)));
    }
}
