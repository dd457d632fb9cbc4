//! Why the requests of a trace went where they went, for people.

use std::{fmt::Write, time::Duration};

use trama_proto::{
    admin::v1::{ExplainedTrace, PassedOver, RejectedRule, TracedAttempt, TracedRequest, TracedService},
    explain::v1::attempt::Why,
    explanation,
};

use crate::{about::count, output::printable};

/// Where the words of a line begin.
const INDENT: usize = 10;

pub(super) fn table(ExplainedTrace { id, requests }: &ExplainedTrace) -> String {
    let mut text = format!("trace {id}: {}\n", count(requests.len(), "request"));
    for request in requests {
        let _ = writeln!(text, "\n{}", printable(&title(request)));
        for (label, words) in lines(request) {
            let _ = writeln!(text, "{label:INDENT$}{}", printable(&words));
        }
    }
    text
}

fn title(request: &TracedRequest) -> String {
    let TracedRequest { identity, workload, region, service, method, path, duration, .. } = request;
    let what = if method.is_empty() { "TCP".to_owned() } else { format!("{method} {path}") };
    let from = match identity.as_str() {
        "" => "from outside, as far as the spans tell".to_owned(),
        identity => format!("from {}", who(workload, region, identity)),
    };
    format!("{what} for {service}, {from}: {}", short(*duration))
}

fn lines(request: &TracedRequest) -> Vec<(&'static str, String)> {
    let TracedRequest { route, revision, attempts, served, rejected, rejected_left_out, .. } = request;
    let mut lines = vec![("policy", revision.clone())];
    let route = if route.is_empty() { "none: no rule was looked for, or none holds" } else { route };
    lines.push(("route", route.to_owned()));
    lines.extend(rejected.iter().map(|RejectedRule { rule, why }| ("", format!("    - {rule}: {why}"))));
    if *rejected_left_out > 0 {
        lines.push(("", format!("    and {rejected_left_out} more that did not serve it")));
    }
    let mut label = "attempts";
    for attempt in attempts {
        lines.push((label, went(attempt)));
        label = "";
        lines.extend(attempt.passed_over.iter().map(|it| ("", format!("    - {}", passed_over(it)))));
        lines.push(("", format!("    {}", ended(attempt))));
        lines.extend(attempt.served.iter().map(|it| ("", format!("    {}", served_by(it)))));
    }
    lines.extend(served.iter().map(|it| ("inbound", served_by(it))));
    lines
}

fn went(TracedAttempt { number, region, why, endpoint, identity, .. }: &TracedAttempt) -> String {
    let mut text = match endpoint.as_str() {
        "" => format!("{number} to nobody"),
        endpoint => format!("{number} to {endpoint}"),
    };
    if !region.is_empty() {
        let _ = write!(text, " in {region}");
    }
    if !identity.is_empty() {
        let _ = write!(text, ", {identity}");
    }
    match Why::from_str_name(&why.to_uppercase()) {
        Some(why) => text + ": " + explanation::why(why),
        None if why.is_empty() => text,
        None => text + ": " + why,
    }
}

fn passed_over(PassedOver { region, why }: &PassedOver) -> String {
    let why = match why.as_str() {
        "tried" => "all its endpoints were tried by this request",
        "unreachable" => "so many of its endpoints could not be reached that the request leaves it",
        "ejected" => "its endpoints failed too often",
        "on_probation" => "its endpoints are back from having failed, and have their one request",
        "residency" => "the service's residency forbids it",
        "no_ready_endpoint" => "it has no endpoint that is ready",
        other => other,
    };
    format!("{}: {why}", if region.is_empty() { "(no region)" } else { region })
}

fn ended(attempt: &TracedAttempt) -> String {
    let TracedAttempt { duration, status, failed, reason, failure, .. } = attempt;
    let took = short(*duration);
    if !failed {
        return if *status == 0 {
            format!("ended after {took}")
        } else {
            format!("answered {status} after {took}")
        };
    }
    let status = if *status == 0 { String::new() } else { format!(" with {status}") };
    let words = [reason, failure].into_iter().filter(|word| !word.is_empty());
    let mut words: Vec<_> = words.map(String::as_str).collect();
    words.dedup();
    format!("failed{status} after {took}: {}", words.join(": "))
}

