//! `trace list`: the traces that are kept, each in a line.

use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use serde::Serialize;
use trama_proto::admin::v1::{ListTracesRequest, TraceSummary};

use super::{date, millis};
use crate::{
    arguments::{Global, length_of_time},
    client::Client,
    exit::Exit,
    failure::Failure,
    output::{Table, printable},
    reference,
};

/// The most that the control plane gives at one time.
const PAGE: u32 = 1000;
const NONE: &str = "no such trace is kept; the Telemetry's `tracing.samplingPercent` says how many requests are traced, \
                    the control plane's `traces.window` how long they are kept\n";

#[derive(Debug, Args)]
pub(super) struct List {
    /// Requests for this service, NAME or NAMESPACE/NAME. A name without a namespace is in `default`.
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Requests that this rule matched, such as `shop/orders/all`.
    #[arg(long, value_name = "ROUTE")]
    route: Option<String>,
    /// Requests that were served in this region, or tried there.
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Requests that were answered with this HTTP status.
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u32).range(100..=599))]
    status: Option<u32>,
    /// Requests that failed, or of which an attempt did.
    #[arg(long)]
    failed: bool,
    /// Requests that failed for this reason, such as `connect_failed`, or with this status, such as `503`.
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Requests that took so long or longer.
    #[arg(long, value_name = "TIME", value_parser = length_of_time)]
    min_duration: Option<Duration>,
    /// Traces that began at most so long ago, by this machine's clock.
    #[arg(long, value_name = "TIME", value_parser = length_of_time)]
    since: Option<Duration>,
    /// Traces that began more than so long ago.
    #[arg(long, value_name = "TIME", value_parser = length_of_time)]
    until: Option<Duration>,
    /// At most so many.
    #[arg(long, value_name = "NUMBER", default_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Goes on after a list that did not have room for all: with what its last line says.
    #[arg(long, value_name = "TOKEN")]
    page: Option<String>,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    traces: Vec<Line>,
    /// What `--page` takes to go on.
    #[serde(skip_serializing_if = "String::is_empty")]
    next_page: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    trace: String,
    began: String,
    duration_micros: u64,
    /// What its first span is called, such as `GET`.
    name: String,
    service: String,
    route: String,
    /// What the request was answered with; 0: with nothing.
    status: u32,
    failed: bool,
    regions: Vec<String>,
    spans: u32,
    /// Why spans failed, be they of attempts that others followed.
    reasons: Vec<String>,
}

impl List {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let limit = self.limit as usize;
        let mut request = self.request(UNIX_EPOCH.elapsed().unwrap_or_default())?;
        let client = Client::connect(global).await?;
        let mut listed = Listed::default();
        loop {
            let page = client.traces(request.clone()).await?;
            listed.traces.extend(page.traces.into_iter().map(Line::of));
            listed.next_page = page.next_page_token;
            let room = limit.saturating_sub(listed.traces.len());
            if room == 0 || listed.next_page.is_empty() {
                break;
            }
            request.page_token.clone_from(&listed.next_page);
            request.page_size = page_size(room);
        }
        global.output.print(&listed, Listed::table)?;
        Ok(Exit::Done)
    }

    /// `now` is the time since 1970.
    fn request(self, now: Duration) -> Result<ListTracesRequest, Failure> {
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since <= until
        {
            let problem = format!("nothing began at most {since:?} and more than {until:?} ago");
            return Err(Failure::Usage(format!("{problem}; give --since a longer time than --until")));
        }
        let service = self.service.map(|service| reference::resource("Service", None, &service));
        let service = service.transpose()?.map(|id| format!("{}/{}", id.namespace, id.name));
        let ago = |time: Duration| nanos(now.saturating_sub(time));
        Ok(ListTracesRequest {
            service: service.unwrap_or_default(),
            route: self.route.unwrap_or_default(),
            region: self.region.unwrap_or_default(),
            status: self.status.unwrap_or_default(),
            failed: self.failed,
            reason: self.reason.unwrap_or_default(),
            min_duration: self.min_duration.map(nanos).unwrap_or_default(),
            after: self.since.map(ago).unwrap_or_default(),
            before: self.until.map(ago).unwrap_or_default(),
            page_size: page_size(self.limit as usize),
            page_token: self.page.unwrap_or_default(),
        })
    }
}

