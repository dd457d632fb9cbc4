//! What may come in at all, by the sidecar's own configuration: to which ports, and of whose workloads.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::{
    config::snapshot::SpiffeId,
    error::{Failure, Reason},
};

/// What the configuration says of what comes in.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// Where the application listens, if not at the address that a connection came in on.
    pub application: Option<IpAddr>,
    /// Ports of our own: nothing is ever forwarded to them here.
    pub own_ports: Vec<u16>,
    /// Ports of the application that may be reached; empty: all but our own.
    pub application_ports: Vec<u16>,
    /// The trust domain that callers must belong to; `None`: that of our own certificate.
    pub trust_domain: Option<Arc<str>>,
}

impl Gate {
    /// Where the application listens that a connection means. Only ports of the application, never one of ours: the mesh
    /// port would otherwise be an open proxy into the pod.
    pub fn application(&self, meant: SocketAddr) -> Result<SocketAddr, Failure> {
        let port = meant.port();
        let allowed = self.application_ports.is_empty() || self.application_ports.contains(&port);
        if self.own_ports.contains(&port) || !allowed {
            return Err(Failure::before(Reason::PortRefused).detail(format_args!("port {port}")));
        }
        Ok(self.application.map_or(meant, |address| SocketAddr::new(address, port)))
    }

    /// Whether a workload belongs to the trust domain that callers must come from. One authority may sign for several.
    /// `own`: who we are, if we are anybody.
    pub fn trusts(&self, caller: &SpiffeId, own: Option<&SpiffeId>) -> bool {
        let domain = self.trust_domain.as_deref().or_else(|| own.map(SpiffeId::trust_domain));
        domain == Some(caller.trust_domain())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(domain: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://{domain}/ns/shop/sa/orders")).unwrap()
    }

    #[test]
    fn only_ports_of_the_application_are_reached_and_where_it_listens() {
        let at = |port| SocketAddr::from(([10, 0, 0, 7], port));
        let reached = |gate: &Gate, port| gate.application(at(port)).map_err(|failure| failure.reason);
        let own = Gate { own_ports: vec![15008], ..Gate::default() };
        assert_eq!(reached(&own, 8080), Ok(at(8080)));
        assert_eq!(reached(&own, 15008), Err(Reason::PortRefused));
        let narrow = Gate { application_ports: vec![8080, 15008], ..own };
        assert_eq!(reached(&narrow, 8080), Ok(at(8080)));
        for port in [8081, 15008] {
            assert_eq!(reached(&narrow, port), Err(Reason::PortRefused), "{port}");
        }
        let elsewhere = Gate { application: Some([127, 0, 0, 1].into()), ..narrow };
        assert_eq!(reached(&elsewhere, 8080), Ok(SocketAddr::from(([127, 0, 0, 1], 8080))));
    }

    #[test]
    fn callers_are_of_the_named_trust_domain_or_else_of_our_own() {
        let named = Gate { trust_domain: Some("mesh.a".into()), ..Gate::default() };
        let own = id("mesh.b");
        for (gate, own, trusted) in [
            (&named, Some(&own), "mesh.a"),
            (&named, None, "mesh.a"),
            (&Gate::default(), Some(&own), "mesh.b"),
            (&Gate::default(), None, ""),
        ] {
            for domain in ["mesh.a", "mesh.b"] {
                assert_eq!(gate.trusts(&id(domain), own), domain == trusted, "{domain} {trusted}");
            }
        }
    }
}
