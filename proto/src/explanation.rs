//! An explanation as people read it: one line for each decision, in the order in which they are made.

use std::{
    fmt::{self, Display, Formatter, Write},
    time::Duration,
};

use crate::{
    Problem, duration,
    explain::v1::{
        Attempt, Authorization, Backend, ConsideredMatch, ConsideredPolicy, DescribedRequest, Destination,
        Endpoint, Explanation, Filter, Knowledge, Outcome, Region, Retries, Routing, Timeouts, Transport,
        attempt::Why, considered_policy::Action, endpoint::Standing, knowledge, outcome, region::Verdict,
        transport,
    },
};

/// Where the words of a line begin.
const INDENT: usize = 12;

/// Reads a described request's JSON form. `source` says in errors where it comes from.
pub fn read(source: &str, json: &[u8]) -> Result<DescribedRequest, Box<Problem>> {
    let mut json = serde_json::Deserializer::from_slice(json);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        let remedy = "write a JSON object with the fields of a DescribedRequest, such as \
                      {\"url\": \"http://orders.shop/v1\"}";
        let problem = Problem::of_source(source, error.into_inner().to_string(), remedy);
        Box::new(Problem { field: if field == "." { String::new() } else { field }, ..problem })
    })
}

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.request)?;
        if let Some(knowledge) = &self.knowledge {
            writeln!(f, "{}", known(knowledge))?;
        }
        if let Some(outcome) = &self.outcome {
            writeln!(f, "\n=> {}\n", ended(outcome))?;
        }
        list(f, "assumed", self.knowledge.iter().flat_map(|it| &it.assumed), String::clone)?;
        if let Some(destination) = &self.destination {
            line(f, "service", &meant(destination))?;
        }
        if let Some(authorization) = &self.authorization {
            policies(f, authorization)?;
        }
        filters(f, &self.service_filters)?;
        if let Some(routing) = &self.routing {
            routes(f, routing)?;
        }
        filters(f, &self.rule_filters)?;
        list(f, "backends", &self.backends, backend)?;
        regions(f, &self.regions)?;
        if let Some(transport) = &self.transport {
            line(f, "transport", &way(transport))?;
        }
        if let Some(timeouts) = &self.timeouts {
            line(f, "time-outs", &limits(timeouts))?;
        }
        if let Some(retries) = &self.retries {
            line(f, "retries", &again(retries))?;
        }
        attempts(f, self)
    }
}

/// A line with a label; without one it goes on with what is above it.
fn line(f: &mut Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    writeln!(f, "{label:INDENT$}{text}")
}

fn list<'t, T: 't>(
    f: &mut Formatter<'_>,
    label: &str,
    items: impl IntoIterator<Item = &'t T>,
    words: impl Fn(&T) -> String,
) -> fmt::Result {
    let labels = [label].into_iter().chain(std::iter::repeat(""));
    labels.zip(items).try_for_each(|(label, item)| line(f, label, &words(item)))
}

fn known(knowledge: &Knowledge) -> String {
    let Knowledge { revision, origin, draw, workers, .. } = knowledge;
    let endpoints = match (knowledge.source(), knowledge.worker) {
        (knowledge::Source::Policy, _) => "by policy alone: nothing is known of endpoints".to_owned(),
        (_, None) => "ejections as they are; no latency is known".to_owned(),
        (_, Some(worker)) => {
            format!("ejections as they are, latencies as worker {worker} of {workers} knows them")
        }
    };
    format!("policy {revision} ({origin}); {endpoints}; draw {draw}")
}

fn ended(outcome: &Outcome) -> String {
    let Outcome { status, reason, detail, location, .. } = outcome;
    let what = match outcome.result() {
        outcome::Result::Forwarded => "forwarded",
        outcome::Result::Answered => "answered by the sidecar",
        outcome::Result::Refused => "refused",
        outcome::Result::PassedThrough => "passed through",
        outcome::Result::Undecided => "not known yet",
        outcome::Result::Unspecified => "?",
    };
    let mut text = what.to_owned();
    match (status, reason.as_str()) {
        (0, "") => {}
        (0, reason) => text += &format!(": {reason}"),
        (status, "") => text += &format!(" with {status}"),
        (status, reason) => text += &format!(" with {status} {reason}"),
    }
    if !detail.is_empty() {
        text += &format!(": {detail}");
    }
    if !location.is_empty() {
        text += &format!(", location {location}");
    }
    text
}

fn meant(destination: &Destination) -> String {
    let Destination { service, port, endpoint, protocol, by, .. } = destination;
    let mut text = String::new();
    if !endpoint.is_empty() {
        text += &format!("the endpoint {endpoint} itself");
    }
    if !service.is_empty() {
        text += if text.is_empty() { "" } else { " of " };
        text += &format!("{service}, port {port}");
    }
    if text.is_empty() {
        text += "none that policy knows";
    } else {
        text += &format!(" ({protocol})");
    }
    format!("{text}: {by}")
}

