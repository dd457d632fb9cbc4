//! The dependency diagram of the control plane. Each module names only what stands below it.

use super::diagram::{Diagram, Line};

const MAY_NAME: &[Line] = &[
    ("main", &["*"]),
    ("lib", &["*"]),
    // The composition root: it builds the services, puts them on the sockets and keeps house.
    ("app", &["*"]),
    // The services. What an operator asks of sidecars goes over their streams, and the traces are theirs to read.
    ("admin", &["explain", "identity", "mirror", "model", "policy", "store", "stream", "traces", "CALLS"]),
    ("stream", &["config", "distribute", "flood", "identity", "mirror", "model", "quota", "CALLS"]),
    ("traces", &["config", "flood", "CALLS"]),
    // The sockets: the control plane's own certificate is the authority's, and readiness is the mirror's.
    ("serve", &["config", "flood", "identity", "mirror", "peer", "quota", "telemetry"]),
    ("identity", &["config", "flood", "quota", "store", "CALLS"]),
    // The world, and what is decided by it.
    ("mirror", &["model", "store"]),
    ("distribute", &["model"]),
    ("explain", &["model"]),
    ("model", &["store"]),
    ("store", &[]),
    ("policy", &[]),
    ("config", &[]),
    // What each service stands on: who calls, why not, how it ends, what is counted, the time.
    ("peer", &["farewell", "reason"]),
    ("quota", &["reason"]),
    ("farewell", &[]),
    ("reason", &[]),
    ("telemetry", &[]),
    ("flood", &[]),
    ("clock", &[]),
];

const CALLS: &[&str] = &["peer", "farewell", "reason", "telemetry", "clock"];

const CONTROL_PLANE: Diagram = Diagram {
    folder: "control-plane/src",
    krate: "trama_control_plane",
    may_name: MAY_NAME,
    groups: &[("CALLS", CALLS)],
};

#[test]
fn modules_of_the_control_plane_name_only_what_the_diagram_allows() {
    CONTROL_PLANE.judge_imports();
    CONTROL_PLANE.judge_modules();
}

#[test]
fn the_diagram_of_the_control_plane_leads_one_way() {
    CONTROL_PLANE.judge_order();
}

/// A look at the page is enough to know the list: it shows each line of it.
#[test]
fn the_architecture_shows_the_diagram_of_the_control_plane() {
    let text = std::fs::read_to_string(crate::process::root().join("ARCHITECTURE.md")).unwrap();
    let section = text.split("\n## The control plane\n").nth(1).unwrap().split("\n## ").next().unwrap();
    for (module, may) in MAY_NAME.iter().filter(|(_, may)| !may.contains(&"*")) {
        let named =
            may.iter().flat_map(|entry| if *entry == "CALLS" { CALLS } else { std::slice::from_ref(entry) });
        let named: Vec<_> = named.map(|module| format!("`{module}`")).collect();
        let named = if named.is_empty() { "nothing".to_owned() } else { named.join(" ") };
        let line = format!("| `{module}` | {named} |");
        assert!(section.contains(&line), "ARCHITECTURE.md, The control plane: there is no line {line}");
    }
}
