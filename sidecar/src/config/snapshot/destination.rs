//! Which service is meant by an address or an authority.
//!
//! Captured traffic is judged by its original destination alone; Host and `:authority` only match routes inside that
//! service, or a header could step over a service's residency. On an explicit listener the authority decides.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{
    authz::Authorization, cluster::Cluster, cluster::Endpoint, filter::FilterChain, names::AppProtocol,
    names::ServiceName, route_index::RouteTable,
};

/// One port of a service: what a request is addressed to.
#[derive(Debug)]
pub struct ServicePort {
    /// The service.
    pub service: ServiceName,
    /// The port that clients dial.
    pub port: u16,
    /// What is spoken there.
    pub protocol: AppProtocol,
    /// Whether all that concerns it is known. Else only its name and addresses are, and a request has to wait: what is not
    /// known yet may be a route, a filter, or a region that is forbidden.
    pub whole: bool,
    /// What requests and connections to it pass before a route is looked for.
    pub filters: Option<Arc<FilterChain>>,
    /// Its routes; empty: everything goes to the service's own endpoints.
    pub routes: RouteTable,
    /// Its own endpoints.
    pub cluster: Arc<Cluster>,
}

/// An endpoint addressed by its own address: exactly that endpoint, no balancing, no failover.
#[derive(Clone, Debug)]
pub struct Direct {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// The service whose filters and time-outs apply, if exactly one owns the address and port.
    pub owner: Option<Arc<ServicePort>>,
    /// What passes to its application is filtered so: the inbound chains of all services that it serves.
    pub inbound: Option<Arc<FilterChain>>,
    /// Who may call its application: the policies of all services that it serves.
    pub authorization: Option<Arc<Authorization>>,
}

/// An endpoint of which only the address is known, and whose it is.
#[derive(Clone, Debug)]
pub struct Pending {
    /// A service that it serves.
    pub owner: Arc<ServicePort>,
    /// What passes to its application is filtered so.
    pub inbound: Option<Arc<FilterChain>>,
    /// Who may call its application.
    pub authorization: Option<Arc<Authorization>>,
}

/// What an address or authority means.
#[derive(Clone, Debug)]
pub enum Destination {
    /// A port of a service.
    Service(Arc<ServicePort>),
    /// One endpoint.
    Direct(Direct),
    /// A service, `namespace/name`, or an endpoint of it, of which nothing is known but this address, and nothing more
    /// will be told before policy changes.
    Pending(Arc<str>),
    /// Nobody that policy knows.
    External,
}

impl Destination {
    /// The service whose policy holds, if there is one.
    pub fn service(&self) -> Option<&Arc<ServicePort>> {
        match self {
            Self::Service(service) => Some(service),
            Self::Direct(direct) => direct.owner.as_ref(),
            Self::Pending(_) | Self::External => None,
        }
    }

    /// What the application at such an address speaks, where it is our own.
    pub fn spoken_here(&self) -> AppProtocol {
        match self {
            Self::Direct(direct) => direct.endpoint.protocol,
            Self::Service(_) | Self::Pending(_) | Self::External => AppProtocol::Auto,
        }
    }
}

/// The indexes behind [`Destination`].
#[derive(Debug, Default)]
pub struct DestinationIndex {
    /// Virtual address and port.
    pub by_address: HashMap<SocketAddr, Arc<ServicePort>, foldhash::fast::FixedState>,
    /// An endpoint's own address and port.
    pub by_endpoint: HashMap<SocketAddr, Direct, foldhash::fast::FixedState>,
    /// The same of endpoints of which nothing else is known.
    pub by_pending: HashMap<SocketAddr, Pending, foldhash::fast::FixedState>,
    /// Host in lower case and port.
    pub by_authority: HashMap<Box<str>, Vec<Arc<ServicePort>>, foldhash::fast::FixedState>,
    /// `namespace/name` and port.
    pub by_name: HashMap<(Arc<str>, u16), Arc<ServicePort>, foldhash::fast::FixedState>,
    /// The addresses of services of which nothing else is known, by `namespace/name`.
    pub nameless: HashMap<IpAddr, Arc<str>, foldhash::fast::FixedState>,
    /// Inbound chains by the service, `namespace/name`.
    pub inbound: HashMap<Arc<str>, Arc<FilterChain>, foldhash::fast::FixedState>,
    /// Who may call, by the service, `namespace/name`.
    pub authorization: HashMap<Arc<str>, Arc<Authorization>, foldhash::fast::FixedState>,
}

