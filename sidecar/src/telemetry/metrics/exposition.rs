//! The text that a scrape answers: the workers' series, summed.

use std::{
    borrow::Cow,
    fmt::{self, Write},
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text},
    registry::Registry,
};
use serde::Serialize;

use super::{
    Families,
    catalogue::{self, Metric},
    family::{Family, Labels, OVERFLOW},
    identity::{IdentityFailure, IdentityRequest, IdentityState},
    labels::EjectionLabels,
    process::{CertificateUse, PolicyUpdate, ProcessMetrics, PushResult, Usage},
    series::{BOUNDS, ConnectionSeries, Counter, Histogram, HistogramTotal, RequestSeries},
};

/// The text's format.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text format 0.0.4.
    Prometheus,
}

impl Format {
    /// The content type of the answer.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// What a scrape reads.
#[derive(Debug)]
pub(crate) struct Sources {
    /// What workers count.
    pub(crate) families: Families,
    /// What is counted once.
    pub(crate) process: ProcessMetrics,
}

/// All metrics as text.
pub(crate) fn scrape(sources: &Arc<Sources>, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(Arc::clone(sources))));
    let mut text = String::with_capacity(16 * 1024);
    text::encode(&mut text, &registry).expect("writing to a string does not fail");
    match format {
        Format::OpenMetrics => text,
        Format::Prometheus => classic(&text),
    }
}

/// The older format names a counter in its comments as in its samples, and knows neither units nor an end mark.
fn classic(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if line.starts_with("# UNIT ") || line == "# EOF" {
            continue;
        }
        if let Some(words) = line.strip_prefix("# HELP ") {
            help = words.split_once(' ');
            continue;
        }
        let kind = line.strip_prefix("# TYPE ").and_then(|words| words.split_once(' '));
        let Some((name, kind)) = kind else {
            text.push_str(line);
            text.push('\n');
            continue;
        };
        let total = if kind == "counter" { "_total" } else { "" };
        let meaning = help.take().map_or("", |(_, meaning)| meaning);
        let written = writeln!(text, "# HELP {name}{total} {meaning}\n# TYPE {name}{total} {kind}");
        written.expect("writing to a string does not fail");
    }
    text
}

/// Connections of one kind.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ConnectionCount {
    /// `inbound` or `outbound`.
    pub direction: String,
    /// `downstream` or `upstream`.
    pub peer: String,
    /// `mutual` or `none`.
    pub tls: String,
    /// How many there were.
    pub opened: u64,
    /// How many are open.
    pub active: u64,
}

/// The connections of all workers.
pub(crate) fn connections(families: &Families) -> Vec<ConnectionCount> {
    let rows = connection_rows(families).into_iter();
    let counts = rows.map(|(labels, [opened, closed])| {
        let mut values = labels.into_iter().map(|(_, value)| value.into_owned());
        let mut next = || values.next().unwrap_or_default();
        let (direction, peer, tls) = (next(), next(), next());
        ConnectionCount { direction, peer, tls, opened, active: opened.saturating_sub(closed) }
    });
    counts.collect()
}

fn connection_rows(families: &Families) -> Vec<(Row, [u64; 2])> {
    summed(&families.connections, |series: &ConnectionSeries| {
        // Closed is read first: one that opens and closes in between must not make the difference negative.
        let closed = series.closed.get();
        [series.opened.get(), closed]
    })
}

#[derive(Debug)]
struct Scrape(Arc<Sources>);

impl Collector for Scrape {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        let Sources { families, process } = &*self.0;
        let requests = summed(&families.requests, |s: &RequestSeries| {
            [s.requests.get(), s.received.get(), s.sent.get()]
        });
        counters(&mut to, &catalogue::REQUESTS, requests.iter().map(|(l, n)| (l, n[0])))?;
        counters(&mut to, &catalogue::REQUEST_BYTES, requests.iter().map(|(l, n)| (l, n[1])))?;
        counters(&mut to, &catalogue::RESPONSE_BYTES, requests.iter().map(|(l, n)| (l, n[2])))?;
        histograms(&mut to, &catalogue::SERVER_DURATION, &families.server_durations)?;
        histograms(&mut to, &catalogue::CLIENT_DURATION, &families.client_durations)?;
        family(&mut to, &catalogue::ATTEMPTS, &families.attempts)?;
        let connections = connection_rows(families);
        counters(&mut to, &catalogue::CONNECTIONS_OPENED, connections.iter().map(|(l, n)| (l, n[0])))?;
        let active = connections.iter().map(|(l, n)| (l, n[0].saturating_sub(n[1]) as f64));
        gauges(&mut to, &catalogue::CONNECTIONS_ACTIVE, active)?;
        family(&mut to, &catalogue::HANDSHAKES, &families.handshakes)?;
        family(&mut to, &catalogue::GUARD_REFUSALS, &families.guard_refusals)?;
        family(&mut to, &catalogue::LOOPS, &families.loops)?;
        family(&mut to, &catalogue::EXTERNAL, &families.external)?;
        family(&mut to, &catalogue::EJECTIONS, &families.ejections)?;
        encode_ejected(&mut to, process)?;
        family(&mut to, &catalogue::RETRIES_WITHHELD, &families.retries_withheld)?;
        family(&mut to, &catalogue::AUTHZ, &families.authz)?;
        encode_process(&mut to, process)
    }
}

