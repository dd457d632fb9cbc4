use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use trama_proto::settings;

use super::*;

const NONE: [(String, String); 0] = [];

fn refused(text: &str, variables: &[(&str, &str)]) -> String {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    match Config::parse("c.yaml", text, variables) {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(Config::parse("c.yaml", "", NONE).unwrap(), Config::default());
    assert_eq!(Config::default().ports.mesh, 15008);
    assert_eq!(Config::default().timeouts.connect, Duration::from_secs(1));
}

#[test]
fn a_whole_file_is_read() {
    let text = r#"
node: { name: orders-1, namespace: shop, service: orders, region: sao-paulo, zone: sao-paulo-a }
workers: 1
bindAddress: 127.0.0.1
ports: { outbound: 0, inbound: 0, mesh: 0, metrics: 0, health: 0 }
capture: { outbound: false, inbound: false }
listeners:
  - { name: http, address: "127.0.0.1:8080" }
  - { name: db, address: "[::1]:5432", protocol: TCP, service: "shop/db:5432" }
  - name: tls
    address: 127.0.0.1:8443
    protocol: HTTP
    tls: { certificate: a.pem, key: b.pem }
application: { address: 127.0.0.1, allowedPorts: [8080] }
identity: { certificate: c.pem, key: k.pem, bundle: b.pem }
timeouts: { connect: 250ms }
startup: { withoutPolicy: REFUSE }
admin: { port: 0 }
telemetry: { accessLog: "off", otlpEndpoint: "http://127.0.0.1:4317" }
"#;
    let config = Config::parse("c.yaml", text, NONE).unwrap();
    assert_eq!(config.worker_count(), 1);
    assert_eq!(config.listeners[1].service.as_ref().unwrap().to_string(), "shop/db:5432");
    assert_eq!(config.timeouts.connect, Duration::from_millis(250));
    assert_eq!(config.startup.without_policy, WithoutPolicy::Refuse);
    assert_eq!(config.telemetry.access_log, AccessLogTarget::Off);
    assert_eq!(config.identity.as_ref().unwrap().bundle, PathBuf::from("b.pem"));
    let written = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&written).unwrap(), config);
}

#[test]
fn every_problem_is_told_at_once_with_its_place() {
    let text = "node: { regon: sao-paulo }\n\
                ports: { mesh: 70000 }\n\
                timeouts:\n\
                \x20 connect: 1\n\
                \x20 drain: soon\n\
                listeners:\n\
                \x20 - { name: a, address: localhost:80, protocol: UDP }\n\
                workers: 0\n";
    let expected = "\
TRAMA_ADMIN_PROT: unknown environment variable; did you mean `TRAMA_ADMIN_PORT`?
TRAMA_LIMITS_HEADER_COUNT: limits.headerCount: not a whole number, got \"many\"; write a whole number from 8 to 10000
c.yaml:1:16: node.regon: unknown field; did you mean `region`? Known: name, namespace, region, service, zone
c.yaml:2:16: ports.mesh: out of range, got 70000; write a whole number from 0 to 65535
c.yaml:4:12: timeouts.connect: a number where a string is needed, got 1; write a length of time with its unit, such as `1.5s`, `250ms` or `1h30m`
c.yaml:5:10: timeouts.drain: malformed, got \"soon\"; write a length of time with its unit, such as `1.5s`, `250ms` or `1h30m`
c.yaml:7:25: listeners[0].address: malformed, got \"localhost:80\"; write an IP address with a port, such as `127.0.0.1:8080` or `[::1]:8080`
c.yaml:7:49: listeners[0].protocol: not an allowed value, got \"UDP\"; known: AUTO, HTTP, TCP
c.yaml:8:10: workers: out of range, got 0; write a whole number from 1 to 256";
    let variables = [("TRAMA_ADMIN_PROT", "1"), ("TRAMA_LIMITS_HEADER_COUNT", "many"), ("HOME", "/")];
    assert_eq!(refused(text, &variables), expected);
}

