//! The policy in force, in the policy's own words. Values of headers are not shown: people put secrets there.

use std::{ops::Not, sync::atomic::Ordering, time::Duration};

use serde::{Serialize, Serializer};
use trama_proto::duration;

use crate::config::snapshot::{
    AppProtocol, Cluster, Endpoint, PathIndex, RouteTable, Rule, RuleAction, ServicePort, Snapshot,
    TableEntry, Transport, UnknownDestination,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PolicyDump<'s> {
    revision: String,
    origin: &'static str,
    sampling_percent: f64,
    access_log: &'static str,
    unknown_destination: &'static str,
    strict: bool,
    strict_ports: Vec<u16>,
    services: Services<'s>,
}

/// Each is made when it is written.
pub(super) struct Services<'s> {
    pub(super) ports: Vec<&'s ServicePort>,
    /// On the sidecar's clock, by which endpoints are ejected.
    pub(super) now: Duration,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServiceDump {
    service: String,
    port: u16,
    app_protocol: &'static str,
    #[serde(skip_serializing_if = "Not::not")]
    by_name_only: bool,
    circuit_limits: CircuitDump,
    outlier: OutlierDump,
    retry_budget: BudgetDump,
    routes: Vec<RouteDump>,
    regions: Vec<RegionDump>,
    skipped: Vec<SkippedDump>,
}

/// What holds, whether policy says it or not.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CircuitDump {
    max_connections: u32,
    max_pending: u32,
    max_requests: u32,
    max_retries: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OutlierDump {
    consecutive_failures: u32,
    base_ejection: String,
    max_ejection: String,
    max_ejection_percent: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BudgetDump {
    percent: u32,
    min_per_second: u32,
}

#[derive(Serialize)]
struct RouteDump {
    host: String,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    headers: Vec<String>,
    query: Vec<String>,
    rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    redirect: Option<u16>,
    backends: Vec<BackendDump>,
}

#[derive(Serialize)]
struct BackendDump {
    service: String,
    port: u16,
    weight: u32,
}

#[derive(Serialize)]
struct RegionDump {
    region: String,
    endpoints: Vec<EndpointDump>,
}

#[derive(Serialize)]
struct SkippedDump {
    region: String,
    why: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EndpointDump {
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mesh: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<String>,
    zone: String,
    weight: u32,
    ejected: bool,
    /// How long it is still left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    ejected_for: Option<String>,
    consecutive_failures: u32,
}

impl Serialize for Services<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.ports.iter().map(|port| service(port, self.now)))
    }
}

/// What the snapshot says, with these ports of services.
pub(super) fn dump<'s>(snapshot: &Snapshot, services: Services<'s>) -> PolicyDump<'s> {
    PolicyDump {
        revision: snapshot.revision.to_string(),
        origin: snapshot.origin.name(),
        sampling_percent: snapshot.telemetry.sampling * 100.0,
        access_log: if snapshot.telemetry.access_log { "ALL" } else { "OFF" },
        unknown_destination: match snapshot.mesh.unknown {
            UnknownDestination::PassThrough => "PASS_THROUGH",
            UnknownDestination::Refuse => "REFUSE",
        },
        strict: snapshot.mesh.strict,
        strict_ports: snapshot.mesh.strict_ports.clone(),
        services,
    }
}

