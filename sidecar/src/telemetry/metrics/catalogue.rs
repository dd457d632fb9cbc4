//! Every metric there is: name, type, unit, labels, meaning. The book's table is written from it.

use prometheus_client::{metrics::MetricType, registry::Unit};

use super::{
    family::Labels,
    labels::{
        AttemptLabels, AuthzLabels, ConnectionLabels, DirectionLabel, DurationLabels, EjectionLabels,
        HandshakeLabels, KindLabel, RequestLabels, WithheldLabels,
    },
};

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name as it is scraped; of histograms without the suffix.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The unit, or empty for a plain number.
    pub unit: &'static str,
    /// The labels' names.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

impl Metric {
    /// The name as the encoder wants it, which adds the unit and `_total` itself.
    pub fn base_name(&self) -> &'static str {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        let name = name.strip_suffix(self.unit).unwrap_or(name);
        name.strip_suffix('_').unwrap_or(name)
    }

    pub(crate) fn metric_type(&self) -> MetricType {
        match self.kind {
            "counter" => MetricType::Counter,
            "histogram" => MetricType::Histogram,
            _ => MetricType::Gauge,
        }
    }

    /// The unit as the encoder knows it.
    pub fn encoded_unit(&self) -> Option<Unit> {
        match self.unit {
            "seconds" => Some(Unit::Seconds),
            "bytes" => Some(Unit::Bytes),
            _ => None,
        }
    }
}

macro_rules! catalogue {
    ($($constant:ident = $name:literal, $kind:literal, $unit:literal, $labels:expr, $help:literal;)*) => {
        $(pub(crate) const $constant: Metric =
            Metric { name: $name, kind: $kind, unit: $unit, labels: $labels, help: $help };)*

        /// All metrics, in the order of the scrape.
        pub const CATALOGUE: &[Metric] = &[$($constant,)*];
    };
}