#[test]
fn contradictions_are_told_with_their_place() {
    let text = "ports: { mesh: 15001 }\n\
                admin: { address: 0.0.0.0 }\n\
                listeners:\n\
                \x20 - { name: a, address: \"127.0.0.1:80\", protocol: TCP }\n\
                \x20 - { name: a, address: \"127.0.0.1:80\", protocol: HTTP, service: \"a/b:1\" }\n\
                \x20 - { name: b, address: \"127.0.0.1:81\", tls: { certificate: c, key: k, clientNames: [a.b] } }\n\
                timeouts: { connect: 0s }\n\
                upstreamTls: [{ name: a, certificate: a.pem }, { name: a }]\n";
    let expected = "\
c.yaml:1:16: ports.mesh: the same port as `ports.outbound`, got 15001; give each its own port
c.yaml:2:19: admin.address: not a loopback address, got \"0.0.0.0\"; write 127.0.0.1 or ::1: whoever reaches it may change everything
c.yaml:4:5: listeners[0].service: missing with protocol TCP; name where the bytes go, such as `shop/database:5432`
c.yaml:5:13: listeners[1].name: used twice, got \"a\"; give each listener its own name
c.yaml:5:25: listeners[1].address: used twice, got \"127.0.0.1:80\"; give each listener its own address or port
c.yaml:5:66: listeners[1].service: has no meaning with protocol HTTP, got \"a/b:1\"; remove it: the authority of each request decides
c.yaml:6:85: listeners[2].tls.clientNames: has no meaning without `clientBundle`; name the authorities that sign these clients' certificates, or remove it
c.yaml:8:15: upstreamTls[0].key: missing with `certificate`; a client certificate needs its chain and its key: name both files, or none
c.yaml:8:56: upstreamTls[1].name: used twice, got \"a\"; give each entry its own name
c.yaml:7:22: timeouts.connect: too short, got \"0s\"; write at least `1ms`; nothing is unlimited";
    assert_eq!(refused(text, &[]), expected);
}

#[test]
fn policy_has_one_source_and_the_control_plane_wants_to_know_who_asks() {
    let text = "controlPlane: { address: 'control:15010', bundle: ca.pem, identity: spiffe://mesh }\n\
                policyFile: p.yaml\n";
    let expected = "\
c.yaml:2:13: policyFile: excluded by `controlPlane`, got \"p.yaml\"; remove one of the two: policy has one source
c.yaml:1:1: identity: missing with `controlPlane`; name the files of an identity, or how it joins by `controlPlane.join`: the control plane tells policy to none without
c.yaml:1:69: controlPlane.identity: a workload's SPIFFE id has a path after the trust domain, got \"spiffe://mesh\"; write `spiffe://<trust domain>/ns/<namespace>/sa/<account>`";
    assert_eq!(refused(text, &[]), expected);
    let refused = refused("controlPlane: { address: control, bundle: ca.pem }\n", &[]);
    let wanted =
        "c.yaml:1:26: controlPlane.address: malformed, got \"control\"; write a host and a port, such as";
    assert!(refused.starts_with(wanted), "{refused}");
}

#[test]
fn a_workload_that_joins_has_no_identity_in_files_and_a_place_for_its_key() {
    let joins = "controlPlane: { address: 'control:15010', bundle: ca.pem, join: { identity: spiffe://mesh/ns/a/sa/b, token: t } }\n";
    let config = Config::parse("c.yaml", &format!("{joins}stateDirectory: s\n"), NONE).unwrap();
    assert!(config.has_identity());
    assert_eq!(config.join().unwrap().token, PathBuf::from("t"));
    let both = format!("{joins}identity: {{ certificate: c.pem, key: k.pem, bundle: b.pem }}\n");
    let expected = "\
c.yaml:1:65: controlPlane.join: excluded by `identity`; remove one of the two: an identity has one source
c.yaml:1:1: stateDirectory: missing with `controlPlane.join`; name a folder of this sidecar's own: its key is kept there, and a join token is good for one key";
    assert_eq!(refused(&both, &[]), expected);

    let variables =
        [("TRAMA_CONTROL_PLANE_JOIN_TOKEN", "/run/token"), ("TRAMA_CONTROL_PLANE_JOIN_IDENTITY", "orders")];
    let refused = refused(&format!("{joins}stateDirectory: s\n"), &variables);
    let wanted =
        "TRAMA_CONTROL_PLANE_JOIN_IDENTITY: controlPlane.join.identity: malformed, got \"orders\"; write";
    assert!(refused.starts_with(wanted), "{refused}");
}

