//! What types and ranges cannot say: fields that contradict each other.

use std::time::Duration;

use rustls_pki_types::ServerName;
use trama_proto::{Problem, located::Located};

use super::{Config, ListenerProtocol, control_plane};

/// All that is wrong with a configuration whose fields are well-formed each by itself.
pub(super) fn problems(config: &Config, located: &Located) -> Vec<Problem> {
    let mut found = Vec::new();
    ports(config, located, &mut found);
    admin(config, located, &mut found);
    listeners(config, located, &mut found);
    upstream_tls(config, located, &mut found);
    receiver(config, located, &mut found);
    timeouts(config, located, &mut found);
    control_plane::problems(config, located, &mut found);
    found
}

fn ports(config: &Config, located: &Located, found: &mut Vec<Problem>) {
    let ports = &config.ports;
    let named = [
        ("ports.outbound", ports.outbound),
        ("ports.inbound", ports.inbound),
        ("ports.mesh", ports.mesh),
        ("ports.metrics", ports.metrics),
        ("ports.health", ports.health),
        ("admin.port", config.admin.port),
    ];
    for (index, (field, port)) in named.iter().enumerate().filter(|(_, (_, port))| *port != 0) {
        if let Some((other, _)) = named[..index].iter().find(|(_, taken)| taken == port) {
            let problem = format!("the same port as `{other}`");
            found.push(located.problem(field, port.to_string(), problem, "give each its own port"));
        }
    }
}

fn admin(config: &Config, located: &Located, found: &mut Vec<Problem>) {
    let address = config.admin.address;
    if !address.is_loopback() {
        let remedy = "write 127.0.0.1 or ::1: whoever reaches it may change everything";
        found.push(located.problem(
            "admin.address",
            format!("\"{address}\""),
            "not a loopback address",
            remedy,
        ));
    }
}

fn listeners(config: &Config, located: &Located, found: &mut Vec<Problem>) {
    for (index, listener) in config.listeners.iter().enumerate() {
        let field = |name: &str| format!("listeners[{index}].{name}");
        let before = &config.listeners[..index];
        if listener.name.is_empty() {
            found.push(located.problem(&field("name"), "\"\"", "empty", "give the listener a name"));
        }
        if before.iter().any(|other| other.name == listener.name) {
            let value = format!("{:?}", listener.name);
            found.push(located.problem(
                &field("name"),
                value,
                "used twice",
                "give each listener its own name",
            ));
        }
        if listener.address.port() != 0 && before.iter().any(|other| other.address == listener.address) {
            let value = format!("\"{}\"", listener.address);
            let remedy = "give each listener its own address or port";
            found.push(located.problem(&field("address"), value, "used twice", remedy));
        }
        let tls = listener.tls.as_ref();
        if tls.is_some_and(|tls| tls.client_bundle.is_none() && !tls.client_names.is_empty()) {
            let problem = "has no meaning without `clientBundle`";
            let remedy = "name the authorities that sign these clients' certificates, or remove it";
            found.push(located.problem(&field("tls.clientNames"), "", problem, remedy));
        }
        match (listener.protocol, &listener.service) {
            (ListenerProtocol::Tcp, None) => {
                let remedy = "name where the bytes go, such as `shop/database:5432`";
                found.push(located.problem(&field("service"), "", "missing with protocol TCP", remedy));
            }
            (ListenerProtocol::Http, Some(service)) => {
                let remedy = "remove it: the authority of each request decides";
                let value = format!("\"{service}\"");
                found.push(located.problem(
                    &field("service"),
                    value,
                    "has no meaning with protocol HTTP",
                    remedy,
                ));
            }
            _ => {}
        }
    }
}

fn upstream_tls(config: &Config, located: &Located, found: &mut Vec<Problem>) {
    for (index, entry) in config.upstream_tls.iter().enumerate() {
        let field = |name: &str| format!("upstreamTls[{index}].{name}");
        if entry.name.is_empty() {
            found.push(located.problem(&field("name"), "\"\"", "empty", "give the entry a name"));
        }
        if config.upstream_tls[..index].iter().any(|other| other.name == entry.name) {
            let value = format!("{:?}", entry.name);
            found.push(located.problem(&field("name"), value, "used twice", "give each entry its own name"));
        }
        let (missing, with) = match (&entry.certificate, &entry.key) {
            (Some(_), None) => ("key", "certificate"),
            (None, Some(_)) => ("certificate", "key"),
            _ => continue,
        };
        let remedy = "a client certificate needs its chain and its key: name both files, or none";
        found.push(located.problem(&field(missing), "", format!("missing with `{with}`"), remedy));
    }
}

fn receiver(config: &Config, located: &Located, found: &mut Vec<Problem>) {
    let telemetry = &config.telemetry;
    let host = telemetry.sealed_host();
    if let Some(host) = host.filter(|host| ServerName::try_from(*host).is_err()) {
        let problem = "a host that no certificate can name";
        let remedy = "write a DNS name or an IP address, such as `https://collector:4317`";
        found.push(located.problem("telemetry.otlpEndpoint", format!("{host:?}"), problem, remedy));
    }
    let Some(name) = &telemetry.otlp_tls else { return };
    let mut wrong = |problem, remedy| {
        found.push(located.problem("telemetry.otlpTls", format!("{name:?}"), problem, remedy))
    };
    if host.is_none() {
        wrong("has no meaning without TLS", "write `otlpEndpoint` with `https://`, or remove it");
    } else if !config.upstream_tls.iter().any(|entry| entry.name == *name) {
        wrong(
            "no such entry in `upstreamTls`",
            "add one of this name, or remove it for the system's authorities",
        );
    }
}

fn timeouts(config: &Config, located: &Located, found: &mut Vec<Problem>) {
    let (timeouts, pool) = (&config.timeouts, &config.pool);
    let positive = [
        ("timeouts.connect", timeouts.connect),
        ("timeouts.tlsHandshake", timeouts.tls_handshake),
        ("timeouts.requestHeader", timeouts.request_header),
        ("timeouts.streamIdle", timeouts.stream_idle),
        ("timeouts.tcpIdle", timeouts.tcp_idle),
        ("timeouts.keepalive", timeouts.keepalive),
        ("timeouts.deadPeer", timeouts.dead_peer),
        ("pool.idleTimeout", pool.idle_timeout),
        ("pool.maxAge", pool.max_age),
    ];
    for (field, length) in positive {
        if length < Duration::from_millis(1) {
            let value = format!("\"{}\"", trama_proto::duration::format(length));
            found.push(located.problem(
                field,
                value,
                "too short",
                "write at least `1ms`; nothing is unlimited",
            ));
        }
    }
}
