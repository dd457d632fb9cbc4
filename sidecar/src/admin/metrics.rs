//! What Prometheus scrapes.

use std::{collections::HashSet, sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode, header};

use super::{Answer, Asked, READ, State, is_question, not_found, wrong_method};
use crate::{
    balance::outlier,
    config::snapshot::Snapshot,
    telemetry::{EjectedNow, Format, TelemetryHub},
};

fn format_for(headers: &HeaderMap) -> Format {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    let mut kinds = accepted.flat_map(|v| v.split(','));
    if kinds.any(|kind| kind.trim().starts_with("application/openmetrics-text")) {
        Format::OpenMetrics
    } else {
        Format::Prometheus
    }
}

pub(super) fn answer(request: &Asked, state: &dyn State, hub: &TelemetryHub) -> Answer {
    if request.uri().path() != "/metrics" {
        return not_found("/metrics");
    }
    if !is_question(request) {
        return wrong_method(READ);
    }
    hub.process().ejected(ejected(&state.snapshot(), state.now()));
    let format = format_for(request.headers());
    super::answer(StatusCode::OK, format.content_type(), hub.scrape(format).into())
}

/// The endpoints of the policy in force that are left out at this time. Of their own state, not of what was told of them:
/// what workers tell may be lost. One that several ports of its service lead to is one.
fn ejected(snapshot: &Snapshot, now: Duration) -> EjectedNow {
    let (mut counts, mut seen) = (EjectedNow::new(), HashSet::new());
    for service in snapshot.destinations.by_name.values() {
        for endpoint in service.cluster.regions.iter().flat_map(|group| &group.endpoints) {
            if outlier::is_ejected(&endpoint.health, now) && seen.insert(endpoint.health.id) {
                let whose = (Arc::clone(&service.service.label), Arc::clone(&endpoint.region));
                *counts.entry(whose).or_default() += 1;
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use trama_proto::document::Document;

    use super::*;
    use crate::{
        config::{
            convert::{Local, convert},
            snapshot::state::Registry,
        },
        error::Reason,
        worker::{Blame, Ejection, Ejections},
    };

    const POLICY: &str = "
kind: Service
metadata: { name: orders, namespace: shop }
spec:
  ports: [{ port: 80, targetPort: 8080 }, { port: 81, targetPort: 8080 }]
  outlier: { consecutiveFailures: 1, maxEjectionPercent: 100 }
---
kind: EndpointSet
metadata: { name: orders, namespace: shop }
spec:
  service: orders
  endpoints: [{ address: 10.0.0.1, region: rio }, { address: 10.0.0.2, region: rio }, { address: 10.0.0.3, region: lima }]
";

    /// The log hears nothing of any of them.
    #[test]
    fn who_is_ejected_is_counted_where_the_queue_to_the_log_is_full() {
        let documents = Document::parse("p.yaml", POLICY).unwrap();
        let snapshot = convert(&documents, &Local::default(), &mut Registry::default(), 1).unwrap();
        let at = Duration::from_secs;
        let cluster = &snapshot.destinations.of_name(&"shop/orders".into(), 80).unwrap().cluster;
        let endpoints = cluster.regions.iter().flat_map(|group| &group.endpoints);
        let (rio, lima): (Vec<_>, Vec<_>) = endpoints.partition(|endpoint| &*endpoint.region == "rio");
        assert_eq!((rio.len(), lima.len()), (2, 1));

        let (ejections, mut told) = Ejections::new();
        let tell = |endpoint| {
            let blame = Blame::Failed(Reason::ConnectFailed);
            ejections.tell(Ejection::new(cluster, endpoint, blame, at(10)));
        };
        for _ in 0..told.max_capacity() {
            tell(lima[0]);
        }
        for endpoint in rio {
            assert!(outlier::failed(cluster, endpoint, at(1)).is_some());
            tell(endpoint);
        }
        while let Ok(told) = told.try_recv() {
            assert_eq!(told.endpoint, lima[0].address);
        }
        let counted = |now| {
            let counts = ejected(&snapshot, now);
            counts.iter().map(|((service, region), n)| format!("{service} {region} {n}")).collect::<Vec<_>>()
        };
        assert_eq!(counted(at(2)), ["shop/orders rio 2"]);
        assert_eq!(counted(at(3600)), [""; 0]);
    }
}
