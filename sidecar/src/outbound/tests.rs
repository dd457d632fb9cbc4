//! Requests on their whole way through a worker, with filters that do as a test tells them, to a server that answers
//! with what it got.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    future::pending,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Collected, StreamBody};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::{TcpListener, TcpStream},
    task::LocalSet,
};
use trama_proto::document::Document;

use super::{Connection, Meant, opaque};
use crate::{
    config::{
        convert::{Extent, Local, convert_part},
        snapshot::{AppProtocol, Rule, Snapshot, state::Registry},
    },
    drain::Drain,
    filter::{
        Action, Admitted, Chain, Phases, StreamId,
        tests::{Log, Told, body, map},
    },
    http::{Answer, Handler, HttpLimits, body::Body, ending::Ending, h1, h2, interim::Interim},
    telemetry::{Format, LogOutput, Security, TelemetryConfig, TelemetryHub},
    upstream::{Certificates, UpstreamLimits},
    worker::{Answers, Needs, Settings, Shared, Worker},
};

/// Answers with what it got, once it has all of it, and writes down what it got; `/silent` it never answers.
#[derive(Default)]
struct Application {
    heads: RefCell<Vec<HeaderMap>>,
    whole: RefCell<u32>,
}

impl Handler for Application {
    async fn handle(self: Rc<Self>, request: Request<Body>, _: Interim) -> Answer {
        self.heads.borrow_mut().push(request.headers().clone());
        let silent = request.uri().path() == "/silent";
        let Ok(whole) = request.into_body().collect().await else { return pending().await };
        *self.whole.borrow_mut() += 1;
        if silent {
            return pending().await;
        }
        let trailers = whole.trailers().cloned().map(Frame::trailers);
        let frames = [Some(Frame::data(whole.to_bytes())), trailers].into_iter().flatten().map(Ok);
        Ok(Response::new(Body::boxed(StreamBody::new(futures_util::stream::iter(frames)))))
    }
}

/// A worker, its application behind a service with one rule, and the connection of a client.
struct World {
    application: Rc<Application>,
    connection: Rc<Connection>,
    hub: TelemetryHub,
    rule: Arc<Rule>,
    documents: Vec<Document>,
    answers: Option<Answers>,
}

impl World {
    /// Runs on a [`LocalSet`]. `protocol`: what the application speaks; `filters`: the rule's.
    async fn new(protocol: &str, filters: &str) -> Self {
        Self::with(protocol, filters, "").await
    }

    /// `more`: further documents of policy.
    async fn with(protocol: &str, filters: &str, more: &str) -> Self {
        let application = Rc::<Application>::default();
        let port = serve(protocol, &application).await;
        let documents = documents(port, protocol, filters, more);
        let snapshot = Arc::new(snapshot(&documents, Extent::Whole));
        let service = snapshot.destinations.of_name(&"shop/orders".into(), 80).unwrap();
        let rule = Arc::clone(&service.routes.any_host.prefix[""][0].rule);
        let config = TelemetryConfig { access_log: LogOutput::None, ..Default::default() };
        let hub = TelemetryHub::start(config).unwrap();
        let (needs, answers) = Needs::new();
        let shared = Shared {
            snapshot: Arc::new(ArcSwap::new(Arc::clone(&snapshot))),
            certificates: Certificates::default(),
            needs,
            drain: Drain::new().1,
            started: Instant::now(),
        };
        let connection = Rc::new(Connection {
            worker: Worker::new(settings(), shared, hub.worker(), 1),
            meant: Meant::Service("shop/orders".into(), 80),
            downstream: SocketAddr::from(([127, 0, 0, 1], 4)),
            admitted: Admitted::default(),
            ending: Ending::default(),
        });
        Self { application, connection, hub, rule, documents, answers: Some(answers) }
    }

    /// The same with this filter on the rule.
    async fn filtered(protocol: &str, filter: Told) -> Self {
        let world = Self::new(protocol, "[{requestHeaderModifier: {}}]").await;
        let chain = Chain::new(vec![Rc::new(filter)]);
        world.connection.worker.chains.borrow_mut().put(world.rule.filters.as_ref().unwrap(), chain);
        world
    }

    /// The same with this filter on the service.
    async fn guarded(filter: Told) -> Self {
        let chain = "---\nkind: PluginChain\nmetadata: {name: c, namespace: shop}\nspec: \
                     {service: orders, direction: OUTBOUND, filters: [{requestHeaderModifier: {}}]}\n";
        let world = Self::with("HTTP2", "[]", chain).await;
        let worker = &world.connection.worker;
        let snapshot = worker.snapshot();
        let service = snapshot.destinations.of_name(&"shop/orders".into(), 80).unwrap();
        let chain = Chain::new(vec![Rc::new(filter)]);
        worker.chains.borrow_mut().put(service.filters.as_ref().unwrap(), chain);
        world
    }

