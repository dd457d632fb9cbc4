//! The three ports as a client meets them.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use super::*;
use crate::{
    config::snapshot::{
        AppProtocol, Backend, Cluster, Destination, DestinationIndex, Endpoint, Match, MeshSettings, Origin,
        PathMatch, RegionGroup, Revision, RouteTable, Rule, RuleAction, ServiceName, ServicePort,
        SkippedRegion, TelemetrySettings, Transport,
        state::{EndpointHealth, EndpointId},
    },
    telemetry::{Direction, LogOutput, Peer, Security, TelemetryConfig},
};

#[derive(Default)]
struct Fake {
    started: AtomicBool,
    drained: Mutex<Option<Drain>>,
    /// Whoever wants the policy waits for it.
    held: Mutex<()>,
    wanted: AtomicBool,
}

impl State for Fake {
    fn configuration(&self) -> serde_json::Value {
        serde_json::json!({ "node": { "region": "sao-paulo" } })
    }
    fn snapshot(&self) -> Arc<Snapshot> {
        self.wanted.store(true, Ordering::Relaxed);
        drop(self.held.lock().unwrap());
        Arc::new(snapshot())
    }
    fn now(&self) -> Duration {
        Duration::from_secs(5)
    }
    fn service(&self) -> Arc<str> {
        "shop/orders".into()
    }
    fn identity(&self) -> Option<SpiffeId> {
        SpiffeId::parse("spiffe://mesh.local/ns/shop/sa/orders").ok()
    }
    fn gate(&self) -> Option<Arc<Gate>> {
        Some(Arc::new(Gate { own_ports: vec![15008], ..Gate::default() }))
    }
    fn workers(&self) -> u32 {
        1
    }
    fn loads(&self, _: u32) -> Looking {
        Box::pin(async { Some(Loads::default()) })
    }
    fn is_started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }
    fn draining(&self) -> Option<Drain> {
        *self.drained.lock().unwrap()
    }
    fn drain(&self, what: Drain) {
        *self.drained.lock().unwrap() = Some(what);
    }
}

fn endpoint(last: u8, ejected_until: Duration) -> Arc<Endpoint> {
    let health = EndpointHealth {
        id: EndpointId(u64::from(last)),
        ejected_until: AtomicU64::new(ejected_until.as_micros() as u64),
        consecutive_failures: AtomicU32::new(3),
        ejections: AtomicU32::new(0),
    };
    Arc::new(Endpoint {
        address: SocketAddr::from(([10, 0, 0, last], 8080)),
        region: "sao-paulo".into(),
        zone: "a".into(),
        weight: 1,
        transport: Transport::Plain,
        protocol: AppProtocol::Auto,
        health: Arc::new(health),
    })
}

fn snapshot() -> Snapshot {
    let service = ServiceName::new("orders", "shop");
    let endpoints = vec![endpoint(1, Duration::from_secs(4)), endpoint(2, Duration::from_secs(6))];
    let cluster = Arc::new(Cluster {
        service: service.clone(),
        port: 80,
        protocol: AppProtocol::Auto,
        regions: vec![RegionGroup { region: "sao-paulo".into(), endpoints, max_weight: 1 }],
        skipped: vec![SkippedRegion { region: "frankfurt".into(), why: "residency" }],
        circuit: Default::default(),
        outlier: Default::default(),
        retry_budget: Default::default(),
        state: Arc::default(),
    });
    let rule = Rule {
        name: "shop/orders/0".into(),
        rewrite: None,
        filters: None,
        action: RuleAction::Forward(vec![Backend { weight: 1, cluster: Arc::clone(&cluster) }]),
        timeouts: Default::default(),
        retry: Default::default(),
    };
    let mut routes = RouteTable::default();
    let path = PathMatch::Prefix("/v1".into());
    let condition = Match { path, method: None, headers: Vec::new(), query: Vec::new() };
    routes.insert(Some("orders.shop"), condition, Arc::new(rule));
    let label = Arc::clone(&service.label);
    let port = ServicePort {
        service,
        port: 80,
        protocol: AppProtocol::Auto,
        whole: true,
        filters: None,
        routes,
        cluster,
    };
    let mut destinations = DestinationIndex::default();
    destinations.by_name.insert((label, 80), Arc::new(port));
    assert!(matches!(destinations.of_authority("x", None), Destination::External));
    Snapshot {
        revision: Revision { number: 7, digest: 0xab },
        origin: Origin::LastGood,
        destinations,
        mesh: MeshSettings::default(),
        telemetry: TelemetrySettings::default(),
        ..Snapshot::default()
    }
}

