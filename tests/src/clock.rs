//! Programs whose clock is off: faketime's library answers for the machine's clock, and for that alone; how long something
//! takes stays as it is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a harness makes its test fail by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::programs;

const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// One of our programs, by a clock of its own from its next start on.
#[derive(Debug)]
pub struct Clocked {
    program: PathBuf,
    /// Holds how far ahead the clock is.
    folder: TempDir,
}

impl Clocked {
    /// The program of this name, by the right time.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let built = programs::built(name).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join(name);
        let text = format!(
            "#!/bin/sh\nFAKETIME=$(cat '{}')\nexport FAKETIME FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_NO_CACHE=1\n\
             LD_PRELOAD='{}' exec '{}' \"$@\"\n",
            ahead(folder.path()).display(),
            library().display(),
            built.display()
        );
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let clocked = Self { program, folder };
        clocked.set(0);
        clocked
    }

    /// How far ahead of the machine's its clock is, in seconds, from its next start on.
    pub fn set(&self, seconds: i64) {
        fs::write(ahead(self.folder.path()), format!("{seconds:+}")).unwrap();
    }

    /// What to start.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }
}

fn ahead(folder: &Path) -> PathBuf {
    folder.join("ahead")
}

/// Where Debian has it, whatever the machine is.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path().join(LIBRARY));
    let found = folders.into_iter().find(|path| path.exists());
    found.unwrap_or_else(|| panic!("there is no /usr/lib/*/{LIBRARY}: apt-get install faketime"))
}
