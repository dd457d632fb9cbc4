//! Every metric of the control plane: name, type, unit, labels, meaning. The book's table is written from it.

use trama_sidecar::telemetry::Metric;

macro_rules! catalogue {
    ($($constant:ident = $name:literal, $kind:literal, $unit:literal, $labels:expr, $help:literal;)*) => {
        $(pub(super) const $constant: Metric =
            Metric { name: $name, kind: $kind, unit: $unit, labels: &$labels, help: $help };)*

        /// All metrics, in the order of the scrape.
        pub const CATALOGUE: &[Metric] = &[$($constant,)*];
    };
}

catalogue! {
    STREAMS = "trama_control_streams", "gauge", "", [], "Policy streams that are open";
    STREAMS_ENDED = "trama_control_streams_ended_total", "counter", "", ["reason"],
        "Policy streams that were refused or ended, by reason";
    PUSHES = "trama_control_pushes_total", "counter", "", [], "Pushes sent";
    PUSHED = "trama_control_pushed_resources_total", "counter", "", [],
        "Resources and tombstones in pushes; a sidecar that comes back is sent what has changed";
    ANSWERS = "trama_control_push_answers_total", "counter", "", ["result"], "Answers to pushes, ack or nack";
    ACKNOWLEDGED = "trama_control_push_acknowledged_seconds", "histogram", "seconds", [],
        "From a push to its answer";
    UNKNOWN = "trama_control_messages_unknown_total", "counter", "", [],
        "Messages of sidecars that this version does not know, and ignored";
    ASKS = "trama_control_asks_total", "counter", "", ["question", "result"],
        "Questions to sidecars, by what became of them";
    IGNORED = "trama_control_answers_ignored_total", "counter", "", ["reason"],
        "Answers of sidecars that nobody takes, by reason";
    IDENTITIES = "trama_control_identities_total", "counter", "", ["how"],
        "Certificates issued, by join or renew";
    IDENTITY_REFUSALS = "trama_control_identity_refusals_total", "counter", "", ["reason"],
        "Certificates refused, by reason";
    REQUESTS = "trama_control_admin_requests_total", "counter", "", ["method", "code"],
        "Requests of the Admin API";
    WATCHES_ENDED = "trama_control_watches_ended_total", "counter", "", ["reason"],
        "Watches of the Admin API that were ended, by reason";
    REVISION = "trama_control_policy_revision", "gauge", "", [], "The revision of the policy in force";
    EXPIRY = "trama_control_certificate_expiry", "gauge", "", [],
        "When the control plane's own certificate ends, seconds since 1970";
    HANDSHAKES = "trama_control_handshakes_failed_total", "counter", "", [], "TLS handshakes that failed";
    CONNECTIONS_ENDED = "trama_control_connections_ended_total", "counter", "", ["reason"],
        "Connections that were refused, or ended for want of a call, by reason";
    SPANS = "trama_control_spans_total", "counter", "", [], "Spans that were taken from sidecars";
    SPANS_REFUSED = "trama_control_spans_refused_total", "counter", "", ["reason"],
        "Spans that were refused, by reason";
    SPANS_FORWARDED = "trama_control_spans_forwarded_total", "counter", "", [],
        "Spans that the trace receiver took";
    FORWARD_RETRIES = "trama_control_forward_retries_total", "counter", "", [],
        "Requests with spans that the trace receiver did not take and that were sent again";
    SPANS_LOST = "trama_control_spans_lost_total", "counter", "", ["reason"],
        "Spans that were taken and not sent on, by reason";
    SPANS_QUEUED = "trama_control_spans_queued", "gauge", "", [], "Spans that wait to be sent on";
    TRACES = "trama_control_traces", "gauge", "", [], "Traces in the window";
    TRACE_BYTES = "trama_control_traces_bytes", "gauge", "bytes", [],
        "Memory that the traces in the window take, about";
    TRACES_EVICTED = "trama_control_traces_evicted_total", "counter", "", ["bound"],
        "Traces that left the window, and spans that were too many for one, by the bound";
}
