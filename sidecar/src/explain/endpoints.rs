//! Who could serve the request: backends, regions, endpoints, and the way to one of them.

use std::{ptr, sync::Arc, time::Duration};

use http::Version;
use trama_proto::{
    duration,
    explain::v1::{
        Backend, Endpoint as Told, Region, Transport as Way, endpoint, region::Verdict, transport::Kind,
    },
};

use super::Explaining;
use crate::{
    balance::{Choice, Standing, Surveyed, Why},
    config::snapshot::{CertificateName, Cluster, Endpoint, Rule, state::EndpointId},
    outbound::plan::target_of,
    tls::Offer,
    upstream::Leg,
};

/// Endpoints that are told of a region with more of them; those that were drawn always are.
const MOST_ENDPOINTS: usize = 50;

/// The backends of a rule, without one the cluster itself. `chosen`: the one that gets the request.
pub(super) fn backends(rule: Option<&Rule>, chosen: Option<&Arc<Cluster>>) -> Vec<Backend> {
    let told = |cluster: &Cluster, weight: u32, total: u64| Backend {
        service: cluster.service.to_string(),
        port: cluster.port.into(),
        weight,
        share: if total == 0 { 0.0 } else { f64::from(weight) / total as f64 },
        chosen: chosen.is_some_and(|chosen| ptr::eq(&**chosen, cluster)) && weight > 0,
    };
    let Some(rule) = rule else {
        return chosen.map(|cluster| told(cluster, 1, 1)).into_iter().collect();
    };
    let backends = rule.backends();
    let total = backends.iter().map(|backend| u64::from(backend.weight)).sum();
    backends.iter().map(|backend| told(&backend.cluster, backend.weight, total)).collect()
}

impl Explaining<'_> {
    /// The regions of a cluster, and what this choice says of each.
    pub(super) fn regions(&mut self, cluster: &Cluster, choice: Option<&Choice>) -> Vec<Region> {
        let mut regions = Vec::new();
        for (rank, group) in (0_u16..).zip(&cluster.regions) {
            let surveyed: Vec<_> = group
                .endpoints
                .iter()
                .map(|endpoint| (endpoint, self.loads.survey(cluster, endpoint, self.now)))
                .collect();
            let chosen = choice.filter(|choice| choice.decision.region_rank == rank);
            let (verdict, why) = match choice {
                Some(choice) if choice.decision.region_rank == rank => {
                    (Verdict::Chosen, words(choice.decision.why).to_owned())
                }
                Some(choice) if choice.decision.region_rank < rank => {
                    (Verdict::NotNeeded, "a region before it has an endpoint to use".to_owned())
                }
                Some(_) | None => (Verdict::Unusable, unusable(&surveyed)),
            };
            let mut endpoints: Vec<_> =
                surveyed.iter().map(|(endpoint, surveyed)| told(endpoint, surveyed, chosen)).collect();
            let all = endpoints.len();
            let mut place = 0;
            endpoints.retain(|endpoint| {
                place += 1;
                place <= MOST_ENDPOINTS || !endpoint.decision.is_empty()
            });
            let left_out = u32::try_from(all - endpoints.len()).unwrap_or(u32::MAX);
            let name = group.region.to_string();
            regions.push(Region { name, verdict: verdict.into(), why, endpoints, left_out });
        }
        regions.extend(cluster.skipped.iter().map(|skipped| {
            let (verdict, why) = match skipped.why {
                "residency" => (Verdict::Residency, "the service's residency forbids it"),
                "no_ready_endpoint" => (Verdict::NoReadyEndpoint, "it has no ready endpoint"),
                why => (Verdict::Unusable, why),
            };
            let name = skipped.region.to_string();
            Region { name, verdict: verdict.into(), why: why.to_owned(), ..Region::default() }
        }));
        regions
    }
}

const fn words(why: Why) -> &'static str {
    match why {
        Why::Preferred => "the first in the order",
        Why::Failover => "the first with an endpoint to use",
        Why::Moved => "an attempt failed in a region before it",
        Why::Again => "everything was tried",
        Why::Panic => "everything everywhere is ejected, and any is better than none",
    }
}

