//! Regions: the topology, the policies of services, and which regions serve from here in which order.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use trama_proto::{
    document::Document,
    duration,
    policy::v1::{OutlierDetection, RegionOrder, RegionTopologySpec, RegionalPolicySpec, RetryBudget},
};

use super::{
    Local,
    findings::{Claims, Findings, quoted},
    index::{Index, Of},
    service::Services,
};
use crate::config::snapshot::ServiceName;

/// The regions that exist. Without a topology, any name is one.
#[derive(Default)]
pub(super) struct Topology<'d> {
    spec: Option<&'d RegionTopologySpec>,
    zones: BTreeMap<&'d str, BTreeSet<&'d str>>,
}

/// How the regions of one service are chosen from here.
#[derive(Default)]
pub(super) struct Preference<'d> {
    order: &'d [String],
    residency: Option<Allowed<'d>>,
    pub(super) outlier: Option<Of<'d, OutlierDetection>>,
    pub(super) retry_budget: Option<&'d RetryBudget>,
}

#[derive(Clone, Copy)]
struct Allowed<'d> {
    allow: &'d [String],
    deny: &'d [String],
}

/// The preferences of all services.
pub(super) struct Policies<'d> {
    by_service: BTreeMap<ServiceName, Preference<'d>>,
    default: Preference<'d>,
    round_trips: BTreeMap<&'d str, Duration>,
    own: &'d str,
}

/// Reads the topology.
pub(super) fn topology<'d>(index: &Index<'d>, findings: &mut Findings) -> Topology<'d> {
    let Some((document, spec)) = index.topology else { return Topology::default() };
    let mut zones = BTreeMap::new();
    for (at, region) in spec.regions.iter().enumerate() {
        let names = region.zones.iter().map(String::as_str).collect();
        if zones.insert(region.name.as_str(), names).is_some() {
            let field = format!("spec.regions[{at}].name");
            findings.add(document, &field, quoted(&region.name), "used twice", "name each region once");
        }
    }
    let topology = Topology { spec: Some(spec), zones };
    orders(document, &spec.order, &topology, findings);
    for (at, trip) in spec.round_trips.iter().enumerate() {
        topology.check(document, &format!("spec.roundTrips[{at}].from"), &trip.from, findings);
        topology.check(document, &format!("spec.roundTrips[{at}].to"), &trip.to, findings);
    }
    topology
}

impl Topology<'_> {
    /// The names of the regions.
    pub(super) fn regions(&self) -> impl Iterator<Item = &str> {
        self.zones.keys().copied()
    }

    /// A region that is named somewhere must exist. An empty name is none.
    pub(super) fn check(&self, document: &Document, field: &str, region: &str, findings: &mut Findings) {
        if self.spec.is_some() && !region.is_empty() && !self.zones.contains_key(region) {
            findings.unknown(document, field, region, "region in the RegionTopology", self.regions());
        }
    }

    /// A zone that is named somewhere must exist in its region, if that names any.
    pub(super) fn check_zone(
        &self,
        document: &Document,
        field: &str,
        region: &str,
        zone: &str,
        findings: &mut Findings,
    ) {
        let Some(zones) = self.zones.get(region).filter(|zones| !zones.is_empty()) else { return };
        if !zone.is_empty() && !zones.contains(zone) {
            findings.unknown(
                document,
                field,
                zone,
                &format!("zone in region `{region}`"),
                zones.iter().copied(),
            );
        }
    }
}

/// Reads the regional policies.
pub(super) fn policies<'d>(
    index: &Index<'d>,
    services: &Services<'d>,
    topology: &Topology<'d>,
    local: &'d Local,
    findings: &mut Findings,
) -> Policies<'d> {
    let default = topology.spec.map_or(&[][..], |spec| order_from(&spec.order, &local.region));
    let mut by_service = BTreeMap::new();
    let mut claims = Claims::default();
    for &(document, spec) in &index.regional_policies {
        check_policy(document, spec, topology, findings);
        let Some(service) = services.named(document, "spec.service", "", &spec.service, findings) else {
            continue;
        };
        if let Some(claim) = claims.claim(&service.name.label, document, "spec.service") {
            let problem = format!("already has a policy: {claim}");
            findings.add(document, "spec.service", quoted(&spec.service), problem, "join the two");
            continue;
        }
        let own = order_from(&spec.order, &local.region);
        let preference = Preference {
            order: if own.is_empty() { default } else { own },
            residency: spec.residency.as_ref().map(|it| Allowed { allow: &it.allow, deny: &it.deny }),
            outlier: spec.outlier.as_ref().map(|outlier| (document, outlier)),
            retry_budget: spec.retry_budget.as_ref(),
        };
        by_service.insert(service.name.clone(), preference);
    }
    Policies {
        by_service,
        default: Preference { order: default, ..Preference::default() },
        round_trips: topology.spec.map_or_else(BTreeMap::new, |spec| round_trips(spec, &local.region)),
        own: &local.region,
    }
}