fn service(port: &ServicePort, now: Duration) -> ServiceDump {
    let Cluster { regions, skipped, circuit, outlier, retry_budget, .. } = &*port.cluster;
    let region = |g: &crate::config::snapshot::RegionGroup| RegionDump {
        region: g.region.to_string(),
        endpoints: g.endpoints.iter().map(|e| endpoint(e, now)).collect(),
    };
    ServiceDump {
        service: port.service.to_string(),
        port: port.port,
        app_protocol: match port.protocol {
            AppProtocol::Auto => "AUTO",
            AppProtocol::Http1 => "HTTP",
            AppProtocol::Http2 => "HTTP2",
            AppProtocol::Grpc => "GRPC",
            AppProtocol::Tcp => "TCP",
        },
        by_name_only: !port.whole,
        circuit_limits: CircuitDump {
            max_connections: circuit.max_connections,
            max_pending: circuit.max_pending,
            max_requests: circuit.max_requests,
            max_retries: circuit.max_retries,
        },
        outlier: OutlierDump {
            consecutive_failures: outlier.consecutive_failures,
            base_ejection: duration::format(outlier.base_ejection),
            max_ejection: duration::format(outlier.max_ejection),
            max_ejection_percent: outlier.max_ejected_percent,
        },
        retry_budget: BudgetDump {
            percent: retry_budget.percent,
            min_per_second: retry_budget.min_per_second,
        },
        routes: routes(&port.routes),
        regions: regions.iter().map(region).collect(),
        skipped: skipped.iter().map(|s| SkippedDump { region: s.region.to_string(), why: s.why }).collect(),
    }
}

fn endpoint(endpoint: &Endpoint, now: Duration) -> EndpointDump {
    let (record, tls) = match &endpoint.transport {
        Transport::Plain => (None, None),
        Transport::Tls(tls) => (None, Some(tls)),
        Transport::Mesh(record) => (Some(record), None),
    };
    let health = &endpoint.health;
    let until = Duration::from_micros(health.ejected_until.load(Ordering::Relaxed));
    let ejected_for = until.checked_sub(now).filter(|left| !left.is_zero());
    EndpointDump {
        address: endpoint.address.to_string(),
        mesh: record.map(|r| r.address.to_string()),
        identity: record.map(|r| r.identity.to_string()),
        tls: tls.map(|tls| tls.server_name.to_str().into_owned()),
        zone: endpoint.zone.to_string(),
        weight: endpoint.weight,
        ejected: ejected_for.is_some(),
        ejected_for: ejected_for.map(duration::format),
        consecutive_failures: health.consecutive_failures.load(Ordering::Relaxed),
    }
}

/// Every match, in no order but by host and path: which one wins is the Gateway API's rule.
fn routes(table: &RouteTable) -> Vec<RouteDump> {
    let exact = table.exact_hosts.iter().map(|(host, paths)| (host.to_string(), paths));
    let suffix = table.suffix_hosts.iter().map(|(host, paths)| (format!("*{host}"), paths));
    let any = std::iter::once(("*".to_owned(), &table.any_host));
    let mut routes: Vec<_> =
        exact.chain(suffix).chain(any).flat_map(|(host, paths)| of_host(&host, paths)).collect();
    routes.sort_by(|a, b| (&a.host, &a.path, &a.rule).cmp(&(&b.host, &b.path, &b.rule)));
    routes
}

fn of_host(host: &str, paths: &PathIndex) -> Vec<RouteDump> {
    let lists = paths.exact.values().chain(paths.prefix.values());
    let entries = lists.flatten().chain(&paths.regex);
    entries.map(|entry| route(host, entry)).collect()
}

fn route(host: &str, entry: &TableEntry) -> RouteDump {
    let condition = &entry.condition;
    let Rule { name, action, .. } = &*entry.rule;
    let (redirect, backends) = match action {
        RuleAction::Redirect(to) => (Some(to.status.as_u16()), Vec::new()),
        RuleAction::Forward(backends) => (None, backends.iter().map(backend).collect()),
    };
    RouteDump {
        host: host.to_owned(),
        path: condition.path.to_string(),
        method: condition.method.as_ref().map(|m| m.to_string()),
        headers: condition.headers.iter().map(|h| h.name.to_string()).collect(),
        query: condition.query.iter().map(|q| q.name.to_string()).collect(),
        rule: name.to_string(),
        redirect,
        backends,
    }
}

fn backend(backend: &crate::config::snapshot::Backend) -> BackendDump {
    let Cluster { service, port, .. } = &*backend.cluster;
    BackendDump { service: service.to_string(), port: *port, weight: backend.weight }
}
