//! The rules, judged on the real source.

use super::{
    FOLDERS,
    diagram::{Diagram, Line},
    load, sizes,
};

/// The dependency diagram of the sidecar: a module, and what it may name. `main -> app -> inbound | outbound ->
/// stages -> config, telemetry, error`. No stage names another one; what a stage needs from another, `app` hands
/// it as a trait. The exceptions are spelled out, each with its reason.
const MAY_NAME: &[Line] = &[
    // The composition roots: they build the stages and hand them to each other.
    ("lib", &["*"]),
    ("main", &["*"]),
    ("cli", &["*"]),
    ("app", &["*"]),
    ("discovery", &["*"]),
    ("admin", &["*"]),
    // The two stories walk through all stages, but not through each other.
    ("inbound", &["STAGES", "BASE", "worker", "exchange"]),
    ("outbound", &["STAGES", "BASE", "worker", "exchange"]),
    // Decides by the outbound story's functions, and is asked by the composition roots alone.
    ("explain", &["STAGES", "BASE", "outbound"]),
    // What both stories have in hand: a worker's world, and one request from its begin to its sure end.
    ("worker", &["STAGES", "BASE"]),
    ("exchange", &["STAGES", "BASE", "worker"]),
    // The stages, in path order. The proof of the capture rules asks a connection what it was meant for.
    ("redirect", &["BASE", "accept::original_dst"]),
    ("accept", &["BASE"]),
    ("tls", &["BASE"]),
    ("http", &["BASE"]),
    ("authz", &["BASE"]),
    ("filter", &["BASE", "http::body"]),
    ("route", &["BASE"]),
    ("balance", &["BASE"]),
    // Upstream connections are TLS clients, and HTTP's client side shares streams, interim answers and HTTP/2's
    // frames of a body with the server side, besides the one body type.
    ("upstream", &["BASE", "tls", "http::body", "http::io", "http::interim", "http::h2"]),
    // What everything stands on.
    ("config", &["error"]),
    ("telemetry", &["config", "error", "http::body"]),
    ("drain", &["error"]),
    ("error", &[]),
];

const STAGES: &[&str] =
    &["redirect", "accept", "tls", "http", "authz", "filter", "route", "balance", "upstream"];
const BASE: &[&str] = &["config", "telemetry", "drain", "error"];

const LARGEST_FILE: usize = 600;

const SIDECAR: Diagram = Diagram {
    folder: "sidecar/src",
    krate: "trama_sidecar",
    may_name: MAY_NAME,
    groups: &[("STAGES", STAGES), ("BASE", BASE)],
};

#[test]
fn modules_name_only_what_the_diagram_allows() {
    SIDECAR.judge_imports();
    SIDECAR.judge_modules();
}

#[test]
fn the_diagram_refuses_a_stage_that_names_another() {
    let path = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();
    let allowed = |from: &str, to: &[String]| SIDECAR.allows(from, to);
    assert!(allowed("upstream", &path("tls::client")));
    assert!(allowed("outbound", &path("balance")));
    assert!(allowed("filter", &path("http::body")));
    assert!(!allowed("filter", &path("http::h2")));
    assert!(!allowed("tls", &path("upstream")));
    assert!(!allowed("config", &path("route")));
    assert!(!allowed("inbound", &path("outbound")));
}

#[test]
fn no_file_is_too_long() {
    for folder in FOLDERS {
        for size in sizes::files(&load(folder).unwrap()) {
            assert!(
                size.lines <= LARGEST_FILE,
                "{}: {} lines without tests",
                size.path.display(),
                size.lines
            );
        }
    }
}

/// Compiling wasmtime takes minutes, so one crate names it and everything else stays quick to build.
#[test]
fn only_the_wasm_host_names_wasmtime() {
    for folder in ["proto", "sidecar", "control-plane", "control-plane/cli", "tests", "xtask"] {
        let manifest =
            std::fs::read_to_string(crate::process::root().join(folder).join("Cargo.toml")).unwrap();
        assert!(!manifest.contains("wasmtime"), "{folder}/Cargo.toml names wasmtime");
    }
}
