//! The access log, written off the path: a worker hands over the record and goes on; one thread formats and writes.
//!
//! The queue is bounded. When it is full a line is lost and counted, and no request ever waits for the log.

mod line;

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

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
    Flush(SyncSender<()>),
}

/// The workers' end of the queue.
#[derive(Clone, Debug)]
pub(crate) struct AccessLog {
    queue: SyncSender<Message>,
    sources: Arc<Sources>,
}

impl AccessLog {
    /// Opens the output and starts the writer. `None`: nothing is to be logged.
    pub(crate) fn start(output: &LogOutput, sources: &Arc<Sources>) -> io::Result<Option<Self>> {
        let to: Box<dyn Write + Send> = match output {
            LogOutput::None => return Ok(None),
            LogOutput::Stdout => Box::new(io::stdout()),
            LogOutput::File(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                let explain = |e: io::Error| {
                    let what = format!("access log: cannot open {} to append: {e}", path.display());
                    io::Error::new(e.kind(), what)
                };
                Box::new(file.map_err(explain)?)
            }
        };
        Self::to_writer(to, sources, QUEUE).map(Some)
    }

    fn to_writer(to: Box<dyn Write + Send>, sources: &Arc<Sources>, queue: usize) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(queue);
        let writer =
            Writer { receiver, to, text: Vec::with_capacity(BATCH), lines: 0, sources: Arc::clone(sources) };
        thread::Builder::new().name("access-log".into()).spawn(move || writer.run())?;
        Ok(Self { queue: sender, sources: Arc::clone(sources) })
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

struct Writer {
    receiver: Receiver<Message>,
    to: Box<dyn Write + Send>,
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
    }
}
