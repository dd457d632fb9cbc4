//! What is decided about a request before anybody is asked: whom it means, which rule serves it, who gets it. Functions of
//! their arguments alone, so that what explains a request decides with the same.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
};

use http::{Response, Version, header, request};

use super::Meant;
use crate::{
    config::snapshot::{
        AppProtocol, Cluster, Destination, Endpoint, Redirect, RetryPolicy, Rule, RuleTimeouts, ServicePort,
        Snapshot, Transport, UnknownDestination,
    },
    error::{Failure, Reason},
    http::shape,
    route::{
        self, Inquiry,
        rewrite::{Origin, redirect},
    },
    telemetry::Rejected,
    tls::Offer,
    upstream::{Leg, Target, Who},
};

/// Connections of opaque bytes that are tried before giving up. No byte was delivered yet, so that each may be tried.
pub(crate) const OPAQUE_ATTEMPTS: u32 = 3;

/// Where a request is to go.
pub(crate) enum Plan {
    /// By a rule, or without one to the service's own endpoints.
    Service(Arc<ServicePort>),
    /// To this endpoint and no other; the service's rule still says filters and time-outs.
    Endpoint(Arc<Endpoint>, Option<Arc<ServicePort>>),
}

impl Plan {
    /// For whom a request is. Captured: the original destination decides, whatever the head says.
    pub(crate) fn of(meant: &Meant, snapshot: &Snapshot, head: &request::Parts) -> Result<Self, Failure> {
        let destination = match meant {
            Meant::Authority => {
                let (host, port) = shape::authority(head).ok_or_else(|| unknown_authority(head))?;
                snapshot.destinations.of_authority(host, port)
            }
            Meant::Address(_) | Meant::Service(..) => of_connection(meant, snapshot),
        };
        match (destination, meant) {
            (Destination::Service(service), _) => Ok(Self::Service(service)),
            (Destination::Direct(direct), _) => Ok(Self::Endpoint(direct.endpoint, direct.owner)),
            (Destination::Pending(service), _) => {
                Err(Failure::before(Reason::ServicePending).detail(service))
            }
            // The connection was captured for a service that policy has since lost.
            (Destination::External, Meant::Address(address)) => {
                Err(Failure::before(Reason::DestinationRefused).detail(address))
            }
            (Destination::External, _) => {
                let reason = snapshot.refusal(Reason::UnknownAuthority);
                Err(Failure { reason, ..unknown_authority(head) })
            }
        }
    }

    /// The service whose policy holds.
    pub(crate) fn service(&self) -> Option<&ServicePort> {
        match self {
            Self::Service(service) => Some(service),
            Self::Endpoint(_, owner) => owner.as_deref(),
        }
    }

    /// Its label.
    pub(crate) fn label(&self) -> Option<&Arc<str>> {
        self.service().map(|service| &service.service.label)
    }

    /// Who may get it, by the rule that serves it. `draw` is called where backends have shares.
    pub(crate) fn whom<'p>(
        &'p self,
        rule: Option<&'p Rule>,
        draw: impl FnOnce() -> u64,
    ) -> Result<Whom<'p>, Failure> {
        match (self, rule) {
            (Self::Endpoint(endpoint, _), _) => Ok(Whom::Endpoint(endpoint)),
            (Self::Service(service), None) => Ok(Whom::Cluster(&service.cluster)),
            (Self::Service(_), Some(rule)) => {
                let backend = route::pick_backend(rule.backends(), draw());
                Ok(Whom::Cluster(&backend.ok_or_else(|| Failure::before(Reason::NoBackend))?.cluster))
            }
        }
    }
}

