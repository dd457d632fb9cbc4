//! What the sidecar tells about its traffic: metrics, traces, access log.
//!
//! A request's way fills a [`Record`]; at its end the record feeds the worker's counters, and only then, and only if
//! somebody wants it, becomes a log line or a span. Nothing is formatted for nobody.

pub mod record;

pub use self::record::{Direction, Protocol, Record, Security, TraceContext};
