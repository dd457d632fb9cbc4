//! Traces: the context is read and passed on for every request, a span is made only of kept ones, at their end.

mod context;
mod export;
mod hex;
mod sampling;
mod span;
mod state;

use std::cell::RefCell;

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue};

pub(crate) use self::export::{Exporter, ExporterSettings};
use self::{context::Incoming, sampling::Draw};
use super::record::TraceContext;

/// What one worker needs to continue and begin traces.
#[derive(Debug)]
pub(crate) struct Tracer {
    draw: RefCell<Draw>,
    values: RefCell<Values>,
}

impl Tracer {
    pub(crate) fn new() -> Self {
        Self { draw: RefCell::new(Draw::new()), values: RefCell::default() }
    }

    /// Continues the trace that a request came with, or begins one, and has the headers say so.
    pub(crate) fn trace(&self, headers: &mut HeaderMap, ratio: f64) -> TraceContext {
        let mut draw = self.draw.borrow_mut();
        let Some(incoming) = Incoming::from_headers(headers) else {
            headers.remove(&state::TRACESTATE);
            let context = TraceContext::begun(&mut draw, ratio);
            context::write(headers, self.values.borrow_mut().value(&context));
            return context;
        };
        state::bound(headers);
        let context = TraceContext::continued(incoming, &mut draw);
        if incoming.is_rewritten() {
            context::write(headers, self.values.borrow_mut().value(&context));
        }
        context
    }

    /// Gives the next attempt its own span. The headers are those of the attempt before.
    pub(crate) fn retrace(&self, context: TraceContext, headers: &mut HeaderMap) -> TraceContext {
        if !context.sampled {
            return context;
        }
        let context = context.again(&mut self.draw.borrow_mut());
        context::write(headers, self.values.borrow_mut().value(&context));
        context
    }
}

/// Header values cut from a shared block, so that not each of them is an allocation. The block is used again once all
/// that was cut from it is gone.
#[derive(Debug, Default)]
struct Values(BytesMut);

const BLOCK: usize = 4096;

impl Values {
    fn value(&mut self, context: &TraceContext) -> HeaderValue {
        if self.0.capacity() < context::LENGTH {
            self.0.reserve(BLOCK);
        }
        self.0.extend_from_slice(&context.render());
        let text = self.0.split().freeze();
        HeaderValue::from_maybe_shared(text).expect("digits and dashes make a header's value")
    }
}
