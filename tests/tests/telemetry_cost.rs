//! A request whose trace is not kept costs at most 300 instructions for it, counted by callgrind in the build that the
//! demo serves with. That it costs no allocation is counted in `telemetry_allocations.rs`.
//!
//! Counted is `Telemetry::trace`, which is all that is done for such a trace, of a request with a good context, with none, and
//! with a broken one. Not counted is `Telemetry::finish`: it counts and logs each request at its end, whether there are traces
//! or not.
//!
//! The build takes minutes where there is none yet, and the suite `demo` then finds it made.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: helpers outside #[test] may panic")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use trama_tests::mesh::{Application, Client, Mesh, Payload, Pod, Speaks, Where};

const REQUESTS: u64 = 1000;
/// Of the sidecar's whole program, which callgrind makes fifty times slower.
const ON_THE_WAY: u64 = 50;
const MOST: u64 = 300;
const CALLGRIND: &str = "valgrind --tool=callgrind";
/// As the shell reads it. Who calls this function may be built into its own caller; it is too long for that.
const COLLECT: &str = "--callgrind-out-file=/dev/null '--toggle-collect=*Telemetry*trace*'";
/// Nothing is late because it is counted; and a client's connection that is still open holds up no end.
const PATIENT: &str = "timeouts: { connect: 30s, tlsHandshake: 30s, drain: 1s }";

/// Builds what is missing, with the packages that the demo takes: in the same features, so that nothing is built twice.
fn built(what: &[&str]) {
    let packages = ["--package", "trama-sidecar", "--package", "trama-tests"];
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.args(["build", "--quiet", "--profile", "demo"]).args(packages).args(what);
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    assert!(command.current_dir(root).status().unwrap().success(), "{what:?} does not build");
}

fn folder() -> PathBuf {
    let beside = || concat!(env!("CARGO_MANIFEST_DIR"), "/../target").to_owned();
    Path::new(&std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| beside())).join("demo")
}

/// What callgrind says that it has collected.
fn collected(report: &str) -> u64 {
    let collected = report.lines().find_map(|line| line.split("Collected : ").nth(1));
    collected.and_then(|n| n.trim().parse().ok()).unwrap_or_else(|| panic!("{report}"))
}

/// Instructions of one call of `Telemetry::trace`. The example makes one call more than it is told, to warm up.
fn instructions(hop: &str, context: &str) -> u64 {
    let mut command = Command::new("sh");
    let program = folder().join("examples/trace_cost");
    let line = format!("exec {CALLGRIND} {COLLECT} {} {hop} {context} {REQUESTS}", program.display());
    let output = command.args(["-c", &line]).output().unwrap();
    collected(&String::from_utf8_lossy(&output.stderr)) / (REQUESTS + 1)
}

#[test]
fn a_trace_that_is_not_kept_is_nearly_free() {
    built(&["--example", "trace_cost"]);
    for hop in ["outbound", "inbound", "mesh"] {
        for context in ["continued", "absent", "malformed"] {
            let each = instructions(hop, context);
            println!("{hop}, {context}: {each} instructions");
            assert!((1..=MOST).contains(&each), "{hop}, {context}: {each} instructions");
        }
        let kept = instructions(hop, "kept");
        assert!(kept > MOST, "a kept one costs {kept}: callgrind has not seen the function");
    }
}

/// The sidecar's own program, as which callgrind is started: it counts what a request does for its trace.
fn counted(folder: &Path) -> PathBuf {
    let script = folder.join("counted");
    let program = self::folder().join("trama-sidecar");
    fs::write(&script, format!("#!/bin/sh\nexec {CALLGRIND} {COLLECT} {} \"$@\"\n", program.display()))
        .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

async fn ask(mut client: Client) {
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    let broken = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x";
    for number in 0..ON_THE_WAY {
        let request = client.request("GET", "/");
        let request = match number % 3 {
            0 => request.header("traceparent", good),
            1 => request.header("traceparent", broken),
            _ => request,
        };
        let answer = client.call(request.body(Payload::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status, 200);
    }
}

/// Ends the pod's sidecar, and asks callgrind what its requests have cost.
fn judge(pod: &mut Pod, way: &str, requests: u64) {
    let process = pod.process();
    process.terminate();
    process.wait(Duration::from_secs(30)).unwrap();
    let each = collected(&process.log()) / requests;
    println!("{way}: {each} instructions");
    assert!((1..=MOST).contains(&each), "{way}: {each} instructions");
}

/// Outbound over HTTP/1 and over HTTP/2, to another sidecar; inbound from there.
#[tokio::test]
async fn a_trace_that_is_not_kept_is_nearly_free_on_every_way() {
    built(&["--bin", "trama-sidecar"]);
    let folder = tempfile::tempdir().unwrap();
    let counted = counted(folder.path());
    // Every trace that begins here is drawn, and none is kept.
    let telemetry =
        "kind: Telemetry\nmetadata: { name: mesh }\nspec: { tracing: { samplingPercent: 0.0000001 } }\n";
    let mut mesh = Mesh::builder()
        .at(Where::Processes)
        .pod("orders", |p| {
            let p = p.serves("shop/orders").application(&Application::echo("orders"));
            p.program(&counted).config(PATIENT)
        })
        .pod("http1", |p| p.program(&counted).config(PATIENT))
        .pod("http2", |p| p.program(&counted).config(PATIENT))
        .policy(|p| p.more(telemetry))
        .start()
        .await;
    for (pod, speaks) in [("http1", Speaks::Http1), ("http2", Speaks::Http2)] {
        ask(mesh.pod(pod).http(speaks, "orders.shop").await).await;
    }
    judge(mesh.pod_mut("http1"), "outbound over HTTP/1", ON_THE_WAY);
    judge(mesh.pod_mut("http2"), "outbound over HTTP/2", ON_THE_WAY);
    judge(mesh.pod_mut("orders"), "inbound", 2 * ON_THE_WAY);
}
