//! The traces of the mesh: spans of sidecars by OTLP over gRPC, kept for a while for whoever asks, and sent on to whoever
//! keeps them.
//!
//! [`service`] lets a sidecar in, [`admit`] says which of its spans are kept, [`core`] puts them into the [`window`] and into the
//! [`queue`], from which [`forward`] sends them on. The decisions are pure; time goes in.
//!
//! Everything is bounded, and a sidecar that brings too much loses its own spans: it has a rate, and the fullest share of
//! window and queue is the one that is cut. It never waits for the receiver to whom spans are sent on.

mod admit;
mod core;
mod forward;
mod places;
mod query;
mod queue;
mod requests;
mod service;
mod shares;
mod show;
mod span;
#[cfg(test)]
mod testing;
mod window;
mod wire;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use tokio::sync::{Notify, watch};
use tonic::{Request, Status};

use self::{
    admit::{Admitted, Refusal, Refused},
    core::{Core, Taken},
    places::{Place, Places},
    queue::QueueLimits,
    window::WindowLimits,
    wire::ExportRequest,
};
pub(crate) use self::{
    forward::{Forwarder, ReceiverError},
    query::{Filter, Page},
    requests::explained,
    service::TraceServer,
    span::TraceId,
    window::Reach,
};
use crate::{clock, config, peer::Peer, reason::Reason, telemetry::Metrics};

/// What takes, keeps and hands on spans.
pub(crate) struct Traces {
    core: Mutex<Core>,
    places: Places,
    began: Instant,
    /// Tells one run of the program from another, for the tokens of pages.
    run: u64,
    spans_per_request: usize,
    /// Told of each request while somebody sends on what it brings.
    waiting: Notify,
    metrics: Arc<Metrics>,
    ending: watch::Receiver<bool>,
}

impl Traces {
    pub(crate) fn new(config: &config::Traces, metrics: Arc<Metrics>, ending: watch::Receiver<bool>) -> Self {
        let config::Traces { window, forward, .. } = config;
        let window =
            WindowLimits { traces: window.traces as usize, bytes: u64::from(window.bytes), age: window.age };
        let limits =
            QueueLimits { spans: forward.queue_spans as usize, bytes: u64::from(forward.queue_bytes) };
        let queue = forward.endpoint.is_some().then_some(limits);
        Self {
            core: Mutex::new(Core::new(config.spans_per_second, window, queue)),
            places: Places::default(),
            began: Instant::now(),
            run: clock::milliseconds(),
            spans_per_request: config.spans_per_request as usize,
            waiting: Notify::new(),
            metrics,
            ending,
        }
    }

    /// Lets a workload in, before its message is read. No other sender than a peer with a certificate is known.
    fn let_in(&self, peer: Option<&Peer>) -> Result<Place, Status> {
        let Some(Peer::Network { address, .. }) = peer else {
            return Err(Reason::NoCertificate.status("a connection over TLS is needed"));
        };
        peer.map_or(Ok(()), |peer| peer.identity(clock::seconds()).map(drop))?;
        if *self.ending.borrow() {
            return Err(Reason::Ending.status("the control plane ends; come back"));
        }
        self.places.take(*address).ok_or_else(|| {
            Reason::TooMuch.status("too many requests under way on this connection; send one by one")
        })
    }

    fn export(&self, request: Request<ExportRequest>) -> Result<ExportTraceServiceResponse, Status> {
        let peer = Peer::of_request(&request)?.clone();
        let sender = peer.identity(clock::seconds())?;
        let Admitted { spans, mut refused } =
            admit::admit(request.into_inner(), sender, self.spans_per_request).map_err(|error| {
                Reason::BadMessage.status(format!("no ExportTraceServiceRequest of OTLP: {error}"))
            })?;
        let taken = self.core().take(sender, spans, self.now());
        if taken.flooded > 0 {
            refused.insert(Refusal::Flood, taken.flooded);
        }
        self.waiting.notify_one();
        self.count(&taken, &refused);
        if !refused.is_empty() {
            tracing::debug!(%peer, ?refused, "spans are refused");
        }
        Ok(answer(&refused))
    }

    /// Forgets what is too old, and shows how much there is.
    pub(crate) fn tidy(&self) {
        let lost = self.core().tidy(self.now());
        self.metrics.window_lost(lost.by_bound());
        self.gauge();
    }

    fn count(&self, taken: &Taken, refused: &Refused) {
        self.metrics.spans_taken(taken.spans);
        for (why, spans) in refused {
            self.metrics.spans_refused(why.name(), *spans);
        }
        self.metrics.spans_lost(Loss::QueueFull.name(), taken.unsent);
        self.metrics.window_lost(taken.lost.by_bound());
        self.gauge();
    }

    fn gauge(&self) {
        let core = self.core();
        let queued = core.queue.as_ref().map_or(0, queue::Queue::len);
        self.metrics.traces_held(core.window.len(), core.window.bytes(), queued);
    }

    /// Since the service began.
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Never held over a wait.
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a span that was taken is not sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// There was no room for it to wait.
    QueueFull,
    /// The receiver does not want it.
    Refused,
    /// It was tried for long enough.
    GivenUp,
    /// The control plane ended.
    Ended,
}

impl Loss {
    /// Its name, for the count.
    fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Refused => "refused",
            Self::GivenUp => "given_up",
            Self::Ended => "ended",
        }
    }
}

/// What is refused is not to be sent again, and that is what a partial success says (OTLP specification, "Partial
/// Success").
fn answer(refused: &Refused) -> ExportTraceServiceResponse {
    let rejected = refused.values().sum::<u64>();
    let named = refused.iter().map(|(why, spans)| format!("{spans} {}", why.name()));
    let partial = ExportTracePartialSuccess {
        rejected_spans: i64::try_from(rejected).unwrap_or(i64::MAX),
        error_message: format!("refused: {}", named.collect::<Vec<_>>().join(", ")),
    };
    ExportTraceServiceResponse { partial_success: (rejected > 0).then_some(partial) }
}

#[cfg(test)]
mod tests;