impl DestinationIndex {
    /// What a captured connection's original destination means.
    pub fn of_address(&self, original: SocketAddr) -> Destination {
        let original = SocketAddr::new(canonical(original.ip()), original.port());
        if let Some(service) = self.by_address.get(&original) {
            return Destination::Service(Arc::clone(service));
        }
        if let Some(direct) = self.by_endpoint.get(&original) {
            return Destination::Direct(direct.clone());
        }
        if let Some(Pending { owner, .. }) = self.by_pending.get(&original) {
            // Once all is known of its service, the endpoint is among the others or cannot be used.
            return if owner.whole {
                Destination::Pending(Arc::clone(&owner.service.label))
            } else {
                Destination::Service(Arc::clone(owner))
            };
        }
        let nameless = self.nameless.get(&original.ip());
        nameless.map_or(Destination::External, |service| Destination::Pending(Arc::clone(service)))
    }

    /// The endpoint that has this address and port as its own.
    pub fn of_endpoint(&self, address: SocketAddr) -> Option<&Arc<Endpoint>> {
        let address = SocketAddr::new(canonical(address.ip()), address.port());
        self.by_endpoint.get(&address).map(|direct| &direct.endpoint)
    }

    /// What an authority means on an explicit listener; without a port, 80 is meant (RFC 9110 section 4.2.1).
    pub fn of_authority(&self, host: &str, port: Option<u16>) -> Destination {
        if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse() {
            return self.of_address(SocketAddr::new(ip, port.unwrap_or(80)));
        }
        let candidates = if host.bytes().any(|b| b.is_ascii_uppercase()) {
            self.by_authority.get(host.to_ascii_lowercase().as_str())
        } else {
            self.by_authority.get(host)
        };
        let wanted = port.unwrap_or(80);
        let found = candidates.and_then(|ports| {
            // A name without a port means the service's only port, if it has only one.
            let exact = ports.iter().find(|p| p.port == wanted);
            exact.or_else(|| ports.first().filter(|_| port.is_none() && ports.len() == 1))
        });
        found.map_or(Destination::External, |s| Destination::Service(Arc::clone(s)))
    }

    /// What passes to an application of this pod is filtered so. The application's address decides, or for one in no
    /// policy the pod's own service. What a caller says that it means does not: it could go round the chain.
    pub fn inbound(&self, application: SocketAddr, own: &str) -> Option<&Arc<FilterChain>> {
        if self.inbound.is_empty() {
            return None;
        }
        match (self.by_endpoint.get(&application), self.by_pending.get(&application)) {
            (Some(direct), _) => direct.inbound.as_ref(),
            (None, Some(pending)) => pending.inbound.as_ref(),
            (None, None) => self.inbound.get(own),
        }
    }

    /// Who may call an application of this pod; `None`: everybody whom the mesh lets come. It is found as the inbound chain is.
    pub fn authorization(&self, application: SocketAddr, own: &str) -> Option<&Arc<Authorization>> {
        if self.authorization.is_empty() {
            return None;
        }
        match (self.by_endpoint.get(&application), self.by_pending.get(&application)) {
            (Some(direct), _) => direct.authorization.as_ref(),
            (None, Some(pending)) => pending.authorization.as_ref(),
            (None, None) => self.authorization.get(own),
        }
    }

    /// A service's port by name.
    pub fn of_name(&self, label: &Arc<str>, port: u16) -> Option<&Arc<ServicePort>> {
        self.by_name.get(&(Arc::clone(label), port))
    }
}

/// An address as the index holds it: v4-mapped v6 is v4.
fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}
