//! Files that are read again when they change: certificates, keys, authorities.

use std::{path::PathBuf, time::Duration};

use tokio::time;

use super::fingerprint::{self, Fingerprint};

/// How often the files are looked at. Certificates are renewed hours before they end.
const LOOK: Duration = Duration::from_secs(1);
/// Files that did not change for this long are whole: they are written one after another.
const SETTLED: Duration = Duration::from_millis(100);
/// Files that never settle are read all the same after so many looks.
const PATIENCE: usize = 50;

/// Files, as they were when they were last looked at.
#[derive(Debug)]
pub struct WatchedFiles {
    paths: Vec<PathBuf>,
    seen: Vec<Option<Fingerprint>>,
}

impl WatchedFiles {
    /// Looks at the files. To be called before they are read: what changes after it is noticed as another change.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let seen = look(&paths);
        Self { paths, seen }
    }

    /// Calls `changed` after each change, for ever.
    pub async fn watch(mut self, mut changed: impl FnMut()) {
        loop {
            self.changed().await;
            changed();
        }
    }

    /// Waits for the next change.
    pub async fn changed(&mut self) {
        let mut now = loop {
            time::sleep(LOOK).await;
            let now = look(&self.paths);
            if now != self.seen {
                break now;
            }
        };
        for _ in 0..PATIENCE {
            time::sleep(SETTLED).await;
            let before = std::mem::replace(&mut now, look(&self.paths));
            if before == now {
                break;
            }
        }
        self.seen = now;
    }
}

fn look(paths: &[PathBuf]) -> Vec<Option<Fingerprint>> {
    paths.iter().map(|path| fingerprint::of(path)).collect()
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, fs};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_between_the_first_look_and_the_watch_is_noticed() {
        let folder = tempfile::TempDir::new().unwrap();
        let (certificate, key) = (folder.path().join("certificate"), folder.path().join("key"));
        fs::write(&certificate, "old").unwrap();
        let files = WatchedFiles::new(vec![certificate.clone(), key.clone()]);
        fs::write(&certificate, "new one").unwrap();
        let changes = Cell::new(0);
        let watch = files.watch(|| changes.set(changes.get() + 1));
        let told = async {
            time::sleep(3 * LOOK).await;
            assert_eq!(changes.get(), 1);
            fs::write(&key, "a key").unwrap();
            time::sleep(3 * LOOK).await;
            assert_eq!(changes.get(), 2);
        };
        tokio::select! {
            () = watch => {}
            () = told => {}
        }
    }
}
