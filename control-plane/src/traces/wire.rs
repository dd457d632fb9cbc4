//! OTLP's request taken apart no further than to its spans, which stay bytes. A span of two bytes would be decoded to
//! hundreds: a message of a few megabytes could cost a gigabyte. So each span is decoded alone, once its size is known.

use bytes::Bytes;

/// `ExportTraceServiceRequest` of `opentelemetry/proto/collector/trace/v1/trace_service.proto`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ExportRequest {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(super) resource_spans: Vec<Bytes>,
}

/// `ResourceSpans` of `opentelemetry/proto/trace/v1/trace.proto`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RawResourceSpans {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) resource: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(super) scope_spans: Vec<Bytes>,
    #[prost(string, tag = "3")]
    pub(super) schema_url: String,
}

/// `ScopeSpans`, likewise.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RawScopeSpans {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) scope: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(super) spans: Vec<Bytes>,
    #[prost(string, tag = "3")]
    pub(super) schema_url: String,
}
