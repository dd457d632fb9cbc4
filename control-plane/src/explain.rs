//! Why a request would go where it would go, where no sidecar can be asked: by policy alone, and by the sidecars' own
//! decisions. Pure.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use trama_proto::{
    Problems,
    document::{Document, Resource},
    explain::v1::{Explanation, Knowledge, knowledge},
    policy::v1::Endpoint,
    spiffe::SpiffeId,
};
use trama_sidecar::{
    balance::Loads,
    config::{
        convert::{self, Extent, Local},
        snapshot::state::Registry,
    },
    explain::{Described, View, explain},
};

use crate::model::{Place, Service};

/// Who would send a request, where it is no certain sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A workload.
    Workload(SpiffeId),
    /// A workload that serves this service.
    Service(Service),
}

/// Where policy says that a sender runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs {
    identities: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
    /// The regions of its endpoints, as far as they name one.
    pub(crate) regions: BTreeSet<String>,
}

impl Sender {
    /// The namespace that bare service names are looked up in.
    fn namespace(&self) -> &str {
        match self {
            Self::Workload(id) => id.namespace().unwrap_or("default"),
            Self::Service(service) => &service.namespace,
        }
    }

    /// What the documents say of where it runs.
    pub(crate) fn runs(&self, documents: &[Arc<Document>]) -> Runs {
        let mut runs = Runs::default();
        if let Self::Workload(id) = self {
            runs.identities.insert(id.to_string());
        }
        for (service, endpoint) in endpoints(documents) {
            let is_its = match self {
                Self::Workload(id) => endpoint.identity == id.as_str(),
                Self::Service(own) => service == *own,
            };
            if is_its {
                runs.add(endpoint, matches!(self, Self::Service(_)));
            }
        }
        runs
    }

    /// What it is to policy, in a region.
    pub(crate) fn local(&self, region: &str) -> Local {
        Local { namespace: self.namespace().to_owned(), region: region.to_owned() }
    }
}

impl Runs {
    fn add(&mut self, endpoint: &Endpoint, with_address: bool) {
        if !endpoint.region.is_empty() {
            self.regions.insert(endpoint.region.clone());
        }
        if !endpoint.identity.is_empty() {
            self.identities.insert(endpoint.identity.clone());
        } else if with_address {
            self.addresses.extend(endpoint.address.parse::<IpAddr>().ok().map(|ip| ip.to_canonical()));
        }
    }

    /// Whether no sidecar can be one of its, whoever is connected.
    pub(crate) fn is_nowhere(&self) -> bool {
        self.identities.is_empty() && self.addresses.is_empty()
    }

    /// Whether a sidecar is one of its. An endpoint without an identity is known by its address.
    pub(crate) fn has(&self, place: &Place) -> bool {
        self.identities.contains(&place.identity)
            || place.addresses.iter().any(|address| self.addresses.contains(address))
    }
}

/// The regions that policy names.
pub(crate) fn regions(documents: &[Arc<Document>]) -> BTreeSet<String> {
    let mut regions: BTreeSet<_> =
        endpoints(documents).map(|(_, endpoint)| endpoint.region.clone()).collect();
    for document in documents {
        if let Resource::RegionTopology(topology) = &document.resource {
            let named = topology.spec.iter().flat_map(|spec| &spec.regions);
            regions.extend(named.map(|region| region.name.clone()));
        }
    }
    regions.remove("");
    regions
}

/// The services that policy names.
pub(crate) fn services(documents: &[Arc<Document>]) -> impl Iterator<Item = Service> {
    let services = documents.iter().filter(|document| document.id.kind == "Service");
    services.map(|document| Service::new(&document.id.namespace, &document.id.name))
}

fn endpoints(documents: &[Arc<Document>]) -> impl Iterator<Item = (Service, &Endpoint)> {
    documents.iter().flat_map(|document| {
        let spec = match &document.resource {
            Resource::EndpointSet(set) => set.spec.as_ref(),
            _ => None,
        };
        spec.into_iter().flat_map(|spec| {
            let service = Service::new(&document.id.namespace, &spec.service);
            spec.endpoints.iter().map(move |endpoint| (service.clone(), endpoint))
        })
    })
}

