//! What types and ranges cannot say: fields that contradict each other.

use std::time::Duration;

use rustls_pki_types::ServerName;
use trama_proto::{Problem, duration, located::Located};
use trama_sidecar::config::bootstrap::sealed_host;

use super::Config;

/// All that is wrong with a configuration whose fields are well-formed each by itself.
pub(super) fn problems(config: &Config, located: &Located) -> Vec<Problem> {
    let mut found = Vec::new();
    ports(config, located, &mut found);
    identities(config, located, &mut found);
    receiver(config, located, &mut found);
    lengths(config, located, &mut found);
    found
}

fn ports(config: &Config, located: &Located, found: &mut Vec<Problem>) {
    let ports = &config.ports;
    let named = [
        ("ports.sidecars", ports.sidecars),
        ("ports.metrics", ports.metrics),
        ("ports.health", ports.health),
    ];
    for (index, (field, port)) in named.iter().enumerate().filter(|(_, (_, port))| *port != 0) {
        if let Some((other, _)) = named[..index].iter().find(|(_, taken)| taken == port) {
            let problem = format!("the same port as `{other}`");
            found.push(located.problem(field, port.to_string(), problem, "give each its own port"));
        }
    }
}

fn identities(config: &Config, located: &Located, found: &mut Vec<Problem>) {
    let Config { trust_domain, workload, admin, .. } = config;
    for (field, part) in [("namespace", &workload.namespace), ("account", &workload.account)] {
        if part.is_empty() {
            let field = format!("workload.{field}");
            found.push(located.problem(&field, "\"\"", "empty", "write a name, or leave it out"));
        }
    }
    for (index, identity) in admin.identities.iter().enumerate() {
        if identity.trust_domain() != trust_domain {
            let problem = format!("not of the trust domain `{trust_domain}`");
            let remedy = "an admin's certificate is of this mesh's own authority";
            let field = format!("admin.identities[{index}]");
            found.push(located.problem(&field, format!("\"{identity}\""), problem, remedy));
        }
    }
}

fn receiver(config: &Config, located: &Located, found: &mut Vec<Problem>) {
    let forward = &config.traces.forward;
    let host = forward.endpoint.as_deref().and_then(sealed_host);
    if let Some(host) = host.filter(|host| ServerName::try_from(*host).is_err()) {
        let problem = "a host that no certificate can name";
        let remedy = "write a DNS name or an IP address, such as `https://collector:4317`";
        found.push(located.problem("traces.forward.endpoint", format!("{host:?}"), problem, remedy));
    }
    if let (None, Some(file)) = (host, &forward.authorities) {
        let remedy = "write `traces.forward.endpoint` with `https://`, or remove it";
        let value = format!("{:?}", file.display().to_string());
        found.push(located.problem(
            "traces.forward.authorities",
            value,
            "has no meaning without TLS",
            remedy,
        ));
    }
}

fn lengths(config: &Config, located: &Located, found: &mut Vec<Problem>) {
    let (timeouts, certificates) = (&config.timeouts, &config.certificates);
    let mut at_least = |field: &str, length: Duration, least: Duration, remedy: &str| {
        if length < least {
            let value = format!("\"{}\"", duration::format(length));
            let problem = format!("shorter than {}", duration::format(least));
            found.push(located.problem(field, value, problem, remedy));
        }
    };
    let second = Duration::from_secs(1);
    at_least("certificates.lifetime", certificates.lifetime, second, "a certificate must outlive its way");
    at_least("certificates.joinTokenLifetime", certificates.join_token_lifetime, second, "write more");
    let twice = certificates.lifetime * 2;
    at_least(
        "certificates.rootLifetime",
        certificates.root_lifetime,
        twice,
        "a root must live twice as long as what it signs (`certificates.lifetime`)",
    );
    at_least(
        "certificates.overlap",
        certificates.overlap,
        certificates.lifetime.min(Duration::from_secs(60)),
        "a new root reaches sidecars within seconds, but not those that are just coming back: write a minute at least",
    );
    at_least("store.copyEvery", config.store.copy_every, second, "write more: it writes the whole store");
    at_least("traces.window.age", config.traces.window.age, second, "write more: a trace takes its time");
    at_least("traces.forward.giveUpAfter", config.traces.forward.give_up_after, second, "write more");
    let nothing_is_unlimited = "write more; nothing is unlimited";
    for (field, length) in [
        ("timeouts.tlsHandshake", timeouts.tls_handshake),
        ("timeouts.idle", timeouts.idle),
        ("timeouts.hello", timeouts.hello),
        ("timeouts.acknowledge", timeouts.acknowledge),
        ("traces.forward.timeout", config.traces.forward.timeout),
    ] {
        at_least(field, length, Duration::from_millis(1), nothing_is_unlimited);
    }
}