fn encode_process(to: &mut DescriptorEncoder<'_>, process: &ProcessMetrics) -> fmt::Result {
    let none = Vec::new();
    let one = |value: u64| std::iter::once((&none, value));
    gauges(to, &catalogue::POLICY_REVISION, [(&none, process.policy_revision() as f64)].into_iter())?;
    let updates = PolicyUpdate::ALL.map(|u| (vec![("result", u.name().into())], process.policy_updates(u)));
    counters(to, &catalogue::POLICY_UPDATES, updates.iter().map(|(l, n)| (l, *n)))?;
    let from_disk = f64::from(u8::from(process.is_policy_from_disk()));
    gauges(to, &catalogue::POLICY_LAST_GOOD, [(&none, from_disk)].into_iter())?;
    counters(to, &catalogue::POLICY_STORE_FAILURES, one(process.policy_store_failures()))?;
    encode_stream(to, process)?;
    encode_identity(to, process)?;
    let certificates = CertificateUse::ALL.into_iter().flat_map(|of| {
        [(true, "accepted"), (false, "refused")].map(|(accepted, result)| {
            (
                vec![("kind", of.name().into()), ("result", result.into())],
                process.certificate_updates(of, accepted),
            )
        })
    });
    let certificates: Vec<(Row, u64)> = certificates.collect();
    counters(to, &catalogue::CERTIFICATE_UPDATES, certificates.iter().map(|(l, n)| (l, *n)))?;
    counters(to, &catalogue::LOG_DROPPED, one(process.log_dropped.load(Ordering::Relaxed)))?;
    counters(to, &catalogue::SPANS_EXPORTED, one(process.spans_exported.load(Ordering::Relaxed)))?;
    counters(to, &catalogue::SPANS_DROPPED, one(process.spans_dropped.load(Ordering::Relaxed)))?;
    let version = vec![("version", env!("CARGO_PKG_VERSION").into())];
    gauges(to, &catalogue::BUILD, [(&version, 1.0)].into_iter())?;
    let since_epoch = process.started().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    gauges(to, &catalogue::START_TIME, [(&none, since_epoch.as_secs_f64())].into_iter())?;
    let Some(usage) = Usage::read() else { return Ok(()) };
    let unit = catalogue::CPU.encoded_unit();
    encode_descriptor(to, &catalogue::CPU, unit.as_ref())?
        .encode_counter::<NoLabels, _, u64>(&usage.cpu.as_secs_f64(), None)?;
    gauges(to, &catalogue::RESIDENT, [(&none, usage.resident as f64)].into_iter())?;
    gauges(to, &catalogue::DESCRIPTORS, [(&none, usage.descriptors as f64)].into_iter())
}

fn encode_ejected(to: &mut DescriptorEncoder<'_>, process: &ProcessMetrics) -> fmt::Result {
    let now = process.ejected_now();
    let labels = |(service, region): &(Arc<str>, Arc<str>)| EjectionLabels {
        service: Arc::clone(service),
        peer_region: Arc::clone(region),
    };
    let rows: Vec<_> = now.iter().map(|(whose, count)| (row(Some(&labels(whose))), *count as f64)).collect();
    gauges(to, &catalogue::EJECTED, rows.iter().map(|(labels, count)| (labels, *count)))
}

fn encode_stream(to: &mut DescriptorEncoder<'_>, process: &ProcessMetrics) -> fmt::Result {
    let none = Vec::new();
    let connected = f64::from(u8::from(process.is_control_plane_connected()));
    gauges(to, &catalogue::CONTROL_PLANE_CONNECTED, [(&none, connected)].into_iter())?;
    counters(to, &catalogue::STREAM_FAILURES, std::iter::once((&none, process.stream_failures())))?;
    let pushes = PushResult::ALL.map(|r| (vec![("result", r.name().into())], process.policy_pushes(r)));
    counters(to, &catalogue::POLICY_PUSHES, pushes.iter().map(|(l, n)| (l, *n)))
}