/// The way of a request by these documents, as a sidecar would tell it that has all of them and has asked no endpoint yet.
pub(crate) fn by_policy(
    documents: &[Arc<Document>],
    revision: u64,
    local: &Local,
    described: &Described,
    draw: u64,
) -> Result<Explanation, Problems> {
    let documents: Vec<_> = documents.iter().map(|document| &**document).collect();
    let registry = &mut Registry::default();
    let snapshot = convert::convert_part(&documents, Extent::Whole, local, registry, revision)?;
    let knowledge = Knowledge { source: knowledge::Source::Policy.into(), ..Knowledge::default() };
    // No sidecar's configuration is known here.
    let (loads, now) = (Loads::default(), Duration::ZERO);
    let view = View { snapshot: &snapshot, loads, now, incoming: None, knowledge };
    Ok(explain(described, view, described.draw.unwrap_or(draw)))
}

#[cfg(test)]
mod tests {
    use trama_proto::explain::v1::{DescribedRequest, outcome, region::Verdict};

    use super::*;

    const POLICY: &str = "\
kind: RegionTopology
metadata: { name: mesh }
spec: { regions: [{ name: rio }, { name: lima }], order: [{ from: rio, to: [rio, lima] }, { from: lima, to: [lima, rio] }] }
---
kind: Service
metadata: { name: orders, namespace: shop }
spec: { ports: [{ port: 80 }] }
---
kind: EndpointSet
metadata: { name: orders, namespace: shop }
spec:
  service: orders
  endpoints:
    - { address: 10.0.0.1, region: rio, identity: 'spiffe://mesh.test/ns/shop/sa/orders' }
    - { address: 10.0.0.2, region: lima, identity: 'spiffe://mesh.test/ns/shop/sa/orders' }
---
kind: Service
metadata: { name: old, namespace: shop }
spec: { ports: [{ port: 80 }] }
---
kind: EndpointSet
metadata: { name: old, namespace: shop }
spec: { service: old, endpoints: [{ address: 10.0.0.3, region: lima }] }
";

    fn documents() -> Vec<Arc<Document>> {
        Document::parse("test", POLICY).unwrap().into_iter().map(Arc::new).collect()
    }

    fn workload(account: &str) -> Sender {
        Sender::Workload(SpiffeId::parse(&format!("spiffe://mesh.test/ns/shop/sa/{account}")).unwrap())
    }

    fn names(regions: &BTreeSet<String>) -> Vec<&str> {
        regions.iter().map(String::as_str).collect()
    }

    #[test]
    fn policy_tells_where_a_workload_runs_and_which_sidecars_are_its() {
        let documents = documents();
        let orders = Sender::Service(Service::new("shop", "orders")).runs(&documents);
        assert_eq!(names(&orders.regions), ["lima", "rio"]);
        let identity = "spiffe://mesh.test/ns/shop/sa/orders".to_owned();
        let address = |last: u8| vec![IpAddr::from([10, 0, 0, last])];
        assert!(orders.has(&Place { identity, ..Place::default() }));
        // Who has an identity is known by nothing else.
        assert!(!orders.has(&Place { addresses: address(1), ..Place::default() }));
        assert_eq!(names(&workload("orders").runs(&documents).regions), ["lima", "rio"]);
        assert_eq!(names(&workload("storefront").runs(&documents).regions), [""; 0]);

        let old = Sender::Service(Service::new("shop", "old")).runs(&documents);
        assert!(old.has(&Place { addresses: address(3), ..Place::default() }));
        assert!(!old.has(&Place { addresses: address(4), ..Place::default() }));
        assert_eq!(names(&regions(&documents)), ["lima", "rio"]);
        assert_eq!(services(&documents).count(), 2);
    }

    #[test]
    fn a_request_is_explained_from_where_its_sender_is() {
        let documents = documents();
        let request = DescribedRequest { url: "http://orders/v1".to_owned(), ..DescribedRequest::default() };
        let described = Described::read(&request).unwrap();
        for (region, address) in [("rio", "10.0.0.1:80"), ("lima", "10.0.0.2:80")] {
            let local = workload("storefront").local(region);
            let told = by_policy(&documents, 7, &local, &described, 1).unwrap();
            assert_eq!(told.outcome.as_ref().unwrap().result(), outcome::Result::Forwarded, "{told}");
            assert_eq!(told.attempts[0].endpoint, address, "{told}");
            assert_eq!(told.regions[0].verdict(), Verdict::Chosen);
            let knowledge = told.knowledge.unwrap();
            assert_eq!((knowledge.source(), knowledge.draw), (knowledge::Source::Policy, 1));
            assert!(knowledge.revision.starts_with("7-"), "{}", knowledge.revision);
        }
    }
}
