//! The policy file: read, watched, and read again when it changes.
//!
//! A file changes in three ways: it is written in place, another one is renamed over it, or (a Kubernetes ConfigMap)
//! a symbolic link on its path is switched. So the folder is watched, not the file, and what counts is what a `stat`
//! through all links says. That is also looked at every few seconds: file events are lost on network file systems,
//! behind links to other folders, and when a machine has run out of inotify instances.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{sync::mpsc, time};
use tracing::{info, warn};
use trama_proto::{Problem, Problems, document::Document};

use super::fingerprint::{self, Fingerprint};
use crate::config::{
    convert::{self, Local},
    snapshot::{Snapshot, state::Registry},
};

/// A file that did not change for this long is whole: who writes in place writes several times.
const SETTLED: Duration = Duration::from_millis(100);
/// A file that never settles is read all the same after so many looks.
const PATIENCE: usize = 50;
/// How often the file is looked at without an event.
const LOOK: Duration = Duration::from_secs(2);
/// A policy of 1,000 services has about 4 MB.
const LARGEST: u64 = 256 * 1024 * 1024;

/// A policy file and what it last said.
#[derive(Debug)]
pub struct PolicyFile {
    path: PathBuf,
    local: Local,
    registry: Registry,
    revision: u64,
    seen: Option<Fingerprint>,
    /// The digest of the policy in use, unless the last version was refused.
    digest: Option<u64>,
}

impl PolicyFile {
    /// A policy file, not yet read.
    pub fn new(path: PathBuf, local: Local) -> Self {
        Self { path, local, registry: Registry::default(), revision: 0, seen: None, digest: None }
    }

    /// Reads the file now: the snapshot that it compiles to, or all that is wrong with it.
    pub fn read(&mut self) -> Result<Snapshot, Problems> {
        // First the fingerprint: what changes after it is noticed as another change.
        self.seen = fingerprint::of(&self.path);
        self.digest = None;
        let documents = self.documents()?;
        let snapshot = convert::convert(&documents, &self.local, &mut self.registry, self.revision + 1)?;
        self.revision += 1;
        self.digest = Some(snapshot.revision.digest);
        Ok(snapshot)
    }

    /// Watches the file for ever. `sink` gets each new snapshot, and the problems of each version that is refused; the
    /// snapshot before it stays. A file that was not read yet is read at once.
    pub async fn watch(mut self, mut sink: impl FnMut(Result<Snapshot, Problems>)) {
        let (events, mut changed) = mpsc::channel(1);
        let _watcher = watcher(&self.path, events);
        let mut first = self.seen.is_none();
        loop {
            if first || self.changed().await {
                self.report(&mut sink);
            }
            first = false;
            tokio::select! {
                Some(()) = changed.recv() => {}
                () = time::sleep(LOOK) => {}
            }
        }
    }

    fn report(&mut self, sink: &mut impl FnMut(Result<Snapshot, Problems>)) {
        let before = self.digest;
        match self.read() {
            // Written again with the same content.
            Ok(snapshot) if before == Some(snapshot.revision.digest) => self.revision -= 1,
            Ok(snapshot) => {
                info!(file = %self.path.display(), revision = %snapshot.revision, "policy in use");
                sink(Ok(snapshot));
            }
            Err(problems) => {
                warn!(file = %self.path.display(), "policy refused, the one before it stays:\n{problems}");
                sink(Err(problems));
            }
        }
        self.registry.sweep();
    }

    /// Whether the file is another one than was read, once it is whole.
    async fn changed(&self) -> bool {
        let mut now = fingerprint::of(&self.path);
        if now == self.seen {
            return false;
        }
        for _ in 0..PATIENCE {
            time::sleep(SETTLED).await;
            let before = std::mem::replace(&mut now, fingerprint::of(&self.path));
            if before == now {
                break;
            }
        }
        now != self.seen
    }

    fn documents(&self) -> Result<Vec<Document>, Problems> {
        let name = self.path.display().to_string();
        let refused =
            |problem: String, remedy: &str| Problems(vec![Problem::of_source(&name, problem, remedy)]);
        if self.seen.is_some_and(|seen| seen.length > LARGEST) {
            return Err(refused(
                format!("larger than {LARGEST} bytes"),
                "split the mesh, or use a control plane",
            ));
        }
        let text = fs::read_to_string(&self.path).map_err(|error| {
            refused(format!("cannot be read: {error}"), "name a readable file by --policy")
        })?;
        let documents = Document::parse(&name, &text).map_err(Problems)?;
        if documents.is_empty() {
            // More likely a file that is just being written than the wish to have no service at all.
            return Err(refused("no resource in it".to_owned(), "write at least one resource"));
        }
        Ok(documents)
    }
}

