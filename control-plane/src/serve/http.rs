//! What Prometheus scrapes and what the kubelet probes.

use std::{io, net::TcpListener, sync::Arc};

use http::StatusCode;
use trama_sidecar::admin::server::{self, Answer, Asked};

use crate::{mirror::Mirror, telemetry::Metrics};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves both, on the runtime that this is called on, until it ends.
pub(crate) fn serve(
    metrics: TcpListener,
    health: TcpListener,
    counts: Arc<Metrics>,
    mirror: Arc<Mirror>,
) -> io::Result<()> {
    server::spawn(metrics, server::at_once(move |request| scraped(request, &counts)))?;
    server::spawn(health, server::at_once(move |request| probed(request, mirror.is_synced())))
}

fn scraped(request: &Asked, counts: &Metrics) -> Answer {
    match request.uri().path() {
        "/metrics" => server::answer(StatusCode::OK, OPEN_METRICS, counts.scrape().into()),
        _ => server::not_found("/metrics"),
    }
}

/// A control plane without policy is alive: to start it again would not help.
fn probed(request: &Asked, synced: bool) -> Answer {
    match request.uri().path() {
        "/livez" => server::text(StatusCode::OK, "ok\n"),
        "/startupz" | "/readyz" if synced => server::text(StatusCode::OK, "ok\n"),
        "/startupz" | "/readyz" => {
            server::text(StatusCode::SERVICE_UNAVAILABLE, "waiting for the store's policy\n")
        }
        _ => server::not_found("/startupz /readyz /livez"),
    }
}
