//! What the control plane counts. Labels are words of ours, so that nobody who connects can make series.

use std::time::Duration;

use prometheus_client::{
    encoding::text,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::{
    identity::IdentityError,
    stream::Ignored,
    traces::{Loss, Refusal, WindowLost},
};

type Label = [(&'static str, &'static str); 1];
type Labels = [(&'static str, &'static str); 2];

/// Why a policy stream did not begin, or was ended by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// No certificate, or it has expired.
    Unauthenticated,
    /// The Hello is somebody else's.
    ForeignHello,
    /// No Hello in time, or another message before it.
    NoHello,
    /// The first sync is not done, or we are about to end.
    NotReady,
    /// A limit: streams, services, resources.
    Limit,
    /// Too many messages.
    Flood,
    /// A push was not acknowledged in time.
    Slow,
    /// A message that makes no sense.
    Protocol,
}

impl StreamEnd {
    fn name(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::ForeignHello => "foreign_hello",
            Self::NoHello => "no_hello",
            Self::NotReady => "not_ready",
            Self::Limit => "limit",
            Self::Flood => "flood",
            Self::Slow => "slow",
            Self::Protocol => "protocol",
        }
    }
}

/// All counts.
pub struct Metrics {
    registry: Registry,
    streams: Gauge,
    ended: Family<Label, Counter>,
    pushes: Counter,
    pushed: Counter,
    answers: Family<Label, Counter>,
    acknowledged: Histogram,
    unknown: Counter,
    asked: Family<Labels, Counter>,
    ignored: Family<Label, Counter>,
    identities: Family<Label, Counter>,
    refused: Family<Label, Counter>,
    requests: Family<Labels, Counter>,
    revision: Gauge,
    expiry: Gauge,
    handshakes: Counter,
    spans: Spans,
}

/// What is counted of spans.
#[derive(Default)]
struct Spans {
    taken: Counter,
    refused: Family<Label, Counter>,
    forwarded: Counter,
    retries: Counter,
    lost: Family<Label, Counter>,
    queued: Gauge,
    traces: Gauge,
    bytes: Gauge,
    evicted: Family<Label, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("trama_control"),
            streams: Gauge::default(),
            ended: Family::default(),
            pushes: Counter::default(),
            pushed: Counter::default(),
            answers: Family::default(),
            // From a millisecond to half a minute.
            acknowledged: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            unknown: Counter::default(),
            asked: Family::default(),
            ignored: Family::default(),
            identities: Family::default(),
            refused: Family::default(),
            requests: Family::default(),
            revision: Gauge::default(),
            expiry: Gauge::default(),
            handshakes: Counter::default(),
            spans: Spans::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let Self { registry, .. } = self;
        registry.register("streams", "Policy streams that are open", self.streams.clone());
        registry.register(
            "streams_ended",
            "Policy streams that were refused or ended, by reason",
            self.ended.clone(),
        );
        registry.register("pushes", "Pushes sent", self.pushes.clone());
        registry.register(
            "pushed_resources",
            "Resources and tombstones in pushes; a sidecar that comes back is sent what has changed",
            self.pushed.clone(),
        );
        registry.register("push_answers", "Answers to pushes, ack or nack", self.answers.clone());
        registry.register_with_unit(
            "push_acknowledged",
            "From a push to its answer",
            Unit::Seconds,
            self.acknowledged.clone(),
        );
        let help = "Messages of sidecars that this version does not know, and ignored";
        registry.register("messages_unknown", help, self.unknown.clone());
        registry.register("asks", "Questions to sidecars, by what became of them", self.asked.clone());
        let help = "Answers of sidecars that nobody takes, by reason";
        registry.register("answers_ignored", help, self.ignored.clone());
        registry.register("identities", "Certificates issued, by join or renew", self.identities.clone());
        registry.register("identity_refusals", "Certificates refused, by reason", self.refused.clone());
        registry.register("admin_requests", "Requests of the Admin API", self.requests.clone());
        registry.register("policy_revision", "The revision of the policy in force", self.revision.clone());
        let help = "When the control plane's own certificate ends, seconds since 1970";
        registry.register("certificate_expiry", help, self.expiry.clone());
        registry.register("handshakes_failed", "TLS handshakes that failed", self.handshakes.clone());
        self.spans.register(&mut self.registry);
    }

    /// All counts in OpenMetrics' text form.
    pub fn scrape(&self) -> String {
        let mut text = String::with_capacity(8 * 1024);
        text::encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }

    pub(crate) fn stream_begun(&self) {
        self.streams.inc();
    }

    pub(crate) fn stream_gone(&self) {
        self.streams.dec();
    }

    pub(crate) fn stream_ended(&self, why: StreamEnd) {
        self.ended.get_or_create(&[("reason", why.name())]).inc();
    }

    pub(crate) fn pushed(&self, resources: usize) {
        self.pushes.inc();
        self.pushed.inc_by(resources as u64);
    }

    pub(crate) fn answered(&self, result: &'static str, took: Duration) {
        self.answers.get_or_create(&[("result", result)]).inc();
        self.acknowledged.observe(took.as_secs_f64());
    }

    pub(crate) fn unknown(&self) {
        self.unknown.inc();
    }

    pub(crate) fn asked(&self, question: &'static str, result: &'static str) {
        self.asked.get_or_create(&[("question", question), ("result", result)]).inc();
    }

    pub(crate) fn answer_ignored(&self, why: Ignored) {
        let reason = match why {
            Ignored::Unasked => "unasked",
            Ignored::Late => "late",
            Ignored::Foreign => "foreign",
            Ignored::TooLarge => "too_large",
        };
        self.ignored.get_or_create(&[("reason", reason)]).inc();
    }

    pub(crate) fn issued(&self, how: &'static str) {
        self.identities.get_or_create(&[("how", how)]).inc();
    }

    pub(crate) fn refused(&self, error: &IdentityError) {
        self.refused_as(error.name());
    }

    pub(crate) fn refused_as(&self, reason: &'static str) {
        self.refused.get_or_create(&[("reason", reason)]).inc();
    }

    pub(crate) fn admin(&self, method: &'static str, code: &'static str) {
        self.requests.get_or_create(&[("method", method), ("code", code)]).inc();
    }

    pub(crate) fn revision(&self, revision: u64) {
        self.revision.set(revision as i64);
    }

    pub(crate) fn own_certificate(&self, expires: u64) {
        self.expiry.set(expires as i64);
    }

    pub(crate) fn handshake_failed(&self) {
        self.handshakes.inc();
    }

    pub(crate) fn spans_taken(&self, spans: u64) {
        self.spans.taken.inc_by(spans);
    }

    pub(crate) fn spans_refused(&self, why: Refusal, spans: u64) {
        self.spans.refused.get_or_create(&[("reason", why.name())]).inc_by(spans);
    }

    pub(crate) fn spans_forwarded(&self, spans: u64) {
        self.spans.forwarded.inc_by(spans);
    }

    pub(crate) fn forward_retried(&self) {
        self.spans.retries.inc();
    }

    pub(crate) fn spans_lost(&self, why: Loss, spans: u64) {
        if spans > 0 {
            self.spans.lost.get_or_create(&[("reason", why.name())]).inc_by(spans);
        }
    }

    pub(crate) fn window_lost(&self, WindowLost(lost): WindowLost) {
        for (bound, number) in lost.into_iter().filter(|(_, number)| *number > 0) {
            self.spans.evicted.get_or_create(&[("bound", bound)]).inc_by(number);
        }
    }

    pub(crate) fn traces_held(&self, traces: usize, bytes: u64, queued: usize) {
        self.spans.traces.set(traces as i64);
        self.spans.bytes.set(bytes as i64);
        self.spans.queued.set(queued as i64);
    }
}