fn encode_identity(to: &mut DescriptorEncoder<'_>, process: &ProcessMetrics) -> fmt::Result {
    let (none, identity) = (Vec::new(), process.identity());
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    let now = identity.state(i64::try_from(now).unwrap_or(i64::MAX));
    let states = IdentityState::ALL
        .map(|state| (vec![("kind", state.name().into())], f64::from(u8::from(state == now))));
    gauges(to, &catalogue::IDENTITY_STATE, states.iter().map(|(l, n)| (l, *n)))?;
    gauges(to, &catalogue::IDENTITY_EXPIRY, [(&none, identity.ends() as f64)].into_iter())?;
    gauges(to, &catalogue::IDENTITY_ROOTS, [(&none, identity.roots() as f64)].into_iter())?;
    let mut requests: Vec<(Row, u64)> = Vec::new();
    for request in IdentityRequest::ALL {
        let row = |result: &'static str, reason: &'static str| {
            vec![("kind", request.name().into()), ("result", result.into()), ("reason", reason.into())]
        };
        requests.push((row("ok", ""), identity.given(request)));
        let failed = IdentityFailure::ALL.into_iter();
        requests.extend(failed.map(|why| (row("failed", why.name()), identity.failed(request, why))));
    }
    counters(to, &catalogue::IDENTITY_REQUESTS, requests.iter().map(|(l, n)| (l, *n)))?;
    counters(to, &catalogue::IDENTITY_STORE_FAILURES, std::iter::once((&none, identity.store_failures())))
}

/// Names and values of labels.
type Row = Vec<(&'static str, Cow<'static, str>)>;
type NoLabels = prometheus_client::encoding::NoLabelSet;

/// Every label set with the sum over the workers, in the order of the values.
fn summed<L: Labels, S: Default, const N: usize>(
    family: &Family<L, S>,
    read: impl Fn(&S) -> [u64; N],
) -> Vec<(Row, [u64; N])> {
    let mut rows = Vec::new();
    for (labels, series) in family.read() {
        let mut total = [0; N];
        for one in &series {
            for (sum, n) in total.iter_mut().zip(read(one)) {
                *sum += n;
            }
        }
        rows.push((row(labels.as_ref()), total));
    }
    rows.sort();
    rows
}

fn row<L: Labels>(labels: Option<&L>) -> Row {
    let values = match labels {
        Some(labels) => labels.values().into_iter().map(|v| v.into_owned().into()).collect(),
        None => vec![Cow::from(OVERFLOW); L::NAMES.len()],
    };
    L::NAMES.iter().copied().zip(values).collect()
}

fn family<L: Labels>(
    to: &mut DescriptorEncoder<'_>,
    metric: &Metric,
    family: &Family<L, Counter>,
) -> fmt::Result {
    let rows = summed(family, |counter| [counter.get()]);
    counters(to, metric, rows.iter().map(|(labels, n)| (labels, n[0])))
}

fn counters<'a>(
    to: &mut DescriptorEncoder<'_>,
    metric: &Metric,
    rows: impl Iterator<Item = (&'a Row, u64)>,
) -> fmt::Result {
    let unit = metric.encoded_unit();
    let mut encoder = encode_descriptor(to, metric, unit.as_ref())?;
    for (labels, value) in rows {
        if labels.is_empty() {
            encoder.encode_counter::<NoLabels, _, u64>(&value, None)?;
        } else {
            encoder.encode_family(labels)?.encode_counter::<NoLabels, _, u64>(&value, None)?;
        }
    }
    Ok(())
}

fn gauges<'a>(
    to: &mut DescriptorEncoder<'_>,
    metric: &Metric,
    rows: impl Iterator<Item = (&'a Row, f64)>,
) -> fmt::Result {
    let unit = metric.encoded_unit();
    let mut encoder = encode_descriptor(to, metric, unit.as_ref())?;
    for (labels, value) in rows {
        if labels.is_empty() {
            encoder.encode_gauge(&value)?;
        } else {
            encoder.encode_family(labels)?.encode_gauge(&value)?;
        }
    }
    Ok(())
}

fn histograms<L: Labels>(
    to: &mut DescriptorEncoder<'_>,
    metric: &Metric,
    family: &Family<L, Histogram>,
) -> fmt::Result {
    let unit = metric.encoded_unit();
    let mut encoder = encode_descriptor(to, metric, unit.as_ref())?;
    let mut rows: Vec<_> = family.read().into_iter().map(|(l, series)| (row(l.as_ref()), series)).collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    for (labels, series) in rows {
        let mut total = HistogramTotal::default();
        series.iter().for_each(|one| one.add_to(&mut total));
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(total.buckets).collect();
        let count = total.buckets.iter().sum();
        encoder.encode_family(&labels)?.encode_histogram::<NoLabels>(
            total.sum_seconds,
            count,
            &buckets,
            None,
        )?;
    }
    Ok(())
}

fn encode_descriptor<'s>(
    to: &'s mut DescriptorEncoder<'_>,
    metric: &Metric,
    unit: Option<&'s prometheus_client::registry::Unit>,
) -> Result<prometheus_client::encoding::MetricEncoder<'s>, fmt::Error> {
    to.encode_descriptor(metric.base_name(), metric.help, unit, metric.metric_type())
}