/// A served sidecar; its runtime runs on a thread of its own until the process ends.
struct Served {
    admin: SocketAddr,
    metrics: SocketAddr,
    health: SocketAddr,
    fake: Arc<Fake>,
    hub: TelemetryHub,
}

fn served() -> Served {
    let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
    let sockets = Sockets { admin: bind(), metrics: bind(), health: bind() };
    let [admin, metrics, health] =
        [&sockets.admin, &sockets.metrics, &sockets.health].map(|s| s.local_addr().unwrap());
    let config = TelemetryConfig { access_log: LogOutput::None, ..Default::default() };
    let hub = TelemetryHub::start(config).unwrap();
    let fake = Arc::new(Fake::default());
    let (state, telemetry) = (Arc::clone(&fake), hub.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            serve(sockets, state, telemetry).unwrap();
            std::future::pending::<()>().await;
        });
    });
    Served { admin, metrics, health, fake, hub }
}

/// Status line and body.
fn ask(to: SocketAddr, request: &str, headers: &str) -> (u16, String) {
    let (head, body) = exchange(to, &format!("{request} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n"));
    (head[9..12].parse().unwrap(), body)
}

/// Head and body of what is answered to these bytes.
fn exchange(to: SocketAddr, asked: &str) -> (String, String) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // A body that is too large may be refused before all of it is sent.
    stream.write_all(asked.as_bytes()).ok();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

const LOCAL: &str = "host: localhost:15000\r\n";

#[test]
fn a_method_that_a_path_does_not_have_is_answered_with_those_that_it_has() {
    let served = served();
    let refused = |to: SocketAddr, request: &str| {
        let (head, body) = exchange(to, &format!("{request} HTTP/1.1\r\nconnection: close\r\n{LOCAL}\r\n"));
        assert!(head.starts_with("HTTP/1.1 405 "), "{request}: {head}");
        let allow = head.lines().find_map(|line| line.strip_prefix("allow: ")).unwrap_or_default();
        assert_eq!(body, format!("this path takes {allow} only\n"), "{request}");
        allow.to_owned()
    };
    for path in ["/config", "/policy", "/revision", "/connections"] {
        assert_eq!(refused(served.admin, &format!("DELETE {path}")), "GET, HEAD", "{path}");
    }
    for path in ["/explain", "/drain"] {
        assert_eq!(refused(served.admin, &format!("GET {path}")), "POST", "{path}");
    }
    assert_eq!(refused(served.admin, "POST /log"), "GET, HEAD, PUT");
    assert_eq!(refused(served.metrics, "POST /metrics"), "GET, HEAD");
    for path in ["/startupz", "/readyz", "/livez"] {
        assert_eq!(refused(served.health, &format!("PUT {path}")), "GET, HEAD", "{path}");
    }
}

