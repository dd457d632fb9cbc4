//! A request whose trace is not kept costs at most 300 instructions for it, counted by callgrind in the build that the
//! demo serves with.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: helpers outside #[test] may panic")]

use std::process::Command;

const REQUESTS: u64 = 1000;
const MOST: u64 = 300;

/// Builds the example if it must. It lies in this crate, which has no dependencies for development only, and so takes
/// everything else in the very features in which the demo takes it: what one has built, the other need not.
fn example() -> String {
    let arguments = ["build", "--quiet", "--profile", "demo", "--package", "trama-tests", "--example"];
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let built = Command::new(cargo).args(arguments).arg("trace_cost").current_dir(root).status();
    assert!(built.unwrap().success(), "the example trace_cost does not build");
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| format!("{root}/target"));
    format!("{target}/demo/examples/trace_cost")
}

/// Instructions of one call of `Telemetry::trace`. The example makes one call more than it is told, to warm up.
fn instructions(example: &str, case: &str) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*Telemetry*trace*"])
        .args([example, case, &REQUESTS.to_string()])
        .output()
        .expect("valgrind is missing; install it: sudo apt-get install -y valgrind");
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    let collected = report.lines().find_map(|line| line.split("Collected : ").nth(1));
    let collected: u64 = collected.and_then(|n| n.trim().parse().ok()).unwrap_or_else(|| panic!("{report}"));
    collected / (REQUESTS + 1)
}

#[test]
fn a_trace_that_is_not_kept_is_nearly_free() {
    let example = example();
    for case in ["continued", "absent"] {
        let each = instructions(&example, case);
        println!("{case}: {each} instructions");
        assert!((1..=MOST).contains(&each), "{case}: {each} instructions, at most {MOST} are allowed");
    }
    let kept = instructions(&example, "kept");
    assert!(kept > MOST, "a kept one costs {kept}: callgrind has not seen the function");
}