#[test]
fn a_receiver_of_spans_may_want_tls() {
    let host = |receiver: &str| {
        let text = format!("telemetry: {{ otlpEndpoint: {receiver:?} }}");
        Config::parse("c.yaml", &text, NONE).unwrap().telemetry.sealed_host().map(str::to_owned)
    };
    assert_eq!(host("http://collector:4317"), None);
    assert_eq!(host("https://collector:4317").as_deref(), Some("collector"));
    assert_eq!(host("https://collector.example/").as_deref(), Some("collector.example"));
    assert_eq!(host("https://[::1]:4317").as_deref(), Some("::1"));
    let entry = "upstreamTls: [{ name: collector }]";
    for (telemetry, wanted) in [
        (
            "otlpEndpoint: \"ftp://a:1\"",
            "c.yaml:1:28: telemetry.otlpEndpoint: malformed, got \"ftp://a:1\"; write an",
        ),
        (
            "otlpEndpoint: \"http://a:4318/v1/traces\"",
            "got \"http://a:4318/v1/traces\"; write an address of the form `http://host:port` or `https://host:port`, without a \
             path: OTLP goes over gRPC, not over HTTP",
        ),
        (
            "otlpEndpoint: \"https://me@a:1\"",
            "telemetry.otlpEndpoint: a host that no certificate can name, got \"me@a\"; write",
        ),
        (
            "otlpEndpoint: \"https://a:1\", otlpTls: colector",
            "c.yaml:1:52: telemetry.otlpTls: no such entry in `upstreamTls`, got \"colector\"; add one",
        ),
        (
            "otlpEndpoint: \"http://a:1\", otlpTls: collector",
            "telemetry.otlpTls: has no meaning without TLS, got \"collector\"; write `otlpEndpoint` with",
        ),
    ] {
        let refused = refused(&format!("telemetry: {{ {telemetry} }}\n{entry}\n"), &[]);
        assert!(refused.contains(wanted), "{refused}");
    }
}

#[test]
fn variables_come_before_the_file() {
    let variables = [
        ("TRAMA_PORTS_MESH", "16008"),
        ("TRAMA_TIMEOUTS_CONNECT", "2s"),
        ("TRAMA_NODE_NAME", "007"),
        ("TRAMA_APPLICATION_ALLOWED_PORTS", "[80, 81]"),
        ("TRAMA_LISTENERS", "[{name: a, address: '127.0.0.1:80'}]"),
        ("TRAMA_CAPTURE_INBOUND", "false"),
        ("TRAMA_LOG", "debug"),
        ("TRAMA_LOG_FORMAT", "json"),
        ("TRAMA_SERVICE_HOST", "10.0.0.1"),
        ("TRAMA_ADMIN_PORT", "tcp://10.0.0.1:80"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::parse("c.yaml", "ports: { mesh: 1 }\n", variables).unwrap();
    assert_eq!((config.ports.mesh, config.timeouts.connect), (16008, Duration::from_secs(2)));
    assert_eq!(config.node.name.as_deref(), Some("007"));
    assert_eq!(config.application.allowed_ports, [80, 81]);
    assert_eq!(config.listeners[0].name, "a");
    assert!(!config.capture.inbound);
}

#[test]
fn every_leaf_has_a_variable_of_its_own() {
    let variables = settings::variables(schema());
    for name in ["TRAMA_ADMIN_PORT", "TRAMA_TIMEOUTS_REQUEST_HEADER", "TRAMA_IDENTITY_KEY", "TRAMA_LISTENERS"]
    {
        assert!(variables.contains_key(name), "{name}");
    }
    let fields: BTreeSet<_> = variables.values().collect();
    assert_eq!(fields.len(), variables.len());
    assert!(variables.len() > 40, "{}", variables.len());
    assert!(variables.keys().all(|name| !settings::is_service_link(name, "15000")));
}

#[test]
fn a_missing_file_and_a_second_document_are_named() {
    let missing = Config::load(Some(Path::new("/nonexistent/c.yaml")), NONE).unwrap_err().to_string();
    assert!(missing.starts_with("/nonexistent/c.yaml: cannot be read: "), "{missing}");
    assert_eq!(
        refused("workers: 1\n---\nworkers: 2\n", &[]),
        "c.yaml:3:1: a second document; remove it and the `---` before it"
    );
}

#[test]
fn the_published_schema_is_the_present_one() {
    let published =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/src/reference/config.schema.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&published, serde_json::to_string_pretty(schema()).unwrap() + "\n").unwrap();
    }
    let text = fs::read_to_string(&published).unwrap_or_default();
    let present: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    assert!(&present == schema(), "{} is out of date: run with UPDATE_GOLDEN=1", published.display());
}

#[test]
fn a_clients_name_is_a_dns_name_or_a_uri() {
    let listener = |name: &str| {
        format!(
            "listeners: [{{ name: a, address: \"127.0.0.1:80\", tls: {{ certificate: c, key: k, clientBundle: b, clientNames: [{name:?}] }} }}]\n"
        )
    };
    for good in ["buyer", "buyer.shop", "spiffe://mesh.local/ns/shop/sa/buyer", "urn:uuid:1", "https://x/y"] {
        let config = Config::parse("c.yaml", &listener(good), []).unwrap();
        let name = config.listeners[0].tls.as_ref().unwrap().client_names[0].clone();
        assert_eq!(String::from(name), good);
    }
    for bad in ["", "a b", "-a", "10.0.0.1", "spiffe://mesh.local", "spiffe:", ":x", "a:", "fd00::1 "] {
        let refused = refused(&listener(bad), &[]);
        assert!(refused.contains("listeners[0].tls.clientNames[0]"), "{bad}: {refused}");
    }
}