#[test]
fn operators_read_policy_revision_and_configuration() {
    let served = served();
    assert_eq!(ask(served.admin, "GET /revision", LOCAL), (200, "7-00000000000000ab\n".to_owned()));
    let (status, body) = ask(served.admin, "GET /policy", LOCAL);
    let policy: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &policy["revision"]), (200, &"7-00000000000000ab".into()));
    assert_eq!(policy["origin"], "last_good");
    let service = &policy["services"][0];
    assert_eq!(service["service"], "shop/orders");
    assert_eq!(service["skipped"][0]["why"], "residency");
    assert_eq!(service["routes"][0]["rule"], "shop/orders/0");
    assert_eq!(service["routes"][0]["path"], "/v1/*");
    assert_eq!(service["routes"][0]["backends"][0]["service"], "shop/orders");
    let endpoints = &service["regions"][0]["endpoints"];
    assert_eq!((&endpoints[0]["ejected"], &endpoints[1]["ejected"]), (&false.into(), &true.into()));
    assert_eq!((&endpoints[0].get("ejectedFor"), &endpoints[1]["ejectedFor"]), (&None, &"1s".into()));
    // In the policy's own words.
    assert_eq!((&endpoints[1]["consecutiveFailures"], &service["appProtocol"]), (&3.into(), &"AUTO".into()));
    assert_eq!(
        (&service["circuitLimits"]["maxPending"], &service["circuitLimits"]["maxRetries"]),
        (&1024.into(), &1024.into())
    );
    assert_eq!(service["outlier"]["baseEjection"], "10s");
    assert_eq!(service["outlier"]["maxEjectionPercent"], 50);
    assert_eq!(service["retryBudget"]["percent"], 20);
    assert_eq!((&policy["samplingPercent"], &policy["accessLog"]), (&0.0.into(), &"ALL".into()));
    assert_eq!(policy["unknownDestination"], "PASS_THROUGH");
    assert!(ask(served.admin, "GET /config", LOCAL).1.contains("sao-paulo"));
    assert_eq!(ask(served.admin, "GET /nothing", LOCAL).0, 404);
}

#[test]
fn a_part_of_the_policy_is_that_of_one_service() {
    let served = served();
    let (status, body) = ask(served.admin, "GET /policy?service=shop/orders", LOCAL);
    let policy: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &policy["services"][0]["service"]), (200, &"shop/orders".into()));
    for (query, problem) in [
        (
            "service=shop/ordres",
            "no service of the policy in force, got \"shop/ordres\"; did you mean `shop/orders`?",
        ),
        ("service=a//b", "no name of a service, got \"a//b\"; write it as `namespace/name`"),
        ("service=", "no part of the policy, got \"service=\"; write `service=namespace/name`"),
        ("x=1", "no part of the policy, got \"x=1\"; write `service=namespace/name`"),
    ] {
        let (status, body) = ask(served.admin, &format!("GET /policy?{query}"), LOCAL);
        assert_eq!((status, body), (400, format!("the question: service: {problem}\n")));
    }
}

#[test]
fn others_are_answered_while_the_policy_is_written() {
    let served = served();
    let held = served.fake.held.lock().unwrap();
    let admin = served.admin;
    let writing = std::thread::spawn(move || ask(admin, "GET /policy", LOCAL).0);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !served.fake.wanted.load(Ordering::Relaxed) {
        assert!(std::time::Instant::now() < deadline, "nobody asks for the policy");
        std::thread::yield_now();
    }
    assert_eq!(ask(served.admin, "GET /config", LOCAL).0, 200);
    drop(held);
    assert_eq!(writing.join().unwrap(), 200);
}

/// Status line and body of what is answered to a body.
fn post(to: SocketAddr, path: &str, body: &str) -> (u16, String) {
    let head =
        format!("POST {path} HTTP/1.1\r\nconnection: close\r\n{LOCAL}content-length: {}\r\n\r\n", body.len());
    let (head, answer) = exchange(to, &(head + body));
    (head[9..12].parse().unwrap(), answer)
}

#[test]
fn operators_hear_why_a_request_goes_where_it_goes() {
    let served = served();
    let asked = r#"{"url": "http://orders.shop/v1/x", "listener": "shop/orders:80", "draw": "1"}"#;
    let (status, json) = post(served.admin, "/explain", asked);
    let told: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((status, &told["outcome"]["result"]), (200, &"FORWARDED".into()), "{json}");
    assert_eq!(told["routing"]["rule"], "shop/orders/0");
    // By the sidecar's clock: it is 5 s.
    let endpoints = &told["regions"][0]["endpoints"];
    assert_eq!((&endpoints[0]["standing"], &endpoints[1]["standing"]), (&"GOOD".into(), &"EJECTED".into()));
    assert_eq!(endpoints[1]["ejectedFor"], "1s");
    let (_, text) = post(served.admin, "/explain?text", asked);
    assert!(text.contains("=> forwarded: to 10.0.0.1:8080 in sao-paulo"), "{text}");
    assert_eq!(ask(served.admin, "GET /explain", LOCAL).0, 405);
}