fn served_by(
    TracedService { identity, workload, region, duration, status, reason }: &TracedService,
) -> String {
    let mut text = format!("served by {} in {}", who(workload, region, identity), short(*duration));
    if *status != 0 {
        let _ = write!(text, ", {status}");
    }
    if !reason.is_empty() && *reason != status.to_string() {
        let _ = write!(text, ", {reason}");
    }
    text
}

fn who(workload: &str, region: &str, identity: &str) -> String {
    let region = if region.is_empty() { String::new() } else { format!(", {region}") };
    format!("{workload} ({identity}{region})")
}

/// Nanoseconds to read, not to calculate with.
fn short(nanoseconds: u64) -> String {
    explanation::short(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last block of the book's page.
    fn published() -> &'static str {
        let page = include_str!("../../../../../docs/src/explain.md");
        let block = page.split("```text\n").find(|block| block.starts_with("trace "));
        block.unwrap().split("```").next().unwrap()
    }

    fn id(account: &str) -> String {
        format!("spiffe://mesh.example/ns/shop/sa/{account}")
    }

    fn rejected(rule: &str, why: &str) -> RejectedRule {
        RejectedRule { rule: format!("shop/orders/{rule}"), why: why.to_owned() }
    }

    #[test]
    fn the_book_shows_what_is_told() {
        let failed = TracedAttempt {
            number: 1,
            region: "sao-paulo".to_owned(),
            why: "preferred".to_owned(),
            endpoint: "10.1.0.7:8080".to_owned(),
            duration: 1_200_000,
            failed: true,
            reason: "connect_failed".to_owned(),
            failure: "connect_failed".to_owned(),
            ..TracedAttempt::default()
        };
        let served = TracedService {
            identity: id("orders"),
            workload: "orders".to_owned(),
            region: "rio-de-janeiro".to_owned(),
            duration: 1_900_000,
            status: 200,
            reason: String::new(),
        };
        let answered = TracedAttempt {
            number: 2,
            region: "rio-de-janeiro".to_owned(),
            why: "moved".to_owned(),
            passed_over: vec![PassedOver { region: "sao-paulo".to_owned(), why: "tried".to_owned() }],
            endpoint: "10.2.0.8:15008".to_owned(),
            identity: id("orders"),
            duration: 12_600_000,
            status: 200,
            served: Some(served),
            ..TracedAttempt::default()
        };
        let request = TracedRequest {
            identity: id("storefront"),
            workload: "storefront".to_owned(),
            region: "sao-paulo".to_owned(),
            service: "shop/orders".to_owned(),
            route: "shop/orders/v1".to_owned(),
            revision: "12-e6682c7a51d62a50".to_owned(),
            method: "GET".to_owned(),
            path: "/v1/orders/17".to_owned(),
            duration: 14_100_000,
            attempts: vec![failed, answered],
            rejected: vec![
                rejected("canary", "header `x-canary` is not sent"),
                rejected("all", "holds too, but the chosen one has a more specific path"),
            ],
            ..TracedRequest::default()
        };
        let id = "4bf92f3577b34da6a3ce929d0e0e4736".to_owned();
        assert_eq!(table(&ExplainedTrace { id, requests: vec![request] }), published());
    }

    #[test]
    fn rules_that_are_left_out_are_counted() {
        let request = TracedRequest { rejected_left_out: 7, ..TracedRequest::default() };
        let told = table(&ExplainedTrace { id: "1".to_owned(), requests: vec![request] });
        assert!(told.contains("\n              and 7 more that did not serve it\n"), "{told}");
    }

    #[test]
    fn terminals_obey_nobody() {
        let request = TracedRequest {
            path: "/\u{1b}[2J".to_owned(),
            method: "GET".to_owned(),
            ..TracedRequest::default()
        };
        let told = table(&ExplainedTrace { id: "1".to_owned(), requests: vec![request] });
        assert!(told.contains("GET /\\u{1b}[2J for"), "{told}");
    }

    #[test]
    fn a_request_from_outside_is_told_by_who_served_it() {
        let served = TracedService { reason: "503".to_owned(), status: 503, ..TracedService::default() };
        let request = TracedRequest { served: Some(served), ..TracedRequest::default() };
        let told = table(&ExplainedTrace { id: "1".to_owned(), requests: vec![request] });
        assert!(told.contains("from outside") && told.contains("inbound   served by"), "{told}");
        assert!(told.ends_with(", 503\n"), "{told}");
    }
}
