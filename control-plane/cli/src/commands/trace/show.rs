//! `trace show`: one request on its way through all sidecars.

use std::fmt::Write;

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};
use trama_proto::{
    admin::v1::{Attribute, Trace, TraceSpan, attribute, trace_span::Kind},
    span::key,
    spiffe::SpiffeId,
};

use super::{
    date, millis,
    tree::{self, Branch},
};
use crate::{
    about::count,
    arguments::{Global, trace_id},
    client::Client,
    exit::Exit,
    failure::Failure,
    output::{Table, printable},
};

#[derive(Debug, Args)]
pub(super) struct Show {
    /// The trace's id, 32 hexadecimal digits: as `trace list`, `trace_id` in an access log and `traceparent` have it.
    #[arg(value_parser = trace_id)]
    trace: String,
}

impl Show {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let trace = Client::connect(global).await?.trace(self.trace).await?;
        global.output.print(&Shown::of(&trace), Shown::table)?;
        Ok(Exit::Done)
    }
}

/// A trace.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'t> {
    trace: &'t str,
    began: String,
    /// From the begin of the first span to the end of the last, by the sidecars' clocks.
    duration_micros: u64,
    /// Spans that others come from and that are not here.
    absent: Vec<&'t str>,
    /// From top to bottom of the tree.
    spans: Vec<Line<'t>>,
}

/// A span.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'t> {
    id: &'t str,
    parent: &'t str,
    /// In the tree.
    depth: usize,
    /// `client`: an attempt, told by the calling sidecar; `server`: told by the called one.
    kind: &'static str,
    name: &'t str,
    /// Of who wrote it, proved.
    identity: &'t str,
    /// What that sidecar calls its workload.
    workload: &'t str,
    /// Where that sidecar runs.
    region: &'t str,
    /// After the trace.
    after_micros: u64,
    duration_micros: u64,
    service: &'t str,
    route: &'t str,
    /// What was answered; 0: nothing.
    status: i64,
    failed: bool,
    /// The named reason, or the status.
    reason: &'t str,
    /// What happened, in words.
    failure: &'t str,
    /// The attempt's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Placed<'t>>,
    /// All that it says.
    attributes: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<Value>,
    #[serde(skip)]
    before: String,
    #[serde(skip)]
    beneath: String,
}

/// Whom an attempt went to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Placed<'t> {
    region: &'t str,
    /// Why this region.
    why: &'t str,
    /// The regions that it did not go to, each with why.
    passed_over: &'t [String],
    /// The endpoint's address.
    address: String,
    /// Who proved to be there.
    identity: &'t str,
    /// What protected the leg.
    tls: &'t str,
}

impl<'t> Shown<'t> {
    fn of(trace: &'t Trace) -> Self {
        let Trace { id, spans } = trace;
        let start = spans.iter().map(|span| span.start).min().unwrap_or_default();
        let end = spans.iter().map(|span| span.start.saturating_add(span.duration)).max().unwrap_or_default();
        Self {
            trace: id,
            began: date(start),
            duration_micros: (end - start) / 1000,
            absent: tree::absent(spans),
            spans: tree::branches(spans).into_iter().map(|branch| Line::of(branch, start)).collect(),
        }
    }

    fn table(&self) -> String {
        let spans = count(self.spans.len(), "span");
        let took = millis(self.duration_micros * 1000);
        let mut text = format!("trace {}: {spans}, {took}, began {}\n", self.trace, self.began);
        for absent in &self.absent {
            let _ = writeln!(
                text,
                "it goes on from span {absent}, which no sidecar has told of: an application's, or one that has not come"
            );
        }
        let mut table =
            Table::new(&["SPAN", "WORKLOAD", "REGION", "SERVICE", "ROUTE", "AFTER", "TOOK", "ANSWER"]);
        self.spans.iter().for_each(|line| table.row(line.cells()));
        let table = table.text();
        let mut rows = table.lines();
        let _ = writeln!(text, "\n{}", rows.next().unwrap_or_default());
        for (row, line) in rows.zip(&self.spans) {
            let _ = writeln!(text, "{row}");
            for more in line.more() {
                let _ = writeln!(text, "{}{}", line.beneath, printable(&more));
            }
        }
        text
    }
}