#[test]
fn what_is_no_description_is_refused_by_field_value_and_remedy() {
    let served = served();
    for (body, wanted) in [
        ("", "the body: EOF"),
        ("{", "write a JSON object"),
        (r#"{"urll": "/"}"#, "unknown field `urll`"),
        (r#"{"headers": [{"name": 7}]}"#, "headers[0].name: invalid type"),
        (r#"{"url": "orders"}"#, "url: no http URL, got \"orders\"; write one such as"),
        (
            r#"{"url": "http://orders.shop/", "worker": 1}"#,
            "worker: no worker has this number, got 1; there are 1",
        ),
    ] {
        let (status, said) = post(served.admin, "/explain", body);
        assert!(status == 400 && said.contains(wanted), "{body}: {status} {said}");
    }
    let (status, said) = post(served.admin, "/explain", &" ".repeat(64 * 1024 + 1));
    assert!(status == 413 && said.contains("65536"), "{status} {said}");
}

#[test]
fn operators_see_connections_come_and_go() {
    let served = served();
    let worker = served.hub.worker();
    let open = worker.connection_opened(Direction::Inbound, Peer::Downstream, Security::MutualTls);
    let active = || {
        let (_, body) = ask(served.admin, "GET /connections", LOCAL);
        let rows: serde_json::Value = serde_json::from_str(&body).unwrap();
        (rows[0]["opened"].as_u64().unwrap(), rows[0]["active"].as_u64().unwrap())
    };
    assert_eq!(active(), (1, 1));
    drop(open);
    assert_eq!(active(), (1, 0));
}

#[test]
fn a_drain_is_told_by_post_and_ends_readiness_only() {
    let served = served();
    served.fake.started.store(true, Ordering::Relaxed);
    assert_eq!(ask(served.admin, "GET /drain", LOCAL).0, 405);
    assert_eq!(ask(served.health, "GET /readyz", "host: 10.0.0.1\r\n").0, 200);
    assert_eq!(ask(served.admin, "POST /drain?inbound", LOCAL).0, 202);
    assert_eq!(*served.fake.drained.lock().unwrap(), Some(Drain::Inbound));
    let (status, why) = ask(served.health, "GET /readyz", "host: 10.0.0.1\r\n");
    assert_eq!((status, why.as_str()), (503, "draining\n"));
    assert_eq!(ask(served.health, "GET /startupz", "host: x\r\n").0, 200);
    assert_eq!(ask(served.health, "GET /livez", "host: x\r\n").0, 200);
    assert_eq!(ask(served.admin, "POST /drain", LOCAL).0, 202);
    assert_eq!(*served.fake.drained.lock().unwrap(), Some(Drain::All));
}

#[test]
fn nobody_is_started_before_the_listeners_are_open() {
    let served = served();
    assert_eq!(ask(served.health, "GET /startupz", "host: x\r\n").0, 503);
    assert_eq!(ask(served.health, "GET /readyz", "host: x\r\n").0, 503);
    assert_eq!(ask(served.health, "GET /livez", "host: x\r\n").0, 200);
    served.fake.started.store(true, Ordering::Relaxed);
    assert_eq!(ask(served.health, "GET /startupz", "host: x\r\n").0, 200);
}

#[test]
fn the_admin_side_answers_neither_rebound_names_nor_web_pages() {
    let served = served();
    for headers in ["host: evil.example\r\n", "", "host: localhost\r\norigin: http://evil.example\r\n"] {
        let (status, _) = ask(served.admin, "POST /drain", headers);
        assert!(status == 403 || status == 400, "{headers:?}: {status}");
    }
    assert_eq!(*served.fake.drained.lock().unwrap(), None);
}

#[test]
fn prometheus_gets_the_format_it_asks_for() {
    let served = served();
    let (status, classic) = ask(served.metrics, "GET /metrics", "host: x\r\n");
    assert!(status == 200 && classic.contains("# TYPE trama_requests_total counter"), "{classic}");
    let wants = "host: x\r\naccept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let (_, open) = ask(served.metrics, "GET /metrics", wants);
    assert!(open.contains("# TYPE trama_requests counter") && open.ends_with("# EOF\n"));
    assert_eq!(ask(served.metrics, "POST /metrics", "host: x\r\n").0, 405);
    assert_eq!(ask(served.metrics, "GET /", "host: x\r\n").0, 404);
}