impl<'d> Policies<'d> {
    /// The preference for a service.
    pub(super) fn of(&self, service: &ServiceName) -> &Preference<'d> {
        self.by_service.get(service).unwrap_or(&self.default)
    }

    /// Whether nothing says which region is nearer.
    pub(super) fn is_unranked(&self, preference: &Preference<'_>) -> bool {
        self.own.is_empty() && preference.order.is_empty()
    }

    /// Which of two regions is tried first: by the order; then our own; then by distance; then by name; then those
    /// without a name.
    pub(super) fn compare(&self, preference: &Preference<'_>, a: &str, b: &str) -> Ordering {
        let rank = |region: &str| {
            let in_order = preference.order.iter().position(|known| known == region).unwrap_or(usize::MAX);
            let distance = self.round_trips.get(region).copied().unwrap_or(Duration::MAX);
            (in_order, region.is_empty(), region != self.own, distance)
        };
        rank(a).cmp(&rank(b)).then(a.cmp(b))
    }
}

impl Preference<'_> {
    /// Whether residency lets a region serve. A region that nobody named could be any, so it may not.
    pub(super) fn permits(&self, region: &str) -> bool {
        let Some(Allowed { allow, deny }) = self.residency else { return true };
        let listed = |list: &[String]| list.iter().any(|known| known == region);
        !region.is_empty() && (allow.is_empty() || listed(allow)) && !listed(deny)
    }
}

/// The order from a region: its own, or else that of any region.
fn order_from<'d>(orders: &'d [RegionOrder], own: &str) -> &'d [String] {
    let exact = orders.iter().find(|order| !own.is_empty() && order.from == own);
    exact.or_else(|| orders.iter().find(|order| order.from.is_empty())).map_or(&[], |order| &order.to)
}

fn round_trips<'d>(spec: &'d RegionTopologySpec, own: &str) -> BTreeMap<&'d str, Duration> {
    let from_here = spec.round_trips.iter().filter_map(|trip| {
        let other = match own {
            _ if trip.from == own => &trip.to,
            _ if trip.to == own => &trip.from,
            _ => return None,
        };
        Some((other.as_str(), duration::of(trip.rtt.as_ref()?)))
    });
    from_here.collect()
}

fn check_policy(
    document: &Document,
    spec: &RegionalPolicySpec,
    topology: &Topology<'_>,
    findings: &mut Findings,
) {
    orders(document, &spec.order, topology, findings);
    let Some(residency) = &spec.residency else { return };
    for (at, region) in residency.allow.iter().enumerate() {
        topology.check(document, &format!("spec.residency.allow[{at}]"), region, findings);
    }
    for (at, region) in residency.deny.iter().enumerate() {
        topology.check(document, &format!("spec.residency.deny[{at}]"), region, findings);
    }
    if !residency.allow.is_empty() && residency.allow.iter().all(|region| residency.deny.contains(region)) {
        let remedy = "leave at least one allowed region that is not denied";
        findings.add(document, "spec.residency", "", "no region may serve", remedy);
    }
}

fn orders(document: &Document, orders: &[RegionOrder], topology: &Topology<'_>, findings: &mut Findings) {
    for (at, order) in orders.iter().enumerate() {
        let field = format!("spec.order[{at}].from");
        topology.check(document, &field, &order.from, findings);
        if orders[..at].iter().any(|other| other.from == order.from) {
            findings.add(document, &field, quoted(&order.from), "has two orders", "join them");
        }
        for (place, region) in order.to.iter().enumerate() {
            let field = format!("spec.order[{at}].to[{place}]");
            topology.check(document, &field, region, findings);
            if order.to[..place].contains(region) {
                findings.add(document, &field, quoted(region), "named twice", "name each region once");
            }
        }
    }
}
