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
        let channel = receiver::channel(&settings.endpoint, settings.tls)?;
        let mut client = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_channel(channel)
            .with_timeout(TIMEOUT)
            .build()?;
        client.set_resource(&Resource::builder().with_attributes(settings.resource).build());
        Ok(Self::with_client(client, sources))
    }

    fn with_client(client: impl SpanExporter + 'static, sources: &Arc<Sources>) -> Self {
        let (queue, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(run(receiver, client, Arc::clone(sources)));
        Self { queue, sources: Arc::clone(sources) }
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

async fn run(mut queue: mpsc::Receiver<Message>, client: impl SpanExporter, sources: Arc<Sources>) {
    while let Some(first) = queue.recv().await {
        let (batch, asked) = gather(first, &mut queue).await;
        send(batch, &client, &sources).await;
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
    let mut batch = Vec::new();
    let mut next = Some(first);
    while let Some(message) = next {
        match message {
            Message::Span(record) => batch.extend(record.trace.map(|trace| span::of(&record, trace))),
            Message::Flush(done) => return (batch, Some(done)),
        }
        if batch.len() >= BATCH {
            break;
        }
        next = timeout_at(until, queue.recv()).await.ok().flatten();
    }
    (batch, None)
}

async fn send(batch: Vec<SpanData>, client: &impl SpanExporter, sources: &Sources) {
    let spans = batch.len() as u64;
    if spans == 0 {
        return;
    }
    let sent = timeout(TIMEOUT, client.export(batch)).await;
    let counter = match sent {
        Ok(Ok(())) => &sources.process.spans_exported,
        Ok(Err(error)) => {
            tracing::warn!(%error, spans, "the trace receiver refused spans");
            &sources.process.spans_dropped
        }
        Err(_) => {
            tracing::warn!(spans, "the trace receiver did not answer in {TIMEOUT:?}");
            &sources.process.spans_dropped
        }
    };
    counter.fetch_add(spans, Ordering::Relaxed);
}
