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

use super::{
    fingerprint::{self, Fingerprint},
    last_good::{Content, Kept},
    log_refusal,
};
use crate::config::{
    convert::{self, Local},
    snapshot::{Origin, Snapshot, state::Registry},
};

/// A file that did not change for this long is whole: who writes in place writes several times.
const SETTLED: Duration = Duration::from_millis(100);
/// A file that never settles is read all the same after so many looks.
const PATIENCE: usize = 50;
/// How often the file is looked at without an event.
const LOOK: Duration = Duration::from_secs(2);
/// A policy of 1,000 services has about 4 MB.
const LARGEST: u64 = 256 * 1024 * 1024;

/// A policy that was taken: compiled, and as it was written.
#[derive(Debug)]
pub struct Accepted {
    /// What holds now.
    pub snapshot: Snapshot,
    /// What is kept for a start without it.
    pub content: Content,
}

/// A policy file and what it last said.
#[derive(Debug)]
pub struct PolicyFile {
    path: PathBuf,
    local: Local,
    registry: Registry,
    revision: u64,
    seen: Option<Fingerprint>,
    /// What holds if the file is not good at the start.
    last_good: Option<Kept>,
    /// The digest of the policy in use, unless the last version was refused.
    digest: Option<u64>,
    /// Whether any policy is in use.
    holds: bool,
}

impl PolicyFile {
    /// A policy file, not yet read. Revisions are numbered from that of the last good one.
    pub fn new(path: PathBuf, local: Local, last_good: Option<Kept>) -> Self {
        let revision = last_good.as_ref().map_or(0, |kept| kept.revision.number);
        let (registry, seen, digest, holds) = Default::default();
        Self { path, local, registry, revision, seen, last_good, digest, holds }
    }

    /// Reads the file now: what it compiles to, or all that is wrong with it.
    pub fn read(&mut self) -> Result<Accepted, Problems> {
        // First the fingerprint: what changes after it is noticed as another change.
        self.seen = fingerprint::of(&self.path);
        self.digest = None;
        let content = self.content()?;
        let snapshot = self.compile(&self.path.display().to_string(), &content, self.revision + 1)?;
        self.revision += 1;
        self.digest = Some(snapshot.revision.digest);
        Ok(Accepted { snapshot, content: Content::of(content) })
    }

    /// Reads the file, and then watches it for ever. `sink` gets each new policy, and the problems of each version that
    /// is refused; what held before it stays. If the first one is refused, the last good one follows.
    pub async fn watch(mut self, mut sink: impl FnMut(Result<Accepted, Problems>)) {
        let (events, mut changed) = mpsc::channel(1);
        let _watcher = watcher(&self.path, events);
        self.report(&mut sink);
        if self.digest.is_none()
            && let Some(kept) = self.last_good.take()
        {
            self.restore(kept, &mut sink);
        }
        loop {
            tokio::select! {
                Some(()) = changed.recv() => {}
                () = time::sleep(LOOK) => {}
            }
            if self.changed().await {
                self.report(&mut sink);
            }
        }
    }

    fn report(&mut self, sink: &mut impl FnMut(Result<Accepted, Problems>)) {
        let before = self.digest;
        match self.read() {
            // Written again with the same content.
            Ok(accepted) if before == Some(accepted.snapshot.revision.digest) => self.revision -= 1,
            Ok(accepted) => {
                info!(file = %self.path.display(), revision = %accepted.snapshot.revision, "policy in use");
                self.holds = true;
                sink(Ok(accepted));
            }
            Err(problems) => {
                log_refusal(self.path.display(), &problems, self.holds);
                sink(Err(problems));
            }
        }
        self.registry.sweep();
    }

    /// Takes the last good one, under the number that it had. This version, or this configuration, may have a problem
    /// with it that its writer had not.
    fn restore(&mut self, kept: Kept, sink: &mut impl FnMut(Result<Accepted, Problems>)) {
        match self.compile("the last good policy", &kept.content, kept.revision.number) {
            Ok(snapshot) => {
                let snapshot = Snapshot { origin: Origin::LastGood, ..snapshot };
                warn!(revision = %snapshot.revision, "the last good policy, from disk, is in use");
                self.holds = true;
                sink(Ok(Accepted { snapshot, content: Content::of(kept.content) }));
            }
            Err(problems) => {
                log_refusal("the last good policy, from disk", &problems, false);
                sink(Err(problems));
            }
        }
    }

