//! A worker tells, the hub is asked.

use std::time::Duration;

use http::{HeaderMap, Method};

use super::{
    hub::{TelemetryConfig, TelemetryHub},
    record::tests::full,
    *,
};
use crate::config::snapshot::{Revision, TelemetrySettings};

fn hub() -> TelemetryHub {
    TelemetryHub::start(TelemetryConfig { access_log: LogOutput::None, ..Default::default() }).unwrap()
}

const SETTINGS: TelemetrySettings = TelemetrySettings { sampling: 1.0, access_log: true };

/// The samples of a metric, without its name.
fn samples(hub: &TelemetryHub, name: &str) -> Vec<String> {
    let text = hub.scrape(Format::OpenMetrics);
    let is_of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    text.lines().filter(is_of).map(|line| line[name.len()..].to_owned()).collect()
}

/// The labels are a contract with everybody's dashboards.
const LABELS: &str = concat!(
    r#"{direction="outbound",service="shop/orders",peer_service="shop/orders",route="shop/orders/0",method="POST","#,
    r#"status="503",protocol="http/1.1",peer_region="sao-paulo",tls="mutual",reason="connect_failed"}"#
);

#[test]
fn a_request_counts_under_the_labels_of_the_contract_summed_over_workers() {
    let hub = hub();
    let workers = [hub.worker(), hub.worker()];
    for worker in &workers {
        worker.finish(full(), &SETTINGS);
        worker.finish(full(), &SETTINGS);
    }
    assert_eq!(samples(&hub, "trama_requests_total"), [format!("{LABELS} 4")]);
    assert_eq!(samples(&hub, "trama_request_body_bytes_total"), [format!("{LABELS} 44")]);
    assert_eq!(samples(&hub, "trama_response_body_bytes_total"), [format!("{LABELS} 88")]);
    let few = concat!(
        r#"direction="outbound",service="shop/orders",peer_service="shop/orders",route="shop/orders/0","#,
        r#"status_class="5xx"}"#
    );
    assert_eq!(samples(&hub, "http_client_request_duration_seconds_count"), [format!("{{{few} 4")]);
    let buckets = samples(&hub, "http_client_request_duration_seconds_bucket");
    assert!(buckets.contains(&format!("{{le=\"0.01\",{few} 0")), "{buckets:?}");
    assert!(buckets.contains(&format!("{{le=\"0.025\",{few} 4")) && buckets.len() == 19);
    assert!(samples(&hub, "http_server_request_duration_seconds_count").is_empty());
}

#[test]
fn every_label_tells_requests_apart() {
    let hub = hub();
    let worker = hub.worker();
    let changes: [fn(&mut Record); 10] = [
        |r| r.direction = Direction::Inbound,
        |r| r.service = "shop/other".into(),
        |r| r.peer_service = "shop/other".into(),
        |r| r.route = "shop/orders/1".into(),
        |r| r.method = Some(Method::GET),
        |r| r.status = 504,
        |r| r.protocol = Protocol::Http2,
        |r| r.peer_region = "rio-de-janeiro".into(),
        |r| r.security = Security::Plain,
        |r| r.reason = None,
    ];
    worker.finish(full(), &SETTINGS);
    for change in changes {
        let mut record = full();
        change(&mut record);
        worker.finish(record, &SETTINGS);
    }
    let samples = samples(&hub, "trama_requests_total");
    assert_eq!(samples.len(), 1 + changes.len(), "{samples:#?}");
    assert!(samples.iter().all(|s| s.ends_with("} 1")));
}