catalogue! {
    REQUESTS = "trama_requests_total", "counter", "", RequestLabels::NAMES,
        "Requests that ended, and opaque connections (protocol tcp, no method)";
    REQUEST_BYTES = "trama_request_body_bytes_total", "counter", "bytes", RequestLabels::NAMES,
        "Body bytes received from downstream";
    RESPONSE_BYTES = "trama_response_body_bytes_total", "counter", "bytes", RequestLabels::NAMES,
        "Body bytes sent to downstream";
    SERVER_DURATION = "http_server_request_duration_seconds", "histogram", "seconds", DurationLabels::NAMES,
        "Inbound HTTP requests: from the head's first byte to the answer's last";
    CLIENT_DURATION = "http_client_request_duration_seconds", "histogram", "seconds", DurationLabels::NAMES,
        "Outbound HTTP requests, all attempts together: from the head's first byte to the answer's last";
    ATTEMPTS = "trama_attempts_total", "counter", "", AttemptLabels::NAMES,
        "Attempts made upstream by outbound requests, the first one included";
    CONNECTIONS_OPENED = "trama_connections_opened_total", "counter", "", ConnectionLabels::NAMES,
        "Connections accepted from downstream or opened upstream";
    CONNECTIONS_ACTIVE = "trama_connections_active", "gauge", "", ConnectionLabels::NAMES,
        "Connections that are open";
    HANDSHAKES = "trama_tls_handshakes_total", "counter", "", HandshakeLabels::NAMES,
        "TLS handshakes by result, and why those that failed did";
    GUARD_REFUSALS = "trama_guard_refusals_total", "counter", "", KindLabel::NAMES,
        "HTTP/1 requests and HTTP/2 connections that were refused for their bytes, by the rule they broke";
    LOOPS = "trama_loops_refused_total", "counter", "", DirectionLabel::NAMES,
        "Connections refused because they would have come back to this sidecar";
    EXTERNAL = "trama_external_connections_total", "counter", "", KindLabel::NAMES,
        "Connections to destinations that no policy names: passed, refused, or pending (passed, as there is no policy)";
    EJECTIONS = "trama_ejections_total", "counter", "", EjectionLabels::NAMES,
        "Endpoints taken out of the choice for a while";
    EJECTED = "trama_endpoints_ejected", "gauge", "", EjectionLabels::NAMES,
        "Endpoints that are out of the choice now";
    RETRIES_WITHHELD = "trama_retries_withheld_total", "counter", "", WithheldLabels::NAMES,
        "Retries that a failure called for and that were not made: budget (spent), or max_retries (as many were on their way)";
    AUTHZ = "trama_authz_refusals_total", "counter", "", AuthzLabels::NAMES,
        "Inbound requests and opaque connections that an AuthzPolicy refused: denied, or would_deny (it is in AUDIT)";
    POLICY_REVISION = "trama_policy_revision", "gauge", "", &[],
        "The number of the policy revision in force; 0 before the first";
    POLICY_UPDATES = "trama_policy_updates_total", "counter", "", &["result"],
        "Policies that arrived: accepted, unchanged or refused";
    POLICY_LAST_GOOD = "trama_policy_last_good", "gauge", "", &[],
        "1 while the policy in force is the last good one from disk, not its source's";
    POLICY_STORE_FAILURES = "trama_policy_store_failures_total", "counter", "", &[],
        "Policies that could not be kept on disk, and kept ones that could not be read";
    CONTROL_PLANE_CONNECTED = "trama_control_plane_connected", "gauge", "", &[],
        "1 while there is a policy stream with the control plane";
    STREAM_FAILURES = "trama_control_plane_stream_failures_total", "counter", "", &[],
        "Policy streams that could not be opened or that ended";
    POLICY_PUSHES = "trama_policy_pushes_total", "counter", "", &["result"],
        "Pushes of the control plane: acknowledged, refused in part (told which resource and field), or fault (old or nonsense: the stream was ended); and unknown, what is of a later version and was ignored";
    IDENTITY_STATE = "trama_identity_state", "gauge", "", &["kind"],
        "1 for the state that the workload's identity is in: none, joining, valid or expired";
    IDENTITY_EXPIRY = "trama_identity_expiry_seconds", "gauge", "seconds", &[],
        "When the workload's certificate ends, in seconds since 1970; 0 before the first";
    IDENTITY_ROOTS = "trama_identity_roots", "gauge", "", &[],
        "Roots that come with the workload's identity; two or more while one is being replaced";
    IDENTITY_REQUESTS = "trama_identity_requests_total", "counter", "", &["kind", "result", "reason"],
        "Certificates that the control plane was asked for, by join or renew, and why there was none";
    IDENTITY_STORE_FAILURES = "trama_identity_store_failures_total", "counter", "", &[],
        "Identities that could not be kept on disk, and kept ones that could not be read";
    CERTIFICATE_UPDATES = "trama_certificate_updates_total", "counter", "", &["kind", "result"],
        "Certificate files that changed and were read again, by what they are for: accepted or refused";
    LOG_DROPPED = "trama_access_log_dropped_total", "counter", "", &[],
        "Access log lines lost because the queue was full or the output failed";
    SPANS_EXPORTED = "trama_spans_exported_total", "counter", "", &[],
        "Spans that the trace receiver took";
    SPANS_DROPPED = "trama_spans_dropped_total", "counter", "", &[],
        "Spans lost because the queue was full or the trace receiver failed";
    BUILD = "trama_build_info", "gauge", "", &["version"],
        "Always 1; the label says which sidecar this is";
    START_TIME = "process_start_time_seconds", "gauge", "seconds", &[],
        "When the process started, in seconds since 1970";
    CPU = "process_cpu_seconds_total", "counter", "seconds", &[],
        "Processor time used in user and kernel mode";
    RESIDENT = "process_resident_memory_bytes", "gauge", "bytes", &[],
        "Memory that is really there";
    DESCRIPTORS = "process_open_fds", "gauge", "", &[],
        "Open file descriptors";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_label_set_is_closed() {
        let used: BTreeSet<_> = CATALOGUE.iter().flat_map(|m| m.labels).copied().collect();
        let closed = [
            "direction",
            "kind",
            "method",
            "peer",
            "peer_region",
            "peer_service",
            "policy",
            "protocol",
            "reason",
            "result",
            "route",
            "service",
            "status",
            "status_class",
            "tls",
            "version",
        ];
        assert_eq!(used, BTreeSet::from(closed));
        let requests = "direction service peer_service route method status protocol peer_region tls reason";
        assert_eq!(REQUESTS.labels.join(" "), requests);
        assert_eq!(SERVER_DURATION.labels.join(" "), "direction service peer_service route status_class");
    }

    #[test]
    fn the_encoder_gets_the_bare_name() {
        assert_eq!(REQUESTS.base_name(), "trama_requests");
        assert_eq!(REQUEST_BYTES.base_name(), "trama_request_body");
        assert_eq!(CPU.base_name(), "process_cpu");
        assert_eq!(SERVER_DURATION.base_name(), "http_server_request_duration");
        assert_eq!(DESCRIPTORS.base_name(), "process_open_fds");
    }
}