impl<'t> Line<'t> {
    /// `start` is when the trace began.
    fn of(Branch { span, depth, before, beneath }: Branch<'t>, start: u64) -> Self {
        let kind = match span.kind() {
            Kind::Client => "client",
            Kind::Server => "server",
            Kind::Unspecified => "span",
        };
        Self {
            id: &span.id,
            parent: &span.parent,
            depth,
            kind,
            name: &span.name,
            identity: &span.identity,
            workload: &span.workload,
            region: &span.region,
            after_micros: (span.start - start) / 1000,
            duration_micros: span.duration / 1000,
            service: span.text(key::SERVICE),
            route: span.text(key::ROUTE),
            status: span.number(key::HTTP_STATUS).unwrap_or_default(),
            failed: span.failed,
            reason: span.text(key::ERROR_TYPE),
            failure: &span.failure,
            attempt: span.number(key::ATTEMPT),
            to: Placed::of(span),
            attributes: all(&span.attributes),
            events: span
                .events
                .iter()
                .map(|it| json!({ "at": date(it.time), "name": it.name, "attributes": all(&it.attributes) }))
                .collect(),
            before,
            beneath,
        }
    }

    fn cells(&self) -> [String; 8] {
        let attempt = self.attempt.map(|number| format!(", attempt {number}")).unwrap_or_default();
        let status = if self.status == 0 { String::new() } else { self.status.to_string() };
        // Of a status that is a failure the reason says the same.
        let answer = match self.reason {
            reason if reason.is_empty() || reason == status => status,
            reason => format!("{status} {reason}").trim_start().to_owned(),
        };
        [
            format!("{}{} {}{attempt}", self.before, self.kind, self.name),
            account(self.identity),
            self.region.to_owned(),
            self.service.to_owned(),
            self.route.to_owned(),
            millis(self.after_micros * 1000),
            millis(self.duration_micros * 1000),
            answer,
        ]
    }

    /// What has no place in the row.
    fn more(&self) -> Vec<String> {
        let to = self.to.as_ref().map(Placed::words);
        let failure = Some(self.failure).filter(|failure| !failure.is_empty() && *failure != self.reason);
        to.into_iter().chain(failure.map(|failure| format!("failed: {failure}"))).collect()
    }
}

impl<'t> Placed<'t> {
    /// `None`: it is no attempt.
    fn of(span: &'t TraceSpan) -> Option<Self> {
        (span.kind() == Kind::Client).then(|| Self {
            region: span.text(key::REGION),
            why: span.text(key::REGION_WHY),
            passed_over: span.texts(key::REGIONS_PASSED_OVER),
            address: span.peer(),
            identity: span.text(key::PEER_IDENTITY),
            tls: span.text(key::TLS),
        })
    }

    fn words(&self) -> String {
        let Self { region, why, passed_over, address, identity, tls } = self;
        let mut words = format!("to {}", if region.is_empty() { "no region" } else { region });
        let reasons = [*why].into_iter().chain(passed_over.iter().map(String::as_str));
        let reasons: Vec<_> = reasons.filter(|reason| !reason.is_empty()).collect();
        if !reasons.is_empty() {
            let _ = write!(words, " ({})", reasons.join("; "));
        }
        if !address.is_empty() {
            let _ = write!(words, ", {address}");
        }
        if !identity.is_empty() {
            let _ = write!(words, " of {}", account(identity));
        }
        if !tls.is_empty() {
            let _ = write!(words, ", TLS: {tls}");
        }
        words
    }
}

/// Namespace and account of a workload; another identity as it is.
fn account(identity: &str) -> String {
    let short = SpiffeId::parse(identity).ok().and_then(|id| {
        let (_, account) = id.as_str().rsplit_once("/sa/")?;
        Some(format!("{}/{account}", id.namespace()?))
    });
    short.unwrap_or_else(|| identity.to_owned())
}

fn all(attributes: &[Attribute]) -> Map<String, Value> {
    let value = |value: &attribute::Value| match value {
        attribute::Value::Text(text) => json!(text),
        attribute::Value::Number(number) => json!(number),
        attribute::Value::Fraction(fraction) => json!(fraction),
        attribute::Value::Flag(flag) => json!(flag),
        attribute::Value::Texts(list) => json!(list.texts),
    };
    let pair = |it: &Attribute| (it.key.clone(), it.value.as_ref().map_or(Value::Null, value));
    attributes.iter().map(pair).collect()
}