/// Watches the folder of the file. Without it changes are only noticed by looking.
fn watcher(path: &Path, events: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let notice = move |event: notify::Result<notify::Event>| {
        // Our own reading is an access. One event that waits is enough: it says "look".
        if !event.is_ok_and(|event| event.kind.is_access()) {
            let _ = events.try_send(());
        }
    };
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let watching = notify::recommended_watcher(notice).and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watching
        .map_err(|error| warn!(folder = %folder.display(), %error, "no file events, looking every {LOOK:?} instead"))
        .ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;
    use tokio::task::JoinHandle;

    use super::*;

    /// A watched file in a folder of its own, and what the sink got.
    struct Watched {
        folder: TempDir,
        path: PathBuf,
        reports: mpsc::UnboundedReceiver<Result<Snapshot, Problems>>,
        task: JoinHandle<()>,
    }

    impl Drop for Watched {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    impl Watched {
        /// Prepares a folder by `prepare`, which returns the file's path, and watches the file.
        fn new(prepare: impl FnOnce(&Path) -> PathBuf) -> Self {
            let folder = TempDir::new().unwrap();
            let path = prepare(folder.path());
            let (sender, reports) = mpsc::unbounded_channel();
            let file = PolicyFile::new(path.clone(), Local::default());
            let task = tokio::spawn(file.watch(move |report| drop(sender.send(report))));
            Self { folder, path, reports, task }
        }

        fn at(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        async fn next(&mut self) -> Result<Snapshot, Problems> {
            let report = time::timeout(Duration::from_secs(20), self.reports.recv()).await;
            report.expect("the change is noticed in time").expect("the watch goes on")
        }

        /// The port of the only service of the next snapshot, and its revision.
        async fn next_port(&mut self) -> (u16, u64) {
            let snapshot = self.next().await.unwrap_or_else(|problems| panic!("{problems}"));
            let ports: Vec<_> = snapshot.destinations.by_name.keys().map(|(_, port)| *port).collect();
            let [port] = ports[..] else { panic!("one port: {ports:?}") };
            (port, snapshot.revision.number)
        }
    }

    fn policy(port: u16) -> String {
        format!("kind: Service\nmetadata: {{ name: a }}\nspec: {{ ports: [{{ port: {port} }}] }}\n")
    }

    fn plain(folder: &Path) -> PathBuf {
        let path = folder.join("policy.yaml");
        fs::write(&path, policy(1)).unwrap();
        path
    }

    #[tokio::test]
    async fn a_file_is_read_again_when_written_and_when_replaced() {
        let mut watched = Watched::new(plain);
        assert_eq!(watched.next_port().await, (1, 1));
        fs::write(&watched.path, policy(2)).unwrap();
        assert_eq!(watched.next_port().await, (2, 2));
        fs::write(watched.at("next"), policy(3)).unwrap();
        fs::rename(watched.at("next"), &watched.path).unwrap();
        assert_eq!(watched.next_port().await, (3, 3));
    }

    #[tokio::test]
    async fn a_refused_version_is_told_and_the_numbers_go_on() {
        let mut watched = Watched::new(plain);
        assert_eq!(watched.next_port().await, (1, 1));
        fs::write(&watched.path, policy(1).replace("port: 1", "prot: 1")).unwrap();
        let problems = watched.next().await.unwrap_err().to_string();
        assert!(
            problems.contains("policy.yaml:3:17: Service default/a: spec.ports[0].port: missing"),
            "{problems}"
        );
        fs::write(&watched.path, "").unwrap();
        assert!(watched.next().await.unwrap_err().to_string().contains("no resource in it"));
        fs::write(&watched.path, policy(1)).unwrap();
        assert_eq!(watched.next_port().await, (1, 2), "what stands again is told, also if it is the old one");
    }

    #[tokio::test]
    async fn a_switched_link_is_a_change() {
        // As the kubelet does it: policy.yaml -> ..data/policy.yaml, ..data -> a folder with a time in its name.
        let mut watched = Watched::new(|folder| {
            for (name, port) in [("..1", 1), ("..2", 2)] {
                fs::create_dir(folder.join(name)).unwrap();
                fs::write(folder.join(name).join("policy.yaml"), policy(port)).unwrap();
            }
            symlink("..1", folder.join("..data")).unwrap();
            symlink("..data/policy.yaml", folder.join("policy.yaml")).unwrap();
            folder.join("policy.yaml")
        });
        assert_eq!(watched.next_port().await, (1, 1));
        symlink("..2", watched.at("..data_tmp")).unwrap();
        fs::rename(watched.at("..data_tmp"), watched.at("..data")).unwrap();
        assert_eq!(watched.next_port().await, (2, 2));
    }

    #[tokio::test]
    async fn a_change_without_an_event_is_noticed_by_looking() {
        let mut watched = Watched::new(|folder| {
            fs::create_dir(folder.join("elsewhere")).unwrap();
            fs::write(folder.join("elsewhere/real.yaml"), policy(1)).unwrap();
            symlink("elsewhere/real.yaml", folder.join("policy.yaml")).unwrap();
            folder.join("policy.yaml")
        });
        assert_eq!(watched.next_port().await, (1, 1));
        fs::write(watched.at("elsewhere/real.yaml"), policy(2)).unwrap();
        assert_eq!(watched.next_port().await, (2, 2));
    }

    #[tokio::test]
    async fn a_missing_file_is_told_and_read_once_it_is_there() {
        let mut watched = Watched::new(|folder| folder.join("policy.yaml"));
        assert!(watched.next().await.unwrap_err().to_string().contains("policy.yaml: cannot be read: "));
        fs::write(&watched.path, policy(1)).unwrap();
        assert_eq!(watched.next_port().await, (1, 1));
    }

    #[test]
    fn the_same_content_is_no_change() {
        let folder = TempDir::new().unwrap();
        let mut file = PolicyFile::new(plain(folder.path()), Local::default());
        let mut revisions = Vec::new();
        for text in [policy(1), format!("# again\n{}", policy(1)), policy(2)] {
            fs::write(&file.path, text).unwrap();
            file.report(&mut |report| revisions.extend(report.map(|snapshot| snapshot.revision.number)));
        }
        assert_eq!(revisions, [1, 2]);
    }
}
