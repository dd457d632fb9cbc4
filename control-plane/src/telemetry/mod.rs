//! What the control plane counts. Labels are words of ours, so that nobody who connects can make series.

mod catalogue;

use std::{array, time::Duration};

use prometheus_client::{
    encoding::text,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use trama_sidecar::telemetry::Metric;

pub use self::catalogue::CATALOGUE;

type Labels<const N: usize> = [(&'static str, &'static str); N];

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
    /// The identity has as many streams as it may have.
    IdentityLimit,
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
            Self::IdentityLimit => "identity_limit",
            Self::Flood => "flood",
            Self::Slow => "slow",
            Self::Protocol => "protocol",
        }
    }
}

/// Why a connection of the network was refused, or ended by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// Its address has as many as it may have that have proved nothing.
    Address,
    /// Its identity has as many as it may have.
    Identity,
    /// It was without a call for too long.
    Idle,
}

impl ConnectionEnd {
    fn name(self) -> &'static str {
        match self {
            Self::Address => "address_limit",
            Self::Identity => "identity_limit",
            Self::Idle => "idle",
        }
    }
}

/// Counters, one for each set of values of the labels that the catalogue names.
struct Counted<const N: usize> {
    labels: [&'static str; N],
    counters: Family<Labels<N>, Counter>,
}

impl<const N: usize> Counted<N> {
    fn inc(&self, values: [&'static str; N]) {
        self.inc_by(values, 1);
    }

    fn inc_by(&self, values: [&'static str; N], by: u64) {
        let labels = array::from_fn(|at| (self.labels[at], values[at]));
        self.counters.get_or_create(&labels).inc_by(by);
    }
}

/// All counts.
pub struct Metrics {
    registry: Registry,
    streams: Gauge,
    ended: Counted<1>,
    pushes: Counter,
    pushed: Counter,
    answers: Counted<1>,
    acknowledged: Histogram,
    unknown: Counter,
    asked: Counted<2>,
    ignored: Counted<1>,
    identities: Counted<1>,
    refused: Counted<1>,
    requests: Counted<2>,
    watches: Counted<1>,
    revision: Gauge,
    expiry: Gauge,
    handshakes: Counter,
    connections: Counted<1>,
    spans: Spans,
}

/// What is counted of spans.
struct Spans {
    taken: Counter,
    refused: Counted<1>,
    forwarded: Counter,
    retries: Counter,
    lost: Counted<1>,
    queued: Gauge,
    traces: Gauge,
    bytes: Gauge,
    evicted: Counted<1>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut all = Registry::default();
        // From a millisecond to half a minute.
        let times = Histogram::new(exponential_buckets(0.001, 2.0, 16));
        Self {
            streams: registered(&mut all, &catalogue::STREAMS, Gauge::default()),
            ended: counted(&mut all, &catalogue::STREAMS_ENDED),
            pushes: registered(&mut all, &catalogue::PUSHES, Counter::default()),
            pushed: registered(&mut all, &catalogue::PUSHED, Counter::default()),
            answers: counted(&mut all, &catalogue::ANSWERS),
            acknowledged: registered(&mut all, &catalogue::ACKNOWLEDGED, times),
            unknown: registered(&mut all, &catalogue::UNKNOWN, Counter::default()),
            asked: counted(&mut all, &catalogue::ASKS),
            ignored: counted(&mut all, &catalogue::IGNORED),
            identities: counted(&mut all, &catalogue::IDENTITIES),
            refused: counted(&mut all, &catalogue::IDENTITY_REFUSALS),
            requests: counted(&mut all, &catalogue::REQUESTS),
            watches: counted(&mut all, &catalogue::WATCHES_ENDED),
            revision: registered(&mut all, &catalogue::REVISION, Gauge::default()),
            expiry: registered(&mut all, &catalogue::EXPIRY, Gauge::default()),
            handshakes: registered(&mut all, &catalogue::HANDSHAKES, Counter::default()),
            connections: counted(&mut all, &catalogue::CONNECTIONS_ENDED),
            spans: Spans::new(&mut all),
            registry: all,
        }
    }
}

fn registered<M: prometheus_client::registry::Metric + Clone>(
    all: &mut Registry,
    metric: &Metric,
    counts: M,
) -> M {
    match metric.encoded_unit() {
        Some(unit) => all.register_with_unit(metric.base_name(), metric.help, unit, counts.clone()),
        None => all.register(metric.base_name(), metric.help, counts.clone()),
    }
    counts
}

fn counted<const N: usize>(all: &mut Registry, metric: &Metric) -> Counted<N> {
    let labels =
        metric.labels.try_into().expect("as many labels as the catalogue has, or no control plane starts");
    Counted { labels, counters: registered(all, metric, Family::default()) }
}

impl Metrics {
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
        self.ended.inc([why.name()]);
    }