    /// A request of four bytes and a trailer, and its whole answer.
    async fn put(&self) -> (StatusCode, HeaderMap, Collected<bytes::Bytes>) {
        let request = Request::put("/").header("host", "orders.shop").header("te", "trailers");
        let request = request.body(body(&[4], Some(map(&[("t", "1")])))).unwrap();
        let answer = Rc::clone(&self.connection).handle(request, Interim::Nowhere).await.unwrap();
        let (head, body) = answer.into_parts();
        (head.status, head.headers, body.collect().await.unwrap())
    }

    /// How many requests ended for this reason.
    fn ended(&self, reason: &str) -> usize {
        self.services_of(reason).len()
    }

    /// The services whose requests ended for this reason.
    fn services_of(&self, reason: &str) -> Vec<String> {
        let text = self.hub.scrape(Format::OpenMetrics);
        let ended = text
            .lines()
            .filter(|l| l.contains("_requests_total{") && l.contains(&format!("reason=\"{reason}\"")));
        let service =
            |line: &str| line.split_once(",service=\"").unwrap().1.split('"').next().unwrap().to_owned();
        ended.map(service).collect()
    }
}

async fn serve(protocol: &str, application: &Rc<Application>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (application, http2) = (Rc::clone(application), protocol == "HTTP2");
    tokio::task::spawn_local(async move {
        let limits = HttpLimits::default();
        while let Ok((stream, _)) = listener.accept().await {
            let application = Rc::clone(&application);
            tokio::task::spawn_local(async move {
                if http2 {
                    h2::serve(stream, &limits, h2::Writes::Gathered, None, application, pending()).await;
                } else {
                    h1::serve(stream, &limits, application, pending()).await;
                }
            });
        }
    });
    port
}

fn documents(port: u16, protocol: &str, filters: &str, more: &str) -> Vec<Document> {
    let text = format!(
        "
kind: Service
metadata: {{ name: orders, namespace: shop }}
spec: {{ ports: [{{ port: 80, targetPort: {port}, appProtocol: {protocol} }}] }}
---
kind: EndpointSet
metadata: {{ name: orders, namespace: shop }}
spec: {{ service: orders, endpoints: [{{ address: 127.0.0.1 }}] }}
---
kind: Route
metadata: {{ name: r, namespace: shop }}
spec: {{ parentRefs: [{{ service: orders }}], rules: [{{ filters: {filters} }}] }}
{more}"
    );
    Document::parse("p.yaml", &text).unwrap()
}

fn snapshot(documents: &[Document], extent: Extent<'_>) -> Snapshot {
    let documents: Vec<_> = documents.iter().collect();
    let local = Local { namespace: "shop".to_owned(), region: String::new() };
    let snapshot = convert_part(&documents, extent, &local, &mut Registry::default(), 1);
    snapshot.unwrap_or_else(|problems| panic!("{problems}"))
}

fn settings() -> Settings {
    let limits = HttpLimits::default();
    Settings {
        http: limits,
        upstream: UpstreamLimits::default(),
        handshake_timeout: limits.head_timeout,
        tcp_idle_timeout: limits.idle_timeout,
        server_first_after: limits.head_timeout,
        replay_bytes: 1 << 16,
        connections: 1,
        application: None,
        own_ports: Vec::new(),
        application_ports: Vec::new(),
        trust_domain: None,
        service: "shop/storefront".into(),
    }
}

fn all() -> Phases {
    let request = Phases::REQUEST_HEADERS | Phases::REQUEST_BODY | Phases::REQUEST_TRAILERS;
    let response = Phases::RESPONSE_HEADERS | Phases::RESPONSE_BODY | Phases::RESPONSE_TRAILERS;
    request | response | Phases::LOG
}

#[tokio::test]
async fn a_filter_sees_every_phase_of_a_request_in_order() {
    LocalSet::new()
        .run_until(async {
            let log = Log::default();
            let world = World::filtered("HTTP2", Told::new("a", all(), &log)).await;
            let (status, _, whole) = world.put().await;
            assert_eq!((status, whole.trailers()), (StatusCode::OK, Some(&map(&[("t", "1")]))));
            assert_eq!(whole.to_bytes(), "xxxx");
            let wanted = [
                "a request headers",
                "a request body 4 false",
                "a request body 0 true",
                "a request trailers",
                "a response headers",
                "a response body 4 false",
                "a response body 0 true",
                "a response trailers",
                "a log 200",
            ];
            assert_eq!(*log.borrow(), wanted);
        })
        .await;
}

