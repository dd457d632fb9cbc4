use std::{fs, path::PathBuf};

use super::*;

const NONE: [(String, String); 0] = [];

fn refused(text: &str) -> String {
    match Config::parse("c.yaml", text, NONE) {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn an_empty_file_is_the_default_and_a_variable_comes_before_the_file() {
    assert_eq!(Config::parse("c.yaml", "", NONE).unwrap(), Config::default());
    let variables = [("TRAMA_STORE_PATH".to_owned(), "/tmp/store".to_owned())];
    let config = Config::parse("c.yaml", "store: { path: /elsewhere }", variables).unwrap();
    assert_eq!(config.store.path, PathBuf::from("/tmp/store"));
    let written = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&written).unwrap(), config);
    assert_eq!(
        config.identity().unwrap().as_str(),
        "spiffe://trama.local/ns/trama-system/sa/trama-control-plane"
    );
}

#[test]
fn every_problem_is_told_with_field_value_and_remedy() {
    let text = "trustDomain: UPPER\nports: { sidecar: 1 }\nadmin: { identities: [orders] }\nlimits: { streams: 0 }\n";
    let told = refused(text);
    for part in [
        "c.yaml:1:14: trustDomain: ",
        "got \"UPPER\"",
        "c.yaml:2:19: ports.sidecar: unknown field",
        "did you mean `sidecars`?",
        "admin.identities[0]: ",
        "limits.streams: ",
    ] {
        assert!(told.contains(part), "{part}\nin\n{told}");
    }
    let text = "ports: { metrics: 15010 }\nadmin: { identities: ['spiffe://other/ns/a/sa/b'] }\n\
                certificates: { rootLifetime: 1h, overlap: 30s }\nworkload: { account: '' }\n";
    let told = refused(text);
    for part in [
        "ports.metrics: the same port as `ports.sidecars`, got 15010; give each its own port",
        "admin.identities[0]: not of the trust domain `trama.local`, got \"spiffe://other/ns/a/sa/b\"",
        "certificates.rootLifetime: shorter than 172800s, got \"3600s\"",
        "certificates.overlap: shorter than 60s, got \"30s\"; a new root reaches sidecars within seconds",
        "workload.account: empty",
    ] {
        assert!(told.contains(part), "{part}\nin\n{told}");
    }
}

#[test]
fn a_trace_receiver_that_cannot_be_reached_as_it_is_written_is_told() {
    let told = refused(
        "traces:\n  forward: { endpoint: 'http://collector:4317', authorities: ca.pem, timeout: 0s, giveUpAfter: 1ms }\n  \
         window: { age: 10ms }\n",
    );
    for part in [
        "traces.forward.authorities: has no meaning without TLS, got \"ca.pem\"; write `traces.forward.endpoint` with",
        "traces.forward.timeout: shorter than",
        "traces.forward.giveUpAfter: shorter than",
        "traces.window.age: shorter than",
    ] {
        assert!(told.contains(part), "{part}\nin\n{told}");
    }
    let told = refused("traces: { forward: { endpoint: 'https://a..b:4317' } }");
    assert!(told.contains("traces.forward.endpoint: a host that no certificate can name"), "{told}");
    let told = refused("traces: { forward: { endpoint: 'collector:4317' }, window: { traces: 0 } }");
    assert!(told.contains("traces.forward.endpoint: ") && told.contains("traces.window.traces: "), "{told}");
    let told = refused("traces: { forward: { endpoint: 'http://collector:4318/v1/traces' } }");
    let wanted = "traces.forward.endpoint: malformed, got \"http://collector:4318/v1/traces\"; write an address of the form";
    assert!(
        told.contains(wanted) && told.contains("without a path: OTLP goes over gRPC, not over HTTP"),
        "{told}"
    );
    Config::parse("c.yaml", "traces: { forward: { endpoint: 'https://[::1]:4317' } }", NONE).unwrap();
}

#[test]
fn the_published_schema_is_the_present_one() {
    let published =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/src/reference/control-plane.schema.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&published, serde_json::to_string_pretty(schema()).unwrap() + "\n").unwrap();
    }
    let text = fs::read_to_string(&published).unwrap_or_default();
    let present: Value = serde_json::from_str(&text).unwrap_or_default();
    assert!(&present == schema(), "{} is out of date: run with UPDATE_GOLDEN=1", published.display());
}
