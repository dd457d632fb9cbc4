//! What a killed process left behind is gone when the next process makes a lab. Alone in its file: a process
//! sweeps once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use trama_tests::lab::Lab;
use trama_tests::process::run;

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_killed_processs_lab_is_swept_away() {
    let mut dead = Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let (lab, own) = (format!("trama-{}-0", dead.id()), format!("trama-{}-7-pod", std::process::id()));
    let folder = std::env::temp_dir().join(&lab);
    std::fs::create_dir(&folder).unwrap();
    let ip = |arguments: &[&str]| {
        let output = run(Command::new("ip").args(arguments), PATIENCE).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let pod = format!("{lab}-orders-1");
    for namespace in [&lab, &pod, &own] {
        ip(&["netns", "add", namespace]);
    }
    let mut stray = Command::new("ip");
    stray.args(["netns", "exec", &pod, "sleep", "600"]).stdin(Stdio::null());
    let mut stray = stray.spawn().unwrap();
    let namespace = |name: &str| Path::new("/run/netns").join(name);
    // It has entered the namespace when it has become `sleep`.
    let comm = format!("/proc/{}/comm", stray.id());
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::fs::read_to_string(&comm).unwrap().trim() != "sleep" {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }

    let _new = Lab::new().unwrap();
    let left = namespace(&lab).exists() || namespace(&pod).exists() || folder.exists();
    let own_stays = namespace(&own).exists();
    ip(&["netns", "delete", &own]);
    assert!(!left && own_stays);
    assert!(!stray.wait().unwrap().success());
}