#[tokio::test]
async fn a_connection_is_asked_about_once() {
    LocalSet::new()
        .run_until(async {
            let log = Log::default();
            let phases = Phases::CONNECTION | Phases::REQUEST_HEADERS | Phases::LOG;
            let world = World::guarded(Told::new("a", phases, &log)).await;
            for _ in 0..2 {
                assert_eq!(world.put().await.0, StatusCode::OK);
            }
            let wanted = ["a connection", "a request headers", "a log 200", "a request headers", "a log 200"];
            assert_eq!(*log.borrow(), wanted);
        })
        .await;
}

#[tokio::test]
async fn a_filter_that_refuses_or_fails_has_its_reason_and_is_asked_again() {
    type Made = (fn() -> Action, StatusCode, &'static str);
    let made: [Made; 2] = [
        (|| Action::Deny, StatusCode::FORBIDDEN, "denied"),
        (|| Action::Fail("out of memory".into()), StatusCode::SERVICE_UNAVAILABLE, "filter_failed"),
    ];
    LocalSet::new()
        .run_until(async {
            for (action, wanted, reason) in made {
                let log = Log::default();
                let mut told = Told::new("a", Phases::CONNECTION | Phases::LOG, &log);
                told.on_head = Box::new(move |_, _| action());
                let world = World::guarded(told).await;
                for _ in 0..2 {
                    let (status, headers, _) = world.put().await;
                    assert_eq!((status, headers["trama-reason"].to_str().unwrap()), (wanted, reason));
                }
                assert!(world.application.heads.borrow().is_empty());
                assert_eq!(world.ended(reason), 1, "one series");
                let log = log.borrow();
                assert_eq!(log.iter().filter(|line| *line == "a connection").count(), 2, "{log:?}");
                assert_eq!(log.iter().filter(|line| line.starts_with("a log")).count(), 2, "{log:?}");
            }
        })
        .await;
}

/// A filter that answers with 418 when it is asked for the `at`-th time; trailers count.
fn teapot(at: u32, log: &Log) -> Told {
    let mut told = Told::new("a", all(), log);
    told.on_head =
        Box::new(move |_, entries| if entries == at { Action::respond(own()) } else { Action::Continue });
    told
}

fn own() -> Response<Body> {
    let mut response = Response::new(Body::full("short and stout"));
    *response.status_mut() = StatusCode::IM_A_TEAPOT;
    response
}

#[tokio::test]
async fn a_filter_answers_in_the_applications_place() {
    LocalSet::new()
        .run_until(async {
            let log = Log::default();
            let world = World::filtered("HTTP2", teapot(1, &log)).await;
            let (status, _, whole) = world.put().await;
            assert_eq!((status, &whole.to_bytes()[..]), (StatusCode::IM_A_TEAPOT, &b"short and stout"[..]));
            assert!(world.application.heads.borrow().is_empty());
            let wanted = ["a request headers", "a response headers", "a response body 15 true", "a log 418"];
            assert_eq!(*log.borrow(), wanted);
            assert_eq!(world.ended("filter_response"), 1);
        })
        .await;
}

#[tokio::test]
async fn a_filter_replaces_the_applications_answer() {
    LocalSet::new()
        .run_until(async {
            // Request headers, request trailers, response headers.
            let log = Log::default();
            let world = World::filtered("HTTP2", teapot(3, &log)).await;
            assert_eq!(world.put().await.0, StatusCode::IM_A_TEAPOT);
            assert_eq!(*world.application.whole.borrow(), 1);
            assert_eq!(log.borrow().last().unwrap(), "a log 418");
            assert_eq!(world.ended("filter_response"), 1);
        })
        .await;
}

/// PUT could be tried again, and its body could be replayed: but what a filter refused must not be.
#[tokio::test]
async fn a_filter_that_answers_to_the_body_ends_the_request_for_good() {
    LocalSet::new()
        .run_until(async {
            for protocol in ["HTTP", "HTTP2"] {
                let log = Log::default();
                let mut told = Told::new("a", all(), &log);
                // The end of the request's body, which is told alone; not that of the answer's.
                told.on_data =
                    Box::new(
                        |data, end| {
                            if end && data.is_empty() { Action::respond(own()) } else { Action::Continue }
                        },
                    );
                let world = World::filtered(protocol, told).await;
                let (status, _, whole) = world.put().await;
                assert_eq!(status, StatusCode::IM_A_TEAPOT, "{protocol}");
                assert!(whole.trailers().is_none());
                assert!(world.application.heads.borrow().len() <= 1, "{protocol}");
                assert_eq!(
                    *world.application.whole.borrow(),
                    0,
                    "{protocol}: what broke off arrived as if whole"
                );
                assert_eq!(log.borrow().last().unwrap(), "a log 418", "{protocol}");
                assert_eq!(world.ended("filter_response"), 1, "{protocol}");
            }
        })
        .await;
}

#[tokio::test]
async fn a_rules_own_filters_change_headers_both_ways() {
    LocalSet::new()
        .run_until(async {
            let filters = "[{requestHeaderModifier: {set: [{name: x-asked, value: '1'}]}}, \
                            {responseHeaderModifier: {set: [{name: x-answered, value: '2'}]}}]";
            let world = World::new("HTTP", filters).await;
            let (_, headers, _) = world.put().await;
            assert_eq!(headers["x-answered"], "2");
            assert_eq!(world.application.heads.borrow()[0]["x-asked"], "1");
        })
        .await;
}

/// A request given up leaves nothing in a filter: the end comes there too.
#[tokio::test]
async fn a_request_that_is_given_up_still_ends_in_its_filters() {
    LocalSet::new()
        .run_until(async {
            let log = Log::default();
            let mut told = Told::new("a", all(), &log);
            told.on_head = Box::new(|_, _| Action::Wait(Box::pin(pending())));
            let world = World::filtered("HTTP", told).await;
            let mut asking = Box::pin(world.put());
            assert!(futures_util::poll!(&mut asking).is_pending());
            drop(asking);
            assert_eq!(*log.borrow(), ["a request headers", "a log 0"]);
        })
        .await;
}

/// The endpoint of `World`'s service failed so often in a row.
fn failures(world: &World) -> u32 {
    let snapshot = world.connection.worker.snapshot();
    let service = snapshot.destinations.of_name(&"shop/orders".into(), 80).unwrap();
    service.cluster.regions[0].endpoints[0].health.consecutive_failures.load(Ordering::Relaxed)
}

#[tokio::test]
async fn time_that_ran_out_is_the_endpoints_doing_once_it_has_the_whole_request() {
    LocalSet::new()
        .run_until(async {
            for (timeout, reason) in
                [("request", "request_timeout"), ("backendRequest", "backend_request_timeout")]
            {
                for protocol in ["HTTP", "HTTP2"] {
                    // The rule's fields go on after its filters.
                    let rule = format!("[], timeouts: {{ {timeout}: 0.05s }}, retry: {{ attempts: 0 }}");
                    let world = World::new(protocol, &rule).await;
                    let ask = async |path: &str, body| {
                        let request = Request::post(path).header("host", "orders.shop").body(body).unwrap();
                        let connection = Rc::clone(&world.connection);
                        let answer = connection.handle(request, Interim::Nowhere).await.unwrap();
                        assert_eq!(answer.headers()["trama-reason"].to_str().unwrap(), reason, "{protocol}");
                    };
                    let endless = StreamBody::new(futures_util::stream::pending());
                    ask("/upload", Body::boxed(endless)).await;
                    assert_eq!(failures(&world), 0, "{protocol}: the client still sends");
                    ask("/silent", Body::full("whole")).await;
                    assert_eq!(failures(&world), 1, "{protocol}: the endpoint has it all");
                }
            }
        })
        .await;
}

#[tokio::test]
async fn a_rule_without_filters_asks_for_no_chain() {
    LocalSet::new()
        .run_until(async {
            let world = World::new("HTTP", "[]").await;
            assert_eq!(world.put().await.0, StatusCode::OK);
            assert_eq!(world.connection.worker.stream(), StreamId(0), "no number was drawn for filters");
        })
        .await;
}

#[tokio::test]
async fn a_connection_that_nobody_redirected_would_come_back_and_is_refused() {
    LocalSet::new()
        .run_until(async {
            let world = World::new("HTTP", "[]").await;
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (accepted, peer) = listener.accept().await.unwrap();
            super::captured(Rc::clone(&world.connection.worker), accepted, peer).await;
            assert_eq!(world.ended("loop_detected"), 1);
            drop(client);
        })
        .await;
}

impl World {
    /// The same, but of the service only the name is known.
    async fn by_name() -> (Self, Answers) {
        let mut world = Self::new("HTTP2", "[]").await;
        world.put_in_force(Extent::Services(&BTreeSet::new()));
        let answers = world.answers.take().unwrap();
        (world, answers)
    }

    fn put_in_force(&self, extent: Extent<'_>) {
        self.connection.worker.shared.snapshot.store(Arc::new(snapshot(&self.documents, extent)));
    }
}

#[tokio::test]
async fn a_request_waits_for_what_concerns_its_service() {
    LocalSet::new()
        .run_until(async {
            let (world, mut answers) = World::by_name().await;
            let told = async {
                assert_eq!(answers.questions.recv().await.as_deref(), Some("shop/orders"));
                // News of something else.
                answers.changes.send_replace(());
                tokio::task::yield_now().await;
                world.put_in_force(Extent::Services(&BTreeSet::from(["shop/orders".into()])));
                answers.changes.send_replace(());
            };
            let ((status, ..), ()) = tokio::join!(world.put(), told);
            assert_eq!(status, StatusCode::OK);
            assert_eq!(world.put().await.0, StatusCode::OK);
            assert!(answers.questions.try_recv().is_err(), "what is known is not asked for");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_service_of_which_nothing_is_told_in_time_is_refused_by_name() {
    LocalSet::new()
        .run_until(async {
            let (world, answers) = World::by_name().await;
            let began = tokio::time::Instant::now();
            let (status, headers, _) = world.put().await;
            assert_eq!((status, began.elapsed().as_secs()), (StatusCode::SERVICE_UNAVAILABLE, 1));
            assert_eq!(headers["trama-reason"], "service_pending");
            assert_eq!(world.services_of("service_pending"), ["shop/orders"]);
            drop(answers);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_opaque_connection_is_refused_by_name_as_well() {
    LocalSet::new()
        .run_until(async {
            let (world, answers) = World::by_name().await;
            let (_client, ours) = tokio::io::duplex(64);
            opaque::carry(&world.connection, ours, None).await;
            assert_eq!(world.services_of("service_pending"), ["shop/orders"]);
            drop(answers);
        })
        .await;
}

/// A connection whose protocol is found out.
async fn detected(world: &World, ours: DuplexStream) {
    let Connection { worker, meant, downstream, .. } = &*world.connection;
    super::serve(Rc::clone(worker), ours, *downstream, meant.clone(), AppProtocol::Auto, Security::Plain)
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_connects_early_is_told_once_it_speaks() {
    LocalSet::new()
        .run_until(async {
            let (world, answers) = World::by_name().await;
            let (mut client, ours) = tokio::io::duplex(1024);
            let asks = async {
                let silent = tokio::time::timeout(Duration::from_secs(60), client.read_u8()).await;
                assert!(silent.is_err(), "{silent:?}");
                client
                    .write_all(b"GET / HTTP/1.1\r\nhost: orders.shop\r\nconnection: close\r\n\r\n")
                    .await
                    .unwrap();
                let mut answer = String::new();
                client.read_to_string(&mut answer).await.unwrap();
                answer
            };
            let ((), answer) = tokio::join!(detected(&world, ours), asks);
            assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("service_pending"), "{answer}");
            assert_eq!(world.services_of("service_pending"), ["shop/orders"]);
            drop(answers);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_hears_a_server_that_is_known_late() {
    LocalSet::new()
        .run_until(async {
            let (world, answers) = World::by_name().await;
            let (mut client, ours) = tokio::io::duplex(1024);
            let hears = async {
                let silent = tokio::time::timeout(Duration::from_secs(60), client.read_u8()).await;
                assert!(silent.is_err(), "{silent:?}");
                world.put_in_force(Extent::Whole);
                answers.changes.send_replace(());
                // The application speaks first, in HTTP/2.
                assert!(client.read_u8().await.is_ok());
                drop(client);
            };
            tokio::join!(detected(&world, ours), hears);
            assert_eq!(world.ended("service_pending"), 0);
        })
        .await;
}

#[tokio::test]
async fn an_opaque_connection_waits_as_well() {
    LocalSet::new()
        .run_until(async {
            let (world, mut answers) = World::by_name().await;
            let (mut client, ours) = tokio::io::duplex(64);
            let carried = opaque::carry(&world.connection, ours, None);
            let told = async {
                assert_eq!(answers.questions.recv().await.as_deref(), Some("shop/orders"));
                world.put_in_force(Extent::Whole);
                answers.changes.send_replace(());
                client.shutdown().await.unwrap();
                // The application speaks first, in HTTP/2, because it was reached.
                assert!(client.read_u8().await.is_ok());
                drop(client);
            };
            tokio::join!(carried, told);
        })
        .await;
}