fn filters(f: &mut Formatter<'_>, filters: &[Filter]) -> fmt::Result {
    list(f, "filters", filters, |filter| format!("{}: {}", filter.name, filter.does))
}

fn policies(
    f: &mut Formatter<'_>,
    Authorization { policies, why, would_deny }: &Authorization,
) -> fmt::Result {
    line(f, "caller", why)?;
    if !would_deny.is_empty() {
        line(f, "", &format!("if all policies were enforced it would be {would_deny}"))?;
    }
    list(f, "policies", policies, |ConsideredPolicy { name, enforced, matches, decides, why, action }| {
        let mark = match (decides, matches) {
            (true, _) => '*',
            (false, true) => '+',
            (false, false) => '-',
        };
        let action = Action::try_from(*action).map_or("?", |action| action.as_str_name());
        let audit = if *enforced { "" } else { ", in AUDIT" };
        format!("{mark} {name} ({action}{audit}): {why}")
    })
}

fn routes(f: &mut Formatter<'_>, routing: &Routing) -> fmt::Result {
    line(f, "routes", "in the order of precedence; * decides")?;
    for considered in &routing.matches {
        line(f, "", &condition(considered))?;
        for unmet in &considered.unmet {
            line(f, "", &format!("      {}", unmet.why))?;
        }
        if !considered.outranked.is_empty() {
            line(f, "", &format!("      holds too, but {}", considered.outranked))?;
        }
    }
    if routing.left_out > 0 {
        line(f, "", &format!("  and {} more that do not hold either", routing.left_out))?;
    }
    if !routing.new_host.is_empty() {
        line(f, "rewrite", &format!("the authority becomes {}", routing.new_host))?;
    }
    if !routing.new_path.is_empty() {
        line(f, "rewrite", &format!("the path becomes {}", routing.new_path))?;
    }
    Ok(())
}

fn condition(considered: &ConsideredMatch) -> String {
    let ConsideredMatch { rule, host, path, method, headers, query, unmet, chosen, .. } = considered;
    let mark = match (chosen, unmet.is_empty()) {
        (true, _) => '*',
        (false, true) => '+',
        (false, false) => '-',
    };
    let mut text = format!("{mark} {rule}: host {host}, path {path}");
    if !method.is_empty() {
        text += &format!(", method {method}");
    }
    for (kind, names) in [("header", headers), ("query", query)] {
        names.iter().for_each(|name| text += &format!(", {kind} {name}"));
    }
    text
}

fn backend(backend: &Backend) -> String {
    let Backend { service, port, weight, share, chosen } = backend;
    let mark = if *chosen { '*' } else { '-' };
    format!("{mark} {service}, port {port}: weight {weight}, {:.1} %", share * 100.0)
}

fn regions(f: &mut Formatter<'_>, regions: &[Region]) -> fmt::Result {
    let mut label = "regions";
    for region in regions {
        let (mark, verb) = match region.verdict() {
            Verdict::Chosen => ('*', "chosen"),
            Verdict::NotNeeded => ('+', "not needed"),
            _ => ('-', "skipped"),
        };
        line(f, label, &format!("{mark} {}: {verb}: {}", named(&region.name), region.why))?;
        label = "";
        region
            .endpoints
            .iter()
            .try_for_each(|endpoint| line(f, "", &format!("      {}", standing(endpoint))))?;
        if region.left_out > 0 {
            line(f, "", &format!("      and {} more", region.left_out))?;
        }
    }
    Ok(())
}

fn named(region: &str) -> &str {
    if region.is_empty() { "(no region)" } else { region }
}

fn standing(endpoint: &Endpoint) -> String {
    let Endpoint { address, zone, weight, present_weight, outstanding, decision, .. } = endpoint;
    let mut text = address.clone();
    if !zone.is_empty() {
        text += &format!(" in {zone}");
    }
    text += &match endpoint.standing() {
        Standing::Ejected => {
            format!(
                ": ejected for another {}",
                short(endpoint.ejected_for.as_ref().map(duration::of).unwrap_or_default())
            )
        }
        Standing::OnProbation => ": on probation".to_owned(),
        Standing::Good | Standing::Unspecified => ": good".to_owned(),
    };
    if endpoint.consecutive_failures > 0 {
        text += &format!(", {} failures in a row", endpoint.consecutive_failures);
    }
    text += &format!(", weight {weight}");
    // Told only where slow start holds it back.
    if present_weight + 0.005 < f64::from(*weight) {
        text += &format!(" (now {present_weight:.2})");
    }
    match &endpoint.latency {
        Some(latency) => text += &format!(", latency {}", short(duration::of(latency))),
        None => text += ", latency unknown",
    }
    text += &format!(", {outstanding} outstanding");
    if !decision.is_empty() {
        text += &format!("; {decision}");
    }
    text
}

