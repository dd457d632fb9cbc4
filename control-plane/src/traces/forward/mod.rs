//! Spans on their way to whoever keeps them: any receiver of OTLP over gRPC. One batch is under way at a time; meanwhile the
//! others wait in the queue, which is bounded, so that a slow receiver costs spans and nothing else.

mod retry;

use std::{error::Error, path::PathBuf, sync::Arc, time::Duration};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse, trace_service_client::TraceServiceClient,
    },
    trace::v1::{ResourceSpans, ScopeSpans},
};
use rustls_pki_types::ServerName;
use tokio::{sync::watch, time};
use tonic::{Status, transport::Channel};
use trama_sidecar::{
    config::{
        bootstrap::sealed_host,
        snapshot::{BackendTls, CertificateName},
    },
    telemetry::{ReceiverTls, channel_to_receiver},
    tls::{IdentityError, Offer, UpstreamFiles},
};

use self::retry::{Answer, Retry, Verdict};
use super::{Loss, Traces, queue::Queue, span::KeptSpan};
use crate::config;

/// Spans sent at once.
const BATCH: usize = 512;
/// Bytes sent at once, beyond which no span is added: with their resources they stay below the 4 MiB that receivers of
/// gRPC usually take.
const BATCH_BYTES: usize = 1 << 20;

/// Why spans cannot be sent on.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// The authorities cannot be used.
    #[error("traces.forward.authorities: {0}")]
    Authorities(#[from] IdentityError),
    /// The address cannot be used.
    #[error("traces.forward.endpoint: {endpoint:?}: {problem}; write it as `https://host:port`")]
    Endpoint {
        /// What was written.
        endpoint: String,
        /// What is wrong.
        problem: String,
    },
}

/// Sends on what the queue holds.
pub(crate) struct Forwarder {
    traces: Arc<Traces>,
    receiver: Receiver,
    client: TraceServiceClient<Channel>,
    timeout: Duration,
    give_up_after: Duration,
}

impl Forwarder {
    /// Loads what is needed; `None`: the configuration names no receiver.
    pub(crate) fn new(traces: &Arc<Traces>, config: &config::Forward) -> Result<Option<Self>, ReceiverError> {
        let Some(endpoint) = &config.endpoint else { return Ok(None) };
        let receiver = Receiver { endpoint: endpoint.clone(), authorities: config.authorities.clone() };
        receiver.check()?;
        let client = receiver.client()?;
        let (timeout, give_up_after) = (config.timeout, config.give_up_after);
        Ok(Some(Self { traces: Arc::clone(traces), receiver, client, timeout, give_up_after }))
    }

    /// Sends until the end is told and nothing waits any more, or the receiver does not take it then.
    pub(crate) async fn run(mut self, mut ending: watch::Receiver<bool>) {
        loop {
            let batch = self.traces.core().queue.as_mut().map(|queue| queue.take(BATCH, BATCH_BYTES));
            let batch = batch.unwrap_or_default();
            if !batch.is_empty() {
                self.deliver(&batch, &mut ending).await;
                self.traces.gauge();
            } else if is_over(&ending) {
                return;
            } else {
                tokio::select! {
                    () = self.traces.waiting.notified() => {}
                    _ = ending.wait_for(|ending| *ending) => {}
                }
            }
        }
    }

    /// Sends a batch until it is taken, or lost.
    async fn deliver(&mut self, batch: &[Arc<KeptSpan>], ending: &mut watch::Receiver<bool>) {
        let spans = batch.len() as u64;
        let mut retry = Retry::new(self.traces.now(), self.give_up_after);
        loop {
            let is_last = is_over(ending);
            let status = match self.send(batch).await {
                Ok(answer) => return self.taken(spans, answer),
                Err(status) => status,
            };
            let verdict = retry.failed(Answer::of(&status), self.traces.now(), fastrand::u64(..));
            let receiver = &self.receiver.endpoint;
            match verdict {
                Verdict::Again(_) if is_last => {
                    let left = self.traces.core().queue.as_ref().map_or(0, Queue::len) as u64;
                    tracing::warn!(%receiver, %status, spans = spans + left, "spans are lost at the end");
                    self.traces.core().queue = None;
                    return self.traces.metrics.spans_lost(Loss::Ended.name(), spans + left);
                }
                Verdict::Again(wait) => {
                    tracing::warn!(%receiver, %status, ?wait, "spans were not taken; they are sent again");
                    self.traces.metrics.forward_retried();
                    tokio::select! {
                        () = time::sleep(wait) => {}
                        _ = ending.wait_for(|ending| *ending) => {}
                    }
                }
                Verdict::Refused => {
                    tracing::warn!(%receiver, %status, spans, "spans are refused{}", hint(&status));
                    return self.traces.metrics.spans_lost(Loss::Refused.name(), spans);
                }
                Verdict::GivenUp => {
                    tracing::warn!(%receiver, %status, spans, "spans are given up");
                    return self.traces.metrics.spans_lost(Loss::GivenUp.name(), spans);
                }
            }
        }
    }

    async fn send(&mut self, batch: &[Arc<KeptSpan>]) -> Result<ExportTraceServiceResponse, Status> {
        let sent = time::timeout(self.timeout, self.client.export(request(batch))).await;
        if let Ok(answered) = sent {
            return answered.map(tonic::Response::into_inner);
        }
        // A connection on which nothing comes may be one whose other end is no more.
        if let Ok(client) = self.receiver.client() {
            self.client = client;
        }
        Err(Status::deadline_exceeded(format!("no answer within {:?}", self.timeout)))
    }

