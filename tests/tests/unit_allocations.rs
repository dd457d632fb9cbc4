//! What lies on every request's path takes nothing from the heap: it is counted.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    hint::black_box,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use trama_sidecar::{
    balance::{Attempts, Event, Loads, budget},
    config::snapshot::{
        AppProtocol, CircuitLimits, Cluster, Endpoint, HeaderMatch, HeaderModifier, Match, OutlierPolicy,
        PathMatch, QueryMatch, RegionGroup, RetryBudgetPolicy, RetryPolicy, RouteTable, Rule, RuleAction,
        RuleTimeouts, ServiceName, Transport, ValueMatch,
        state::{EndpointKey, Registry},
    },
    filter::{Chain, Context, Run, StreamId, headers::Headers},
    http::body::Body,
    route::{self, Inquiry},
    telemetry::Direction,
};

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[allow(unsafe_code, reason = "an allocator can only be watched by being one")]
// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.set(TAKEN.get() + 1);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract, and `at` came from `System`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often the heap is asked while this runs.
fn allocations<T>(run: impl FnOnce() -> T) -> u64 {
    let before = TAKEN.get();
    let value = black_box(run());
    let taken = TAKEN.get() - before;
    drop(value);
    taken
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| Box::new(1)), 1);
}

#[test]
fn a_route_is_found_without_the_heap() {
    let mut table = RouteTable::default();
    let rule = Rule {
        name: "shop/orders/0".into(),
        rewrite: None,
        filters: None,
        action: RuleAction::Forward(Vec::new()),
        timeouts: RuleTimeouts::default(),
        retry: RetryPolicy::default(),
    };
    let name = HeaderName::from_static("x-version");
    let condition = Match {
        path: PathMatch::Prefix("/api".into()),
        method: Some(Method::GET),
        headers: vec![HeaderMatch { name, value: ValueMatch::Exact("1, 2".into()) }],
        query: vec![QueryMatch { name: "q".into(), value: ValueMatch::Exact("a b".into()) }],
    };
    table.insert(Some("*.shop.example"), condition, Arc::new(rule));
    let mut headers = HeaderMap::new();
    headers.append("x-version", HeaderValue::from_static("1"));
    headers.append("x-version", HeaderValue::from_static("2"));
    let inquiry = Inquiry {
        host: "orders.shop.example:8080",
        path: "/api/v1/orders",
        query: Some("q=a%20b"),
        method: &Method::GET,
        headers: &headers,
    };
    assert!(route::find(&table, &inquiry).is_some());
    assert_eq!(allocations(|| route::find(&table, &inquiry)), 0);
}

#[test]
fn an_endpoint_is_chosen_without_the_heap() {
    let cluster = cluster();
    let mut loads = Loads::default();
    let now = Duration::from_secs(60);
    let mut request = |draw| {
        budget::earn(&cluster.retry_budget, &cluster.state, now);
        let choice = loads.pick(&cluster, &Attempts::default(), now, draw).unwrap();
        loads.observe(&choice.endpoint, Event::Started, now);
        loads.observe(&choice.endpoint, Event::Answered { after: Duration::from_millis(3) }, now);
        loads.observe(&choice.endpoint, Event::Ended, now);
    };
    (0..100).for_each(&mut request);
    assert_eq!(allocations(|| (100..1_000).for_each(&mut request)), 0);
}

#[test]
fn a_chain_without_body_phases_is_run_without_the_heap() {
    let remove = || HeaderModifier { remove: vec![HeaderName::from_static("x-gone")], ..Default::default() };
    let chain = Chain::new(vec![Rc::new(Headers::new(Some(remove()), Some(remove())))]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let length = HeaderValue::from_static("1");
    let (mut asked, ()) = Request::get("/").header("content-length", length).body(()).unwrap().into_parts();
    let (mut answered, ()) = http::Response::new(()).into_parts();
    let taken = runtime.block_on(async {
        let before = TAKEN.get();
        let cx =
            Context { stream: StreamId(1), direction: Direction::Inbound, downstream: None, identity: None };
        let mut run = Run::new(chain.clone(), cx);
        assert!(run.request_headers(&mut asked).await.unwrap().is_none());
        drop(run.request_body(Body::empty()));
        assert!(run.response_headers(&mut answered).await.unwrap().is_none());
        drop(run.response_body(Body::empty()));
        TAKEN.get() - before
    });
    assert_eq!(taken, 0);
}

fn cluster() -> Cluster {
    let mut registry = Registry::default();
    let service = ServiceName::new("orders", "shop");
    let endpoints = (1..=5).map(|host| {
        let address = SocketAddr::from(([10, 0, 0, host], 80));
        let key = EndpointKey {
            service: Arc::clone(&service.label),
            address,
            mesh: None,
            identity: None,
            tls: None,
        };
        Arc::new(Endpoint {
            address,
            region: "sao-paulo".into(),
            zone: "".into(),
            weight: u32::from(host),
            transport: Transport::Plain,
            protocol: AppProtocol::Auto,
            health: registry.endpoint(key),
        })
    });
    let regions = vec![RegionGroup::new("sao-paulo".into(), endpoints.collect())];
    Cluster {
        state: registry.cluster(&service.label, 80),
        service,
        port: 80,
        protocol: AppProtocol::Auto,
        regions,
        skipped: Vec::new(),
        circuit: CircuitLimits::default(),
        outlier: OutlierPolicy::default(),
        retry_budget: RetryBudgetPolicy::default(),
    }
}