/// Whom a request may go to.
pub(crate) enum Whom<'p> {
    /// Any endpoint of a cluster.
    Cluster(&'p Arc<Cluster>),
    /// This endpoint and no other.
    Endpoint(&'p Arc<Endpoint>),
}

/// Who is meant by a connection, whatever its requests say; nobody yet where they are to say it.
pub(crate) fn of_connection(meant: &Meant, snapshot: &Snapshot) -> Destination {
    match meant {
        Meant::Address(address) => snapshot.destinations.of_address(*address),
        Meant::Service(label, port) => {
            let service = snapshot.destinations.of_name(label, *port).cloned();
            service.map_or(Destination::External, Destination::Service)
        }
        Meant::Authority => Destination::External,
    }
}

/// What is spoken at a captured destination, as far as policy says.
pub(crate) fn protocol(destination: &Destination) -> AppProtocol {
    match destination {
        Destination::Service(service) => service.protocol,
        Destination::Direct(direct) => {
            direct.owner.as_ref().map_or(direct.endpoint.protocol, |owner| owner.protocol)
        }
        // Passed through unchanged, or not at all: not one byte is looked at.
        Destination::Pending(_) | Destination::External => AppProtocol::Tcp,
    }
}

/// Whether a destination that no policy names may be reached.
pub(crate) fn external(snapshot: &Snapshot, address: SocketAddr) -> Result<(), Failure> {
    match snapshot.mesh.unknown {
        UnknownDestination::PassThrough => Ok(()),
        UnknownDestination::Refuse => {
            Err(Failure::before(snapshot.refusal(Reason::DestinationRefused)).detail(address))
        }
    }
}

/// What the routes are asked about a request.
pub(crate) fn inquiry(head: &request::Parts) -> Inquiry<'_> {
    Inquiry {
        host: host(head),
        path: head.uri.path(),
        query: head.uri.query(),
        method: &head.method,
        headers: &head.headers,
    }
}

/// The rule for a request; none where the service has no routes at all.
pub(crate) fn rule<'s>(
    service: &'s ServicePort,
    head: &request::Parts,
) -> Result<Option<&'s Arc<Rule>>, Failure> {
    if service.routes.is_empty() {
        return Ok(None);
    }
    route::find(&service.routes, &inquiry(head)).map(Some).ok_or_else(|| Failure::before(Reason::NoRoute))
}

/// The rules that do not serve a request, for its span; none where the service has no routes at all.
pub(crate) fn rejected(service: &ServicePort, head: &request::Parts) -> Option<Box<Rejected>> {
    (!service.routes.is_empty()).then(|| Box::new(route::rejected(&service.routes, &inquiry(head))))
}

/// The answer that sends the caller elsewhere.
pub(crate) fn redirected(
    rule: &Redirect,
    head: &request::Parts,
    service: Option<&ServicePort>,
) -> Result<Response<()>, Failure> {
    let origin = Origin { scheme: "http", host: host(head), port: service.map_or(80, |s| s.port) };
    redirect(rule, &origin, &head.uri).map_err(Failure::before)
}

/// How often a request may be tried again, and how long it may take.
pub(crate) fn limits(rule: Option<&Rule>) -> (&RetryPolicy, RuleTimeouts) {
    static WITHOUT_A_RULE: LazyLock<RetryPolicy> = LazyLock::new(RetryPolicy::default);
    rule.map_or_else(|| (&*WITHOUT_A_RULE, RuleTimeouts::default()), |rule| (&rule.retry, rule.timeouts))
}

/// How an endpoint is reached by a client that speaks this version. Never a downgrade: with a mesh record it is the mesh
/// port or nothing.
pub(crate) fn target_of(endpoint: &Endpoint, client: Version) -> Target<'_> {
    let who = Who::Endpoint(endpoint.health.id);
    let (address, leg) = match (&endpoint.transport, endpoint.protocol) {
        (Transport::Mesh(mesh), _) => (mesh.address, Leg::Mesh(mesh)),
        (Transport::Tls(tls), protocol) => (endpoint.address, Leg::Tls(tls, offer(protocol, client))),
        (Transport::Plain, protocol) => (endpoint.address, Leg::plain(protocol, client)),
    };
    Target { who, address, leg }
}

/// What an endpoint without a sidecar is offered in TLS: what policy says it speaks, else either, the client's version
/// rather.
fn offer(protocol: AppProtocol, client: Version) -> Offer {
    match protocol {
        AppProtocol::Http1 => Offer::Http1,
        AppProtocol::Http2 | AppProtocol::Grpc => Offer::Http2,
        AppProtocol::Auto | AppProtocol::Tcp if client == Version::HTTP_2 => Offer::Http2OrHttp1,
        AppProtocol::Auto | AppProtocol::Tcp => Offer::Http1OrHttp2,
    }
}

fn host(head: &request::Parts) -> &str {
    head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}

/// Its detail is told to the caller too, so it says nothing but what the caller has said.
fn unknown_authority(head: &request::Parts) -> Failure {
    let failure = Failure::before(Reason::UnknownAuthority);
    match head.headers.get(header::HOST).and_then(|host| host.to_str().ok()) {
        Some(host) => failure.detail(format_args!("no service has the authority {host:?}")),
        None => failure.detail("the request names no authority"),
    }
}