    pub(crate) fn pushed(&self, resources: usize) {
        self.pushes.inc();
        self.pushed.inc_by(resources as u64);
    }

    pub(crate) fn answered(&self, result: &'static str, took: Duration) {
        self.answers.inc([result]);
        self.acknowledged.observe(took.as_secs_f64());
    }

    pub(crate) fn unknown(&self) {
        self.unknown.inc();
    }

    pub(crate) fn asked(&self, question: &'static str, result: &'static str) {
        self.asked.inc([question, result]);
    }

    pub(crate) fn answer_ignored(&self, reason: &'static str) {
        self.ignored.inc([reason]);
    }

    pub(crate) fn issued(&self, how: &'static str) {
        self.identities.inc([how]);
    }

    pub(crate) fn refused_as(&self, reason: &'static str) {
        self.refused.inc([reason]);
    }

    pub(crate) fn admin(&self, method: &'static str, code: &'static str) {
        self.requests.inc([method, code]);
    }

    pub(crate) fn watch_ended(&self, reason: &'static str) {
        self.watches.inc([reason]);
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

    pub(crate) fn connection_ended(&self, why: ConnectionEnd) {
        self.connections.inc([why.name()]);
    }

    pub(crate) fn spans_taken(&self, spans: u64) {
        self.spans.taken.inc_by(spans);
    }

    pub(crate) fn spans_refused(&self, reason: &'static str, spans: u64) {
        self.spans.refused.inc_by([reason], spans);
    }

    pub(crate) fn spans_forwarded(&self, spans: u64) {
        self.spans.forwarded.inc_by(spans);
    }

    pub(crate) fn forward_retried(&self) {
        self.spans.retries.inc();
    }

    pub(crate) fn spans_lost(&self, reason: &'static str, spans: u64) {
        if spans > 0 {
            self.spans.lost.inc_by([reason], spans);
        }
    }

    /// How many traces, and at last spans, the window has lost by each of its bounds.
    pub(crate) fn window_lost(&self, lost: impl IntoIterator<Item = (&'static str, u64)>) {
        for (bound, number) in lost.into_iter().filter(|(_, number)| *number > 0) {
            self.spans.evicted.inc_by([bound], number);
        }
    }

    pub(crate) fn traces_held(&self, traces: usize, bytes: u64, queued: usize) {
        self.spans.traces.set(traces as i64);
        self.spans.bytes.set(bytes as i64);
        self.spans.queued.set(queued as i64);
    }
}

impl Spans {
    fn new(all: &mut Registry) -> Self {
        Self {
            taken: registered(all, &catalogue::SPANS, Counter::default()),
            refused: counted(all, &catalogue::SPANS_REFUSED),
            forwarded: registered(all, &catalogue::SPANS_FORWARDED, Counter::default()),
            retries: registered(all, &catalogue::FORWARD_RETRIES, Counter::default()),
            lost: counted(all, &catalogue::SPANS_LOST),
            queued: registered(all, &catalogue::SPANS_QUEUED, Gauge::default()),
            traces: registered(all, &catalogue::TRACES, Gauge::default()),
            bytes: registered(all, &catalogue::TRACE_BYTES, Gauge::default()),
            evicted: counted(all, &catalogue::TRACES_EVICTED),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_is_scraped_is_what_the_catalogue_says() {
        let metrics = Metrics::default();
        metrics.stream_ended(StreamEnd::Flood);
        metrics.answered("ack", Duration::from_millis(3));
        metrics.asked("explain", "ok");
        metrics.answer_ignored("unasked");
        metrics.issued("join");
        metrics.refused_as("used_token");
        metrics.admin("apply", "ok");
        metrics.connection_ended(ConnectionEnd::Idle);
        metrics.watch_ended("slow");
        metrics.spans_refused("flood", 1);
        metrics.spans_lost("queue_full", 1);
        metrics.window_lost([("age", 1), ("bytes", 0)]);
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
        let told =
            |metric: &Metric| (metric.name.to_owned(), (metric.kind.to_owned(), metric.help.to_owned()));
        assert_eq!(exposed, CATALOGUE.iter().map(told).collect());

        for metric in CATALOGUE.iter().filter(|metric| !metric.labels.is_empty()) {
            let line = text.lines().find_map(|line| line.strip_prefix(metric.name)?.strip_prefix('{'));
            let labels = line.unwrap().split_once('}').unwrap().0.split(',');
            let names: Vec<_> = labels.map(|label| label.split_once('=').unwrap().0).collect();
            assert_eq!(names, metric.labels, "{}", metric.name);
        }
    }
}
