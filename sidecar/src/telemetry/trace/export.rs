//! The way of kept spans out: a bounded queue, batches, OTLP over gRPC to whoever receives traces.
//!
//! Runs on the control side's runtime. Workers never wait: what finds the queue full, or meets a receiver that fails,
//! is lost and counted.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkError,
    trace::{SpanData, SpanExporter},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};

use super::{
    receiver::{self, ReceiverTls},
    span,
};
use crate::telemetry::{metrics::Sources, record::Record};

/// Spans that may wait to be sent.
const QUEUE: usize = 4096;
/// Spans sent at once.
const BATCH: usize = 512;
/// Bytes sent at once, about: receivers of gRPC usually take 4 MiB, and a path may be long.
const BATCH_BYTES: usize = 1 << 20;
/// Bytes of a span beside what a peer writes into it, about.
const SPAN_BYTES: usize = 1024;
/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// How long the receiver may take for a batch.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Who sends, and where to.
#[derive(Clone, Debug)]
pub(crate) struct ExporterSettings {
    /// The receiver, as `http://host:port` or `https://host:port`.
    pub(crate) endpoint: String,
    /// Its TLS, with `https`.
    pub(crate) tls: Option<ReceiverTls>,
    /// What the spans' resource says: `service.name` and the like.
    pub(crate) resource: Vec<KeyValue>,
}

#[derive(Debug)]
pub(crate) enum Message {
    Span(Arc<Record>),
    Flush(oneshot::Sender<()>),
}

/// The workers' end of the queue.
#[derive(Clone, Debug)]
pub(crate) struct Exporter {
    queue: mpsc::Sender<Message>,
    sources: Arc<Sources>,
}

impl Exporter {
    /// Starts to send, on the runtime that this is called on.
    pub(crate) fn start(
        settings: ExporterSettings,
        sources: &Arc<Sources>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let client = Client::new(settings)?;
        let (queue, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(run(receiver, client, Arc::clone(sources)));
        Ok(Self { queue, sources: Arc::clone(sources) })
    }

    /// Hands over a kept request; never waits.
    pub(crate) fn export(&self, record: Arc<Record>) {
        if self.queue.try_send(Message::Span(record)).is_err() {
            self.sources.process.spans_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything handed over so far is sent or lost. `false`: it was not in time.
    pub(crate) async fn flush(&self, deadline: Duration) -> bool {
        let (done, sent) = oneshot::channel();
        let all = async { self.queue.send(Message::Flush(done)).await.is_ok() && sent.await.is_ok() };
        timeout(deadline, all).await.unwrap_or(false)
    }
}

/// The way to the receiver: made anew when our certificate is another, and when nothing comes back on it.
struct Client {
    settings: ExporterSettings,
    /// Of what the present way was made with.
    revision: u64,
    exporter: opentelemetry_otlp::SpanExporter,
}

impl Client {
    fn new(settings: ExporterSettings) -> Result<Self, Box<dyn std::error::Error>> {
        let revision = settings.revision();
        Ok(Self { exporter: settings.exporter()?, settings, revision })
    }

    async fn export(&mut self, batch: Vec<SpanData>) -> Result<(), Unsent> {
        if self.settings.revision() != self.revision {
            self.renew();
        }
        match timeout(TIMEOUT, self.exporter.export(batch)).await {
            Ok(sent) => sent.map_err(Unsent::Refused),
            Err(_) => {
                // What is lost may be the connection, which the kernel would find out in a quarter of an hour.
                self.renew();
                Err(Unsent::Late)
            }
        }
    }

    fn renew(&mut self) {
        self.revision = self.settings.revision();
        // The same settings have made one before.
        if let Ok(exporter) = self.settings.exporter() {
            self.exporter = exporter;
        }
    }
}

/// Why a batch was not sent.
#[derive(Debug, thiserror::Error)]
enum Unsent {
    #[error("{0}")]
    Refused(OTelSdkError),
    #[error("no answer within {TIMEOUT:?}")]
    Late,
}

impl ExporterSettings {
    fn revision(&self) -> u64 {
        self.tls.as_ref().map_or(0, |tls| (tls.revision)())
    }

    fn exporter(&self) -> Result<opentelemetry_otlp::SpanExporter, Box<dyn std::error::Error>> {
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_channel(receiver::channel(&self.endpoint, self.tls.clone())?)
            .with_timeout(TIMEOUT)
            .build()?;
        exporter.set_resource(&Resource::builder().with_attributes(self.resource.clone()).build());
        Ok(exporter)
    }
}

async fn run(mut queue: mpsc::Receiver<Message>, mut client: Client, sources: Arc<Sources>) {
    while let Some(first) = queue.recv().await {
        let (batch, asked) = gather(first, &mut queue).await;
        send(batch, &mut client, &sources).await;
        if let Some(done) = asked {
            // Who asked may have given up.
            let _ = done.send(());
        }
    }
}

/// Spans until there are enough, time is up, or somebody asks to be told when they are sent.
async fn gather(
    first: Message,
    queue: &mut mpsc::Receiver<Message>,
) -> (Vec<SpanData>, Option<oneshot::Sender<()>>) {
    let until = Instant::now() + GATHER;
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let mut next = Some(first);
    while let Some(message) = next {
        match message {
            Message::Span(record) => {
                bytes += size(&record);
                batch.extend(record.trace.map(|trace| span::of(&record, trace)));
            }
            Message::Flush(done) => return (batch, Some(done)),
        }
        if batch.len() >= BATCH || bytes >= BATCH_BYTES {
            break;
        }
        next = timeout_at(until, queue.recv()).await.ok().flatten();
    }
    (batch, None)
}

/// About how many bytes its span has.
fn size(record: &Record) -> usize {
    let path = record.path.as_ref().map_or(0, |path| path.path().len());
    let detail = record.detail.as_ref().map_or(0, |detail| detail.len());
    let rejected = record
        .rejected
        .as_ref()
        .map_or(0, |rejected| rejected.rules.iter().map(|it| it.rule.len() + it.why.len()).sum::<usize>());
    SPAN_BYTES + path + detail + rejected
}

async fn send(batch: Vec<SpanData>, client: &mut Client, sources: &Sources) {
    let spans = batch.len() as u64;
    if spans == 0 {
        return;
    }
    let counter = match client.export(batch).await {
        Ok(()) => &sources.process.spans_exported,
        Err(error) => {
            tracing::warn!(%error, spans, "spans are lost: the trace receiver did not take them");
            &sources.process.spans_dropped
        }
    };
    counter.fetch_add(spans, Ordering::Relaxed);
}
