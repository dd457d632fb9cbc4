//! Requests on their whole way through a worker, with filters that do as a test tells them, to a server that answers
//! with what it got.

mod filters;
mod pending;
mod refusals;

use std::{cell::RefCell, future, net::SocketAddr, rc::Rc, sync::Arc, time::Instant};

use arc_swap::ArcSwap;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Collected, StreamBody};
use tokio::{net::TcpListener, task::LocalSet};
use trama_proto::document::Document;

use super::{Connection, Meant};
use crate::{
    config::{
        convert::{Extent, Local, convert_part},
        snapshot::{Rule, Snapshot, state::Registry},
    },
    drain::Drain,
    filter::{
        Admitted, Chain,
        tests::{Told, body, map},
    },
    http::{Answer, Handler, HttpLimits, body::Body, ending::Ending, h1, h2, interim::Interim},
    telemetry::{Format, LogOutput, TelemetryConfig, TelemetryHub},
    upstream::{Certificates, UpstreamLimits},
    worker::{Answers, Ejections, Needs, Settings, Shared, Worker},
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
        let Ok(whole) = request.into_body().collect().await else { return future::pending().await };
        *self.whole.borrow_mut() += 1;
        if silent {
            return future::pending().await;
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
            ejections: Ejections::new().0,
            drain: Drain::new().1,
            started: Instant::now(),
        };
        let worker = Worker::new(settings(), shared, hub.worker(), 1);
        let connection = connection(worker, Meant::Service("shop/orders".into(), 80));
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

/// A client's connection, from 127.0.0.1.
pub(crate) fn connection(worker: Rc<Worker>, meant: Meant) -> Rc<Connection> {
    let downstream = SocketAddr::from(([127, 0, 0, 1], 4));
    let (admitted, ending) = (Admitted::default(), Ending::default());
    Rc::new(Connection { worker, meant, downstream, admitted, ending })
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
                    h2::serve(stream, &limits, h2::Writes::Gathered, None, application, future::pending())
                        .await;
                } else {
                    h1::serve(stream, &limits, application, future::pending()).await;
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

pub(crate) fn settings() -> Settings {
    let limits = HttpLimits::default();
    Settings {
        http: limits,
        upstream: UpstreamLimits::default(),
        handshake_timeout: limits.head_timeout,
        tcp_idle_timeout: limits.idle_timeout,
        server_first_after: limits.head_timeout,
        replay_bytes: 1 << 16,
        connections: 1,
        gate: Arc::default(),
        service: "shop/storefront".into(),
    }
}
