//! What becomes of the spans of sidecars.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trama_proto::settings::text::{self, DurationText, HttpUrlText};

/// Traces: what sidecars may send, how much of it is kept, and where it goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Traces {
    /// Bytes of one request with spans.
    #[schemars(range(min = 65_536, max = 67_108_864))]
    pub message_bytes: u32,
    /// Spans of one request. Further ones are refused.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub spans_per_request: u32,
    /// Spans that one identity may send each second; ten times as many at once. Further ones are refused.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub spans_per_second: u32,
    /// What is kept for whoever asks.
    pub window: TraceWindow,
    /// To whom all spans are sent on.
    pub forward: Forward,
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            message_bytes: 4 << 20,
            spans_per_request: 4096,
            spans_per_second: 1000,
            window: TraceWindow::default(),
            forward: Forward::default(),
        }
    }
}

/// The traces that are kept, in memory, for whoever asks. When there are too many, the identity whose spans take most loses
/// its oldest trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TraceWindow {
    /// Traces.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub traces: u32,
    /// Bytes of memory, about.
    #[schemars(range(min = 65_536))]
    pub bytes: u32,
    /// From the first span of a trace until it is forgotten.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub age: Duration,
}

impl Default for TraceWindow {
    fn default() -> Self {
        Self { traces: 10_000, bytes: 64 << 20, age: Duration::from_secs(3600) }
    }
}

/// To whom all spans are sent on: any receiver of OTLP over gRPC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Forward {
    /// The receiver, in TLS with `https://`. Most have OTLP over gRPC on port 4317; OTLP over HTTP is not spoken. Left out: spans
    /// are kept in the window only.
    #[schemars(with = "Option<HttpUrlText>")]
    pub endpoint: Option<String>,
    /// PEM file of the authorities that its certificate must come from, with `https://`. It is read again for each
    /// connection. Left out: the system's.
    pub authorities: Option<PathBuf>,
    /// For the answer to a request. Without one in time it is sent again.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub timeout: Duration,
    /// How long a request is sent again and again.
    #[serde(with = "text::duration")]
    #[schemars(with = "DurationText")]
    pub give_up_after: Duration,
    /// Spans that may wait. When there are more, the identity of whose most wait loses its oldest.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub queue_spans: u32,
    /// Bytes of memory, about, that waiting spans may take, likewise.
    #[schemars(range(min = 65_536))]
    pub queue_bytes: u32,
}

impl Default for Forward {
    fn default() -> Self {
        Self {
            endpoint: None,
            authorities: None,
            timeout: Duration::from_secs(10),
            give_up_after: Duration::from_secs(300),
            queue_spans: 20_000,
            queue_bytes: 32 << 20,
        }
    }
}
