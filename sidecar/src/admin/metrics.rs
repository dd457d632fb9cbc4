//! What Prometheus scrapes.

use http::{HeaderMap, StatusCode, header};

use super::{Answer, Asked, READ, is_question, not_found, wrong_method};
use crate::telemetry::{Format, TelemetryHub};

fn format_for(headers: &HeaderMap) -> Format {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    let mut kinds = accepted.flat_map(|v| v.split(','));
    if kinds.any(|kind| kind.trim().starts_with("application/openmetrics-text")) {
        Format::OpenMetrics
    } else {
        Format::Prometheus
    }
}

pub(super) fn answer(request: &Asked, hub: &TelemetryHub) -> Answer {
    if request.uri().path() != "/metrics" {
        return not_found("/metrics");
    }
    if !is_question(request) {
        return wrong_method(READ);
    }
    let format = format_for(request.headers());
    super::answer(StatusCode::OK, format.content_type(), hub.scrape(format).into())
}