#[test]
fn what_a_peer_chooses_freely_makes_no_series() {
    let hub = hub();
    let worker = hub.worker();
    for n in 0..50 {
        let mut record = full();
        record.method = Some(Method::from_bytes(format!("M{n}").as_bytes()).unwrap());
        record.path = Some(format!("/{n}").parse().unwrap());
        record.authority = Some(format!("h{n}.example").parse().unwrap());
        worker.finish(record, &SETTINGS);
    }
    let samples = samples(&hub, "trama_requests_total");
    assert_eq!(samples.len(), 1);
    assert!(samples[0].contains(r#"method="_OTHER""#) && samples[0].ends_with(" 50"));
}

#[test]
fn an_attempt_that_was_followed_by_another_counts_as_an_attempt_only() {
    let hub = hub();
    let worker = hub.worker();
    let mut first = full();
    first.peer_region = "rio-de-janeiro".into();
    worker.retried(first);
    worker.finish(full(), &SETTINGS);
    let attempts = samples(&hub, "trama_attempts_total");
    assert_eq!(attempts.len(), 2);
    assert!(
        attempts.iter().any(|a| a.contains("rio-de-janeiro")) && attempts.iter().all(|a| a.ends_with(" 1"))
    );
    assert_eq!(samples(&hub, "trama_requests_total").len(), 1);
    let mut unsent = full();
    unsent.attempts = 0;
    worker.finish(unsent, &SETTINGS);
    assert!(samples(&hub, "trama_attempts_total").iter().all(|a| a.ends_with(" 1")));
}

#[test]
fn everything_else_that_happens_is_counted() {
    let hub = hub();
    let worker = hub.worker();
    worker.tls_handshake(Peer::Downstream, Ok(()));
    worker.tls_handshake(Peer::Downstream, Err(HandshakeFailure::Expired));
    worker.guard_refused("bare_lf");
    worker.loop_refused(Direction::Inbound);
    worker.external(External::Pending);
    worker.ejected(&"shop/orders".into(), &"sao-paulo".into());
    worker.retry_withheld(&"shop/orders".into(), "budget");
    worker.authz(&"shop/readers".into(), "not_allowed", "would_deny");
    hub.process().ejected([(("shop/orders".into(), "sao-paulo".into()), 2)].into());
    hub.process().policy_update(PolicyUpdate::Refused, Revision { number: 3, digest: 1 });
    let open = worker.connection_opened(Direction::Inbound, Peer::Downstream, Security::Plain);
    drop(worker.connection_opened(Direction::Inbound, Peer::Downstream, Security::Plain));
    for (name, expected) in [
        ("trama_tls_handshakes_total", r#"{peer="downstream",result="failed",reason="expired"} 1"#),
        ("trama_guard_refusals_total", r#"{kind="bare_lf"} 1"#),
        ("trama_loops_refused_total", r#"{direction="inbound"} 1"#),
        ("trama_external_connections_total", r#"{kind="pending"} 1"#),
        ("trama_ejections_total", r#"{service="shop/orders",peer_region="sao-paulo"} 1"#),
        ("trama_endpoints_ejected", r#"{service="shop/orders",peer_region="sao-paulo"} 2.0"#),
        ("trama_retries_withheld_total", r#"{service="shop/orders",kind="budget"} 1"#),
        ("trama_authz_refusals_total", r#"{policy="shop/readers",kind="not_allowed",result="would_deny"} 1"#),
        ("trama_policy_updates_total", r#"{result="refused"} 1"#),
        ("trama_policy_revision", " 3.0"),
        ("trama_connections_opened_total", r#"{direction="inbound",peer="downstream",tls="none"} 2"#),
        ("trama_connections_active", r#"{direction="inbound",peer="downstream",tls="none"} 1.0"#),
    ] {
        let samples = samples(&hub, name);
        assert!(samples.iter().any(|s| s == expected), "{name}: {samples:?}");
    }
    drop(open);
}

#[test]
fn both_formats_say_everything_in_the_catalogue() {
    let hub = hub();
    let (open, classic) = (hub.scrape(Format::OpenMetrics), hub.scrape(Format::Prometheus));
    for metric in CATALOGUE {
        let bare = metric.name.strip_suffix("_total").unwrap_or(metric.name);
        assert!(open.contains(&format!("# TYPE {bare} {}\n", metric.kind)), "{}", metric.name);
        assert!(classic.contains(&format!("# TYPE {} {}\n", metric.name, metric.kind)), "{}", metric.name);
        assert!(classic.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{}", metric.name);
    }
    let types = |text: &str| text.lines().filter(|l| l.starts_with("# TYPE")).count();
    assert_eq!((types(&open), types(&classic)), (CATALOGUE.len(), CATALOGUE.len()));
    assert!(!classic.contains("# EOF") && !classic.contains("# UNIT") && open.ends_with("# EOF\n"));
}

#[test]
fn the_peers_sidecar_has_drawn_already() {
    let worker = hub().worker();
    let trace = |direction, downstream| {
        worker.trace(direction, downstream, &mut HeaderMap::new(), &SETTINGS).is_some()
    };
    assert!(trace(Direction::Outbound, Security::Plain));
    assert!(trace(Direction::Inbound, Security::Plain));
    assert!(!trace(Direction::Inbound, Security::MutualTls));
}

#[test]
fn the_log_says_a_line_per_request_if_policy_wants_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let access_log = LogOutput::File(file.clone());
    let hub = TelemetryHub::start(TelemetryConfig { access_log, ..Default::default() }).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let worker = hub.worker();
    for _ in 0..3 {
        worker.finish(full(), &SETTINGS);
        worker.finish(full(), &TelemetrySettings { access_log: false, ..SETTINGS });
    }
    assert!(runtime.block_on(hub.flush(Duration::from_secs(10))), "the log was not written in time");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 3);
    assert!(text.lines().all(|line| line.starts_with('{') && line.ends_with('}')));
}

#[test]
fn an_output_that_cannot_be_had_is_named() {
    let start = |config| TelemetryHub::start(config).unwrap_err().to_string();
    let access_log = LogOutput::File("/nowhere/access.log".into());
    let error = start(TelemetryConfig { access_log, ..Default::default() });
    assert!(error.contains("/nowhere/access.log"), "{error}");
    for (receiver, problem) in
        [("https://traces:4317", "of its TLS"), ("ftp://traces:4317", "http://host:port")]
    {
        let otlp_endpoint = Some(receiver.to_owned());
        let error =
            start(TelemetryConfig { access_log: LogOutput::None, otlp_endpoint, ..Default::default() });
        assert!(error.contains(receiver) && error.contains(problem), "{error}");
    }
}
