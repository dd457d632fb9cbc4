//! The demo as somebody who may not capture.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use trama_tests::programs;

const NOBODY: &str = "65534";

#[test]
fn who_is_not_root_is_told_of_the_explicit_mode_and_its_story_holds() {
    let folder = tempfile::Builder::new().prefix("trama-demo-").tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    // What is built may lie in root's home, where nobody else can look.
    for name in ["demo", "trama-sidecar", "trama-control-plane", "tramactl"] {
        fs::copy(programs::built(name).unwrap(), folder.path().join(name)).unwrap();
    }
    let demo = folder.path().join("demo");
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new(programs::find("setpriv").expect("setpriv, of util-linux"));
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--"]).arg(&demo);
        command
    } else {
        Command::new(&demo)
    };
    command.args(["run", "--once", "--programs"]).arg(folder.path());
    command.current_dir(folder.path()).env("TMPDIR", folder.path()).env("HOME", folder.path());
    let told = command.output().unwrap();
    let [said, problems] =
        [&told.stdout, &told.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert!(told.status.success(), "{said}{problems}");
    assert!(said.starts_with("explicit mode"), "{said}");
}