impl Spans {
    fn register(&self, registry: &mut Registry) {
        registry.register("spans", "Spans that were taken from sidecars", self.taken.clone());
        registry.register("spans_refused", "Spans that were refused, by reason", self.refused.clone());
        registry.register("spans_forwarded", "Spans that the trace receiver took", self.forwarded.clone());
        let help = "Requests with spans that the trace receiver did not take and that were sent again";
        registry.register("forward_retries", help, self.retries.clone());
        let help = "Spans that were taken and not sent on, by reason";
        registry.register("spans_lost", help, self.lost.clone());
        registry.register("spans_queued", "Spans that wait to be sent on", self.queued.clone());
        registry.register("traces", "Traces in the window", self.traces.clone());
        let help = "Memory that the traces in the window take, about";
        registry.register_with_unit("traces", help, Unit::Bytes, self.bytes.clone());
        let help = "Traces that left the window, and spans that were too many for one, by the bound";
        registry.register("traces_evicted", help, self.evicted.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_book_lists_every_metric_with_its_meaning() {
        let metrics = Metrics::default();
        metrics.stream_ended(StreamEnd::Flood);
        metrics.answered("ack", Duration::from_millis(3));
        metrics.asked("explain", "ok");
        metrics.answer_ignored(Ignored::Unasked);
        metrics.issued("join");
        metrics.refused_as("used_token");
        metrics.admin("apply", "ok");
        metrics.spans_refused(Refusal::Flood, 1);
        metrics.spans_lost(Loss::QueueFull, 1);
        metrics.window_lost(WindowLost([("age", 1), ("bytes", 0), ("count", 0), ("spans", 0)]));
        let text = metrics.scrape();
        let described = |mark: &'static str| {
            let lines = text.lines().filter_map(move |line| line.strip_prefix(mark)?.split_once(' '));
            lines.map(|(name, rest)| (name.to_owned(), rest.to_owned())).collect::<BTreeMap<_, _>>()
        };
        let (helps, kinds) = (described("# HELP "), described("# TYPE "));
        let exposed = helps.into_iter().map(|(name, help)| {
            let kind = kinds[&name].clone();
            let name = if kind == "counter" { format!("{name}_total") } else { name };
            (name, (kind, help.trim_end_matches('.').to_owned()))
        });
        let exposed: BTreeMap<_, _> = exposed.collect();

        let page = include_str!("../../docs/src/reference/control-plane.md");
        let rows = page.lines().filter(|line| line.starts_with("| `trama_control_"));
        let cells = rows.map(|row| row.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()));
        let listed: BTreeMap<_, _> = cells
            .map(Iterator::collect::<Vec<_>>)
            .map(|cells| (cells[1].clone(), (cells[2].clone(), cells[4].clone())))
            .collect();
        assert_eq!(listed, exposed);
    }
}
