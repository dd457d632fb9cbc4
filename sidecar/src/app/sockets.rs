//! Every listening socket, bound before a thread is started: a port that is taken stops the start, not a worker.

use std::{
    collections::HashMap,
    fmt::{self, Display, Formatter},
    net::{SocketAddr, TcpListener},
};

use super::{StartError, certificates::ServerTls, settings};
use crate::{
    accept::listener::bind_each,
    config::{
        bootstrap::{Config, Listener, ListenerProtocol},
        snapshot::AppProtocol,
    },
    http::io::Liveness,
    outbound::Meant,
};

/// What a listening socket is for.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// Captured traffic from the application.
    Outbound,
    /// Captured traffic to the application.
    Inbound,
    /// Mutual TLS from other sidecars.
    Mesh,
    /// An explicit listener.
    Explicit(Explicit),
}

/// An explicit listener.
#[derive(Clone, Debug)]
pub(super) struct Explicit {
    pub(super) meant: Meant,
    pub(super) protocol: AppProtocol,
    pub(super) tls: Option<ServerTls>,
}

/// Where a running sidecar listens. Ports that were 0 are told here.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// Captured traffic from the application.
    pub outbound: Option<SocketAddr>,
    /// Captured traffic to the application.
    pub inbound: Option<SocketAddr>,
    /// Mutual TLS from other sidecars.
    pub mesh: Option<SocketAddr>,
    /// Explicit listeners by name.
    pub listeners: Vec<(String, SocketAddr)>,
    /// The admin interface.
    pub admin: Option<SocketAddr>,
    /// Prometheus.
    pub metrics: Option<SocketAddr>,
    /// Health.
    pub health: Option<SocketAddr>,
}

impl Display for Addresses {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let fixed = [
            ("outbound", self.outbound),
            ("inbound", self.inbound),
            ("mesh", self.mesh),
            ("admin", self.admin),
            ("metrics", self.metrics),
            ("health", self.health),
        ];
        let fixed = fixed.iter().filter_map(|(name, at)| Some(format!("{name} {}", (*at)?)));
        let explicit = self.listeners.iter().map(|(name, at)| format!("listener {name} {at}"));
        f.write_str(&fixed.chain(explicit).collect::<Vec<_>>().join(", "))
    }
}

impl Addresses {
    /// The ports that nothing is ever forwarded to at our own address.
    pub(super) fn own_ports(&self) -> Vec<u16> {
        let fixed = [self.outbound, self.inbound, self.mesh, self.admin, self.metrics, self.health];
        let explicit = self.listeners.iter().map(|(_, address)| address.port());
        fixed.into_iter().flatten().map(|a| a.port()).chain(explicit).collect()
    }
}

/// The sockets of one worker.
pub(super) type WorkerSockets = Vec<(Purpose, TcpListener)>;

/// The sockets of all workers.
pub(super) struct Sockets {
    pub(super) of_workers: Vec<WorkerSockets>,
    addresses: Addresses,
    liveness: Liveness,
}

impl Sockets {
    /// Binds everything that carries traffic, once for each worker.
    pub(super) fn bind(config: &Config, tls: &HashMap<String, ServerTls>) -> Result<Self, StartError> {
        let workers = config.worker_count();
        let mut sockets = Self {
            of_workers: (0..workers).map(|_| Vec::new()).collect(),
            addresses: Addresses::default(),
            liveness: settings::liveness(config),
        };
        let ip = config.bind_ip();
        if config.capture.outbound {
            let at = SocketAddr::new(ip, config.ports.outbound);
            sockets.addresses.outbound = Some(sockets.each("outbound capture", at, &Purpose::Outbound)?);
        }
        if config.capture.inbound {
            let at = SocketAddr::new(ip, config.ports.inbound);
            sockets.addresses.inbound = Some(sockets.each("inbound capture", at, &Purpose::Inbound)?);
        }
        if config.has_identity() {
            let at = SocketAddr::new(ip, config.ports.mesh);
            sockets.addresses.mesh = Some(sockets.each("mesh", at, &Purpose::Mesh)?);
        }
        for listener in &config.listeners {
            let purpose = Purpose::Explicit(explicit(listener, tls.get(&listener.name)));
            let bound = sockets.each("explicit listener", listener.address, &purpose)?;
            sockets.addresses.listeners.push((listener.name.clone(), bound));
        }
        Ok(sockets)
    }

    /// What was bound, here and on the control side.
    pub(super) fn addresses(&self, control: &Addresses) -> Addresses {
        let Addresses { admin, metrics, health, .. } = *control;
        Addresses { admin, metrics, health, ..self.addresses.clone() }
    }

    fn each(
        &mut self,
        what: &'static str,
        at: SocketAddr,
        purpose: &Purpose,
    ) -> Result<SocketAddr, StartError> {
        let failed = |source| StartError::Listen { what, address: at, source };
        let sockets = bind_each(at, self.of_workers.len()).map_err(failed)?;
        let mut bound = at;
        for (worker, socket) in self.of_workers.iter_mut().zip(sockets) {
            // What is accepted has it from here.
            self.liveness.watch(&socket);
            // A port that was 0 has become one.
            bound = socket.local_addr().map_err(failed)?;
            worker.push((purpose.clone(), socket));
        }
        Ok(bound)
    }
}

fn explicit(listener: &Listener, tls: Option<&ServerTls>) -> Explicit {
    let meant = match &listener.service {
        Some(s) => Meant::Service(format!("{}/{}", s.namespace, s.name).into(), s.port),
        None => Meant::Authority,
    };
    let protocol = match (listener.protocol, &listener.service) {
        (ListenerProtocol::Tcp, _) => AppProtocol::Tcp,
        (ListenerProtocol::Auto, Some(_)) => AppProtocol::Auto,
        // Without a service only an authority says where a request goes, and only HTTP has one.
        (ListenerProtocol::Http, _) | (ListenerProtocol::Auto, None) => AppProtocol::Http1,
    };
    Explicit { meant, protocol, tls: tls.cloned() }
}