/// Why none of these may be used. Where all of all regions are ejected, one is used all the same.
fn unusable(surveyed: &[(&Arc<Endpoint>, Surveyed)]) -> String {
    let all = surveyed.len();
    let ejected = surveyed.iter().filter(|(_, it)| it.standing == Standing::Ejected);
    let soonest = ejected.clone().map(|(_, it)| it.ejected_for).min();
    let busy = surveyed.iter().filter(|(_, it)| it.standing == Standing::OnProbation && !it.usable).count();
    match (soonest.map(seconds), busy) {
        (Some(soonest), 0) if all == 1 => format!("its only endpoint is ejected for another {soonest}"),
        (Some(soonest), 0) => format!("all {all} endpoints are ejected, the first for another {soonest}"),
        (Some(_), busy) => {
            let ejected = ejected.count();
            format!(
                "of {all} endpoints {ejected} are ejected and {busy} are on probation with a request under way"
            )
        }
        (None, _) if all == 1 => "its only endpoint is on probation with a request under way".to_owned(),
        (None, _) => format!("all {all} endpoints are on probation with a request under way"),
    }
}

fn seconds(length: Duration) -> String {
    format!("{:.1} s", length.as_secs_f64())
}

fn told(endpoint: &Endpoint, surveyed: &Surveyed, chosen: Option<&Choice>) -> Told {
    let decision = match chosen.map(|choice| choice.decision) {
        Some(decision) if decision.chosen == endpoint.health.id => match decision.rival {
            EndpointId(0) => "chosen: no other was to be compared with".to_owned(),
            _ => format!("chosen: costs {:.4}", decision.cost),
        },
        Some(decision) if decision.rival == endpoint.health.id => {
            format!("compared with the chosen one: costs {:.4}", decision.rival_cost)
        }
        _ => String::new(),
    };
    let standing = match surveyed.standing {
        Standing::Good => endpoint::Standing::Good,
        Standing::OnProbation => endpoint::Standing::OnProbation,
        Standing::Ejected => endpoint::Standing::Ejected,
    };
    Told {
        address: endpoint.address.to_string(),
        zone: endpoint.zone.to_string(),
        weight: endpoint.weight,
        present_weight: surveyed.weight,
        standing: standing.into(),
        ejected_for: (surveyed.standing == Standing::Ejected)
            .then(|| duration::message(surveyed.ejected_for)),
        consecutive_failures: surveyed.consecutive_failures,
        latency: surveyed.latency.map(duration::message),
        outstanding: surveyed.outstanding,
        decision,
    }
}

/// The way to an endpoint of a client that speaks this version; `None`: opaque bytes.
pub(super) fn way(endpoint: &Endpoint, client: Option<Version>) -> Way {
    let target = target_of(endpoint, client.unwrap_or(Version::HTTP_11));
    let protocol = match target.leg {
        _ if client.is_none() => "TCP",
        Leg::Http1 | Leg::Tls(_, Offer::Http1) => "HTTP/1.1",
        Leg::Http2 | Leg::Mesh(_) | Leg::Tls(_, Offer::Http2) => "HTTP/2",
        Leg::Tls(..) => "HTTP/2 or HTTP/1.1",
    };
    let way = Way { address: target.address.to_string(), protocol: protocol.to_owned(), ..Way::default() };
    match target.leg {
        Leg::Http1 | Leg::Http2 => Way { kind: Kind::Plain.into(), ..way },
        Leg::Mesh(mesh) => Way {
            kind: Kind::Mesh.into(),
            server_name: mesh.server_name.to_str().into_owned(),
            identity: mesh.identity.to_string(),
            ..way
        },
        Leg::Tls(tls, _) => Way {
            kind: Kind::Tls.into(),
            server_name: tls.server_name.to_str().into_owned(),
            names: tls.names.iter().map(name).collect(),
            upstream_tls: tls.files.to_string(),
            ..way
        },
    }
}

fn name(name: &CertificateName) -> String {
    match name {
        CertificateName::Host(host) => host.to_str().into_owned(),
        CertificateName::Uri(uri) => uri.to_string(),
    }
}
