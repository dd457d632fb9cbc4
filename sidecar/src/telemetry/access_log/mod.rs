//! The access log, written off the path: a worker hands over the record and goes on; one thread formats and writes.
//!
//! The queue is bounded. When it is full a line is lost and counted, and no request ever waits for the log.

mod line;

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use rustix::fs::{Access, access};

use super::{metrics::Sources, record::Record};

/// Where the log goes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum LogOutput {
    /// Nowhere.
    None,
    /// The standard output.
    #[default]
    Stdout,
    /// The end of this file.
    File(PathBuf),
}

impl LogOutput {
    /// Whether it can be written to; makes nothing.
    pub fn check(&self) -> io::Result<()> {
        let Self::File(path) = self else { return Ok(()) };
        if path.exists() {
            return OpenOptions::new()
                .append(true)
                .open(path)
                .map(drop)
                .map_err(|error| explained(path, error));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let may_write = Access::WRITE_OK | Access::EXEC_OK;
        access(folder.unwrap_or_else(|| Path::new(".")), may_write)
            .map_err(|error| explained(path, error.into()))
    }
}

/// Records that may wait to be written.
const QUEUE: usize = 16_384;

/// How long the writer gathers after it wrote. A worker that finds the writer asleep must wake it, which costs a
/// system call; so while there is traffic the writer looks by itself, and is asleep only when there is none.
const GATHER: Duration = Duration::from_millis(20);

/// Text written at once.
const BATCH: usize = 256 * 1024;

#[derive(Debug)]
enum Message {
    Line(Arc<Record>),
    /// Only wakes the writer: [`AccessLog::reopen`] has told it already.
    Reopen,
    Flush(SyncSender<()>),
}

/// The workers' end of the queue.
#[derive(Clone, Debug)]
pub(crate) struct AccessLog {
    queue: SyncSender<Message>,
    sources: Arc<Sources>,
    /// Whether the file is to be opened anew; `None`: there is none.
    reopen: Option<Arc<AtomicBool>>,
}

impl AccessLog {
    /// Opens the output and starts the writer. `None`: nothing is to be logged.
    pub(crate) fn start(output: &LogOutput, sources: &Arc<Sources>) -> io::Result<Option<Self>> {
        match output {
            LogOutput::None => Ok(None),
            LogOutput::Stdout => Self::to_writer(Box::new(io::stdout()), None, sources, QUEUE).map(Some),
            LogOutput::File(path) => {
                Self::to_writer(Box::new(open(path)?), Some(path), sources, QUEUE).map(Some)
            }
        }
    }

    fn to_writer(
        to: Box<dyn Write + Send>,
        path: Option<&Path>,
        sources: &Arc<Sources>,
        queue: usize,
    ) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(queue);
        let file = path.map(|path| Reopened { path: path.to_owned(), due: Arc::default() });
        let reopen = file.as_ref().map(|file| Arc::clone(&file.due));
        let text = Vec::with_capacity(BATCH);
        let writer = Writer { receiver, to, file, text, lines: 0, sources: Arc::clone(sources) };
        thread::Builder::new().name("access-log".into()).spawn(move || writer.run())?;
        Ok(Self { queue: sender, sources: Arc::clone(sources), reopen })
    }

    /// Has the file opened anew before the next line; never waits. `false`: there is no file.
    pub(crate) fn reopen(&self) -> bool {
        let Some(reopen) = &self.reopen else { return false };
        reopen.store(true, Ordering::Relaxed);
        // A writer whose queue is full is awake.
        self.queue.try_send(Message::Reopen).ok();
        true
    }