    /// What the receiver did not want is not sent again (OTLP specification, "Partial Success").
    fn taken(&self, spans: u64, answer: ExportTraceServiceResponse) {
        let partial = answer.partial_success.unwrap_or_default();
        let refused = u64::try_from(partial.rejected_spans).unwrap_or_default().min(spans);
        if refused > 0 || !partial.error_message.is_empty() {
            let (receiver, said) = (&self.receiver.endpoint, &partial.error_message);
            tracing::warn!(%receiver, refused, "the trace receiver says: {said}");
        }
        self.traces.metrics.spans_forwarded(spans - refused);
        self.traces.metrics.spans_lost(Loss::Refused.name(), refused);
    }
}

/// What the receiver itself has not said comes of what it speaks.
fn hint(status: &Status) -> &'static str {
    match status.source() {
        Some(_) => ": it does not speak OTLP over gRPC, which most receivers have on port 4317",
        None => "",
    }
}

/// Whether the end is told, or there is nobody any more who would tell it.
fn is_over(ending: &watch::Receiver<bool>) -> bool {
    *ending.borrow() || ending.has_changed().is_err()
}

/// Whoever receives spans.
struct Receiver {
    endpoint: String,
    authorities: Option<PathBuf>,
}

impl Receiver {
    fn check(&self) -> Result<(), ReceiverError> {
        if sealed_host(&self.endpoint).is_some() {
            self.files().load(1)?;
        }
        Ok(())
    }

    /// A client that connects when it is first used, and again when it has to.
    fn client(&self) -> Result<TraceServiceClient<Channel>, ReceiverError> {
        let bad = |problem: String| ReceiverError::Endpoint { endpoint: self.endpoint.clone(), problem };
        let tls = match sealed_host(&self.endpoint) {
            Some(host) => Some(self.tls(host).map_err(bad)?),
            None => None,
        };
        let channel = channel_to_receiver(&self.endpoint, tls).map_err(|error| bad(error.to_string()))?;
        Ok(TraceServiceClient::new(channel))
    }

    /// The files are read for each connection: they may have been replaced.
    fn tls(&self, host: &str) -> Result<ReceiverTls, String> {
        let server_name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let receiver = Arc::new(BackendTls {
            names: vec![CertificateName::Host(server_name.clone())],
            server_name: server_name.clone(),
            files: "".into(),
        });
        let files = self.files();
        let config = move || {
            let loaded = files.load(1).map_err(|error| error.to_string())?;
            loaded.client(&receiver, Offer::Http2).map_err(|error| error.to_string())
        };
        Ok(ReceiverTls { server_name, config: Arc::new(config), revision: Arc::new(|| 0) })
    }

    fn files(&self) -> UpstreamFiles {
        UpstreamFiles { authorities: self.authorities.clone(), client: None }
    }
}

/// A request with these spans, those of one origin together where they stand side by side.
fn request(batch: &[Arc<KeptSpan>]) -> ExportTraceServiceRequest {
    let runs = batch.chunk_by(|one, next| Arc::ptr_eq(&one.origin, &next.origin));
    let resource_spans = runs.map(|run| {
        let origin = &run[0].origin;
        let scope_spans = ScopeSpans {
            scope: origin.scope.clone(),
            spans: run.iter().map(|span| span.decoded()).collect(),
            schema_url: origin.scope_schema.clone(),
        };
        ResourceSpans {
            resource: Some(origin.resource.clone()),
            scope_spans: vec![scope_spans],
            schema_url: origin.resource_schema.clone(),
        }
    });
    ExportTraceServiceRequest { resource_spans: resource_spans.collect() }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{kept, request as exported, sender, span},
        *,
    };
    use crate::traces::admit::admit;

    #[tokio::test]
    async fn authorities_that_cannot_be_used_are_named_at_the_start() {
        let (_ending, is_ending) = watch::channel(false);
        let traces = Arc::new(Traces::new(&config::Traces::default(), Arc::default(), is_ending));
        let none = config::Forward::default();
        assert!(Forwarder::new(&traces, &none).unwrap().is_none());
        let sealed = config::Forward {
            endpoint: Some("https://collector:4317".to_owned()),
            authorities: Some("/nowhere/ca.pem".into()),
            ..none.clone()
        };
        let error = Forwarder::new(&traces, &sealed).err().unwrap().to_string();
        assert!(error.starts_with("traces.forward.authorities: /nowhere/ca.pem"), "{error}");
        let plain = config::Forward { endpoint: Some("http://collector:4317".to_owned()), ..none };
        assert!(Forwarder::new(&traces, &plain).unwrap().is_some());
    }

    #[test]
    fn spans_of_one_origin_go_together_and_as_they_came() {
        let orders = sender("orders");
        let together = admit(exported(&[], vec![span(1, 1), span(1, 2)]), &orders, 9).unwrap().spans;
        let alone = kept(&orders, span(2, 1));
        let request = request(&[Arc::clone(&together[0]), Arc::clone(&together[1]), alone]);
        let spans = request.resource_spans.iter().map(|it| it.scope_spans[0].spans.clone());
        assert_eq!(spans.collect::<Vec<_>>(), [vec![span(1, 1), span(1, 2)], vec![span(2, 1)]]);
    }
}