    fn compile(&mut self, name: &str, content: &[u8], number: u64) -> Result<Snapshot, Problems> {
        let documents = documents(name, content)?;
        convert::convert(&documents, &self.local, &mut self.registry, number)
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

    fn content(&self) -> Result<Vec<u8>, Problems> {
        let name = self.path.display().to_string();
        if self.seen.is_some_and(|seen| seen.length > LARGEST) {
            let problem = format!("larger than {LARGEST} bytes");
            return Err(refused(&name, problem, "split the mesh, or use a control plane"));
        }
        fs::read(&self.path).map_err(|error| {
            refused(&name, format!("cannot be read: {error}"), "name a readable file by --policy")
        })
    }
}

fn documents(name: &str, content: &[u8]) -> Result<Vec<Document>, Problems> {
    let text = std::str::from_utf8(content)
        .map_err(|error| refused(name, format!("not UTF-8: {error}"), "save it as UTF-8"))?;
    let reading = Document::read(name, text);
    if !reading.problems.is_empty() {
        return Err(convert::unreadable(reading));
    }
    if reading.documents.is_empty() {
        // More likely a file that is just being written than the wish to have no service at all.
        return Err(refused(name, "no resource in it".to_owned(), "write at least one resource"));
    }
    Ok(reading.documents)
}

fn refused(name: &str, problem: String, remedy: &str) -> Problems {
    Problems(vec![Problem::of_source(name, problem, remedy)])
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
    use crate::config::snapshot::Revision;

    /// A watched file in a folder of its own, and what the sink got.
    struct Watched {
        folder: TempDir,
        path: PathBuf,
        reports: mpsc::UnboundedReceiver<Result<Accepted, Problems>>,
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
            let file = PolicyFile::new(path.clone(), Local::default(), None);
            let task = tokio::spawn(file.watch(move |report| drop(sender.send(report))));
            Self { folder, path, reports, task }
        }

        fn at(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        async fn next(&mut self) -> Result<Accepted, Problems> {
            let report = time::timeout(Duration::from_secs(20), self.reports.recv()).await;
            report.expect("the change is noticed in time").expect("the watch goes on")
        }

        /// The port of the only service of the next snapshot, and its revision.
        async fn next_port(&mut self) -> (u16, u64) {
            let Accepted { snapshot, .. } = self.next().await.unwrap_or_else(|problems| panic!("{problems}"));
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
        let unkept = "---\nkind: Telemetry\nmetadata: { name: t }\nspec: { accessLog: { mode: FAILURES } }\n";
        fs::write(&watched.path, policy(1).replace("port: 1", "prot: 1") + unkept).unwrap();
        let problems = watched.next().await.unwrap_err().to_string();
        for problem in [
            "policy.yaml:3:17: Service default/a: spec.ports[0].port: missing",
            "Telemetry default/t: spec.accessLog.mode: not supported",
        ] {
            assert!(problems.contains(problem), "{problems}");
        }
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

    #[tokio::test]
    async fn without_a_good_file_the_last_good_one_holds_until_there_is_one() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("policy.yaml");
        for (bad, revision) in [(None, 8), (Some("kind: [\n"), 8)] {
            fs::remove_file(&path).ok();
            bad.into_iter().for_each(|text| fs::write(&path, text).unwrap());
            let revision_then = Revision { number: 7, digest: 1 };
            let kept = Kept { revision: revision_then, content: policy(1).into_bytes() };
            let (sender, mut reports) = mpsc::unbounded_channel();
            let file = PolicyFile::new(path.clone(), Local::default(), Some(kept));
            let task = tokio::spawn(file.watch(move |report| drop(sender.send(report))));
            assert!(reports.recv().await.unwrap().is_err(), "{bad:?}");
            let restored = reports.recv().await.unwrap().unwrap().snapshot;
            assert_eq!((restored.origin, restored.revision.number), (Origin::LastGood, 7));
            assert!(restored.destinations.by_name.keys().all(|(_, port)| *port == 1));
            fs::write(&path, policy(2)).unwrap();
            let taken = reports.recv().await.unwrap().unwrap();
            assert_eq!((taken.snapshot.origin, taken.snapshot.revision.number), (Origin::Source, revision));
            assert_eq!(taken.content.make(), policy(2).into_bytes());
            task.abort();
        }
    }

    #[test]
    fn what_is_kept_is_judged_like_a_file() {
        let revision = Revision { number: 7, digest: 1 };
        let kept = Kept { revision, content: b"kind: Nonsense\nmetadata: { name: a }\n".to_vec() };
        let mut file = PolicyFile::new("policy.yaml".into(), Local::default(), Some(kept.clone()));
        let mut reports = Vec::new();
        file.restore(kept, &mut |report| reports.push(report.unwrap_err().to_string()));
        assert!(reports[0].starts_with("the last good policy:1:7: "), "{reports:?}");
    }

    #[test]
    fn the_same_content_is_no_change() {
        let folder = TempDir::new().unwrap();
        let mut file = PolicyFile::new(plain(folder.path()), Local::default(), None);
        let mut revisions = Vec::new();
        for text in [policy(1), format!("# again\n{}", policy(1)), policy(2)] {
            fs::write(&file.path, text).unwrap();
            file.report(&mut |report| {
                revisions.extend(report.map(|accepted| accepted.snapshot.revision.number))
            });
        }
        assert_eq!(revisions, [1, 2]);
    }
}