fn page_size(room: usize) -> u32 {
    u32::try_from(room).map_or(PAGE, |room| room.min(PAGE))
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}

impl Line {
    fn of(summary: TraceSummary) -> Self {
        let TraceSummary { id, start, duration, name, service, route, status, failed, .. } = summary;
        let TraceSummary { reasons, regions, spans, .. } = summary;
        let (began, duration_micros) = (date(start), duration / 1000);
        Self {
            trace: id,
            began,
            duration_micros,
            name,
            service,
            route,
            status,
            failed,
            regions,
            spans,
            reasons,
        }
    }
}

impl Listed {
    fn table(&self) -> String {
        if self.traces.is_empty() {
            return NONE.to_owned();
        }
        let mut table = Table::new(&[
            "TRACE", "BEGAN", "TOOK", "REQUEST", "SERVICE", "ROUTE", "STATUS", "REGIONS", "SPANS", "FAILURES",
        ]);
        for it in &self.traces {
            let status = if it.status == 0 { "-".to_owned() } else { it.status.to_string() };
            let [trace, began, name, service, route] =
                [&it.trace, &it.began, &it.name, &it.service, &it.route].map(Clone::clone);
            let took = millis(it.duration_micros * 1000);
            let (regions, reasons) = (it.regions.join(", "), it.reasons.join(", "));
            table.row([
                trace,
                began,
                took,
                name,
                service,
                route,
                status,
                regions,
                it.spans.to_string(),
                reasons,
            ]);
        }
        let more = match &*self.next_page {
            "" => String::new(),
            token => printable(&format!("there are more: --page {token}")) + "\n",
        };
        table.text() + &more
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        list: List,
    }

    fn typed(line: &str) -> Result<List, clap::Error> {
        Typed::try_parse_from(["list"].into_iter().chain(line.split_whitespace())).map(|typed| typed.list)
    }

    fn request(line: &str) -> Result<ListTracesRequest, Failure> {
        typed(line).unwrap().request(Duration::from_secs(1000))
    }

    #[test]
    fn every_condition_is_asked_for() {
        let all = ListTracesRequest { page_size: 100, ..ListTracesRequest::default() };
        assert_eq!(request("").unwrap(), all);
        let asked = "--service shop/orders --route shop/orders/all --region rio --status 503 --failed --reason 503 \
                     --min-duration 5ms --since 10m --until 1m --limit 5000 --page 1-2";
        let expected = ListTracesRequest {
            service: "shop/orders".to_owned(),
            route: "shop/orders/all".to_owned(),
            region: "rio".to_owned(),
            status: 503,
            failed: true,
            reason: "503".to_owned(),
            min_duration: 5_000_000,
            after: 400_000_000_000,
            before: 940_000_000_000,
            page_size: 1000,
            page_token: "1-2".to_owned(),
        };
        assert_eq!(request(asked).unwrap(), expected);
        assert_eq!(request("--service orders").unwrap().service, "default/orders");
        assert_eq!(request("--since 2h").unwrap().after, 0);
    }

    #[test]
    fn what_can_find_nothing_is_not_asked_for() {
        for (line, remedy) in
            [("--since 1m --until 1m", "a longer time"), ("--service a/b/c", "NAMESPACE/NAME")]
        {
            let failure = request(line).unwrap_err();
            assert_eq!(failure.exit(), Exit::Usage);
            assert!(failure.to_string().contains(remedy), "{failure}");
        }
        for line in ["--status 99", "--limit 0", "--min-duration 5"] {
            assert!(typed(line).is_err(), "{line}");
        }
    }
}