fn way(transport: &Transport) -> String {
    let Transport { address, protocol, server_name, identity, names, upstream_tls, .. } = transport;
    match transport.kind() {
        transport::Kind::Mesh => {
            format!(
                "mutual TLS to the sidecar at {address}, {protocol}; it must be {identity}; SNI {server_name}"
            )
        }
        transport::Kind::Tls => {
            let files = if upstream_tls.is_empty() {
                "the system's authorities".to_owned()
            } else {
                format!("upstreamTls `{upstream_tls}`")
            };
            let names = names.join(" or ");
            format!(
                "TLS to {address}, {protocol}; its certificate must name {names} ({files}); SNI {server_name}"
            )
        }
        transport::Kind::Plain | transport::Kind::Unspecified => format!("plain {protocol} to {address}"),
    }
}

fn limits(timeouts: &Timeouts) -> String {
    let written = |length: Option<&pbjson_types::Duration>| {
        length.map_or_else(|| "none".to_owned(), |length| short(duration::of(length)))
    };
    format!(
        "the whole request {}, each attempt {}",
        written(timeouts.request.as_ref()),
        written(timeouts.backend_request.as_ref())
    )
}

fn again(retries: &Retries) -> String {
    let Retries { attempts, codes, budget, requests, max_requests, max_retries, .. } = retries;
    if *attempts == 0 {
        return "none".to_owned();
    }
    let reached = if retries.idempotent {
        "even if the application may have seen it"
    } else {
        "only what no application can have seen"
    };
    let mut text = format!("at most {attempts}, {reached}");
    if retries.idempotent && !codes.is_empty() {
        let codes: Vec<_> = codes.iter().map(ToString::to_string).collect();
        let _ = write!(text, ", also after {}", codes.join(", "));
    }
    let backoff = short(retries.backoff.as_ref().map(duration::of).unwrap_or_default());
    let under_way = retries.retries;
    let _ = write!(
        text,
        "; back-off in the same region from {backoff}; the budget has {budget} left; {under_way} of {max_retries} \
         retries and {requests} of {max_requests} requests are under way"
    );
    text
}

fn attempts(f: &mut Formatter<'_>, explanation: &Explanation) -> fmt::Result {
    if explanation.attempts.is_empty() {
        return Ok(());
    }
    line(f, "attempts", "if no endpoint could be reached")?;
    for (number, attempt) in (1..).zip(&explanation.attempts) {
        line(f, "", &format!("{number} {}", tried(attempt)))?;
    }
    match explanation.retries.as_ref().map(|retries| retries.end.as_str()) {
        None | Some("") => Ok(()),
        Some(end) => line(f, "", &format!("then it ends: {end}")),
    }
}

fn tried(attempt: &Attempt) -> String {
    let Attempt { endpoint, region, rival, cost, rival_cost, .. } = attempt;
    let mut text = format!("{endpoint} in {}: {}", named(region), why(attempt.why()));
    if !rival.is_empty() {
        let _ = write!(text, "; costs {cost:.4}, and {rival} {rival_cost:.4}");
    }
    match attempt.after.as_ref().map(duration::of) {
        None | Some(Duration::ZERO) => text,
        Some(after) => text + &format!("; {} after the one before", short(after)),
    }
}

/// Why an attempt goes to its region.
pub fn why(why: Why) -> &'static str {
    match why {
        Why::Preferred => "the first region in the order",
        Why::Failover => "no region before it has an endpoint to use",
        Why::Moved => "an attempt failed in a region before it",
        Why::Again => "everything that may be used was tried: again",
        Why::Panic => "everything is ejected: any is better than none",
        Why::Meant => "it was meant itself",
        Why::Unspecified => "?",
    }
}

/// A length of time to read, not to calculate with.
pub fn short(length: Duration) -> String {
    let seconds = length.as_secs_f64();
    if seconds < 0.001 {
        format!("{:.0} us", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{seconds:.1} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_read_by_field() {
        let read = |json: &str| read("the body", json.as_bytes());
        let described =
            read(r#"{"url": "/v1", "headers": [{"name": "x-a", "value": "1"}], "draw": 7}"#).unwrap();
        assert_eq!((&*described.url, &*described.headers[0].name, described.draw), ("/v1", "x-a", Some(7)));
        for (json, field) in
            [("[]", ""), (r#"{"url": 1}"#, "url"), (r#"{"headers": [{"nam": ""}]}"#, "headers[0]")]
        {
            let problem = read(json).unwrap_err();
            assert!(problem.field.starts_with(field) && problem.remedy.contains("JSON object"), "{problem}");
        }
    }

    #[test]
    fn lengths_of_time_are_short() {
        for (length, wanted) in [(7_200, "7.2 s"), (14, "14.0 ms")] {
            assert_eq!(short(Duration::from_millis(length)), wanted);
        }
        assert_eq!(short(Duration::from_micros(80)), "80 us");
    }

    #[test]
    fn what_is_left_out_leaves_no_line() {
        let outcome = Outcome { result: outcome::Result::Refused.into(), status: 404, ..Outcome::default() };
        let explanation =
            Explanation { request: "GET /".to_owned(), outcome: Some(outcome), ..Explanation::default() };
        assert_eq!(explanation.to_string(), "GET /\n\n=> refused with 404\n\n");
    }
}