    /// Hands over a record; never waits.
    pub(crate) fn log(&self, record: Arc<Record>) {
        if self.queue.try_send(Message::Line(record)).is_err() {
            self.sources.process.log_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything handed over so far is written. `false`: it was not in time.
    pub(crate) fn flush(&self, deadline: Duration) -> bool {
        let until = std::time::Instant::now() + deadline;
        let (done, written) = sync_channel(1);
        let mut message = Message::Flush(done);
        loop {
            message = match self.queue.try_send(message) {
                Ok(()) => break,
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(message)) => message,
            };
            if std::time::Instant::now() >= until {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
        written.recv_timeout(until.saturating_duration_since(std::time::Instant::now())).is_ok()
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path).map_err(|error| explained(path, error))
}

fn explained(path: &Path, error: io::Error) -> io::Error {
    let remedy = "make its folder, which the sidecar's user may write to, or name another file";
    io::Error::new(
        error.kind(),
        format!("accessLog: cannot open {} to append: {error}; {remedy}", path.display()),
    )
}

/// A file that may have been moved away.
struct Reopened {
    path: PathBuf,
    due: Arc<AtomicBool>,
}

struct Writer {
    receiver: Receiver<Message>,
    to: Box<dyn Write + Send>,
    file: Option<Reopened>,
    text: Vec<u8>,
    lines: u64,
    sources: Arc<Sources>,
}

impl Writer {
    /// Until the last sender is gone.
    fn run(mut self) {
        while let Ok(message) = self.receiver.recv() {
            self.take(message);
            while self.drain() {
                thread::sleep(GATHER);
            }
        }
    }

    /// Writes what waits; `false`: nothing did.
    fn drain(&mut self) -> bool {
        let mut any = !self.text.is_empty();
        while let Ok(message) = self.receiver.try_recv() {
            any = true;
            self.take(message);
        }
        self.write();
        any
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Line(record) => {
                line::write(&record, &mut self.text).expect("a vector takes every byte");
                self.lines += 1;
                if self.text.len() >= BATCH {
                    self.write();
                }
            }
            Message::Reopen => self.write(),
            Message::Flush(done) => {
                self.write();
                // Who asked may have given up.
                let _ = done.try_send(());
            }
        }
    }

    fn write(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        if lines > 0 && self.to.write_all(&self.text).and_then(|()| self.to.flush()).is_err() {
            self.sources.process.log_dropped.fetch_add(lines, Ordering::Relaxed);
        }
        self.text.clear();
        self.reopen();
    }

    fn reopen(&mut self) {
        let Some(file) = self.file.as_ref().filter(|file| file.due.swap(false, Ordering::Relaxed)) else {
            return;
        };
        match open(&file.path) {
            Ok(anew) => self.to = Box::new(anew),
            Err(error) => tracing::error!("{error}; lines go on to the file that was open"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Mutex, mpsc::channel},
        time::SystemTime,
    };

    use super::*;
    use crate::telemetry::{
        metrics::{Families, ProcessMetrics},
        record::tests::full,
    };

    fn sources() -> Arc<Sources> {
        let process = ProcessMetrics::new(SystemTime::UNIX_EPOCH);
        Arc::new(Sources { families: Families::default(), process })
    }

    fn dropped(sources: &Sources) -> u64 {
        sources.process.log_dropped.load(Ordering::Relaxed)
    }

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Writes nothing before it is let go.
    struct Stuck(Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.recv().ok();
            Ok(text.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_keep_their_order_and_none_is_lost_in_batches() {
        let (kept, sources) = (Kept::default(), sources());
        let log = AccessLog::to_writer(Box::new(kept.clone()), None, &sources, QUEUE).unwrap();
        for n in 0..2_000 {
            log.log(Arc::new(Record { bytes_sent: n, ..full() }));
        }
        assert!(log.flush(Duration::from_secs(10)));
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let sent =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["bytes_sent"].as_u64();
        assert!(text.lines().map(|l| sent(l).unwrap()).eq(0..2_000));
        assert_eq!(dropped(&sources), 0);
    }

    #[test]
    fn a_stuck_output_loses_lines_counted_and_holds_up_nobody() {
        let (let_go, stuck) = channel();
        let sources = sources();
        let log = AccessLog::to_writer(Box::new(Stuck(stuck)), None, &sources, 4).unwrap();
        log.log(Arc::new(full()));
        assert!(!log.flush(Duration::from_millis(20)), "it is stuck");
        for _ in 0..10 {
            log.log(Arc::new(full()));
        }
        // One at the output, or none yet, and four in the queue, of which one may be the request to flush.
        assert!((6..=8).contains(&dropped(&sources)), "{}", dropped(&sources));
        drop(let_go);
        assert!(log.flush(Duration::from_secs(10)));
    }

    #[test]
    fn what_the_output_refuses_is_counted() {
        let sources = sources();
        let log = AccessLog::to_writer(Box::new(Broken), None, &sources, 16).unwrap();
        log.log(Arc::new(full()));
        log.log(Arc::new(full()));
        assert!(log.flush(Duration::from_secs(10)));
        assert_eq!(dropped(&sources), 2);
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let log = AccessLog::start(&LogOutput::File(path.clone()), &sources()).unwrap().unwrap();
        let write = |sent| {
            log.log(Arc::new(Record { bytes_sent: sent, ..full() }));
            assert!(log.flush(Duration::from_secs(10)));
        };
        write(1);
        std::fs::rename(&path, &moved).unwrap();
        write(2);
        assert!(log.reopen() && log.flush(Duration::from_secs(10)));
        write(3);
        let lines = |path| std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines(&moved), lines(&path)), (2, 1));
        // Where that fails, no line is lost.
        std::fs::rename(&path, &moved).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(log.reopen() && log.flush(Duration::from_secs(10)));
        write(4);
        assert_eq!(lines(&moved), 2);
    }

    #[test]
    fn where_no_file_can_be_is_known_before_and_nothing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| LogOutput::File(folder.path().join(name));
        at("log").check().unwrap();
        assert!(!folder.path().join("log").exists());
        for wrong in ["nowhere/log", "."] {
            let told = at(wrong).check().unwrap_err().to_string();
            assert!(told.contains("to append: ") && told.contains("; make its folder"), "{told}");
        }
    }

    #[test]
    fn what_goes_to_no_file_is_not_opened_anew() {
        let log = AccessLog::to_writer(Box::new(Kept::default()), None, &sources(), QUEUE).unwrap();
        assert!(!log.reopen());
    }
}
