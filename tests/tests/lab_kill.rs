//! A region dies in one moment: application and sidecar are killed together while requests are under way.
//!
//! What the promise is, and why it is not more: ARCHITECTURE.md, "Retries, and what makes them safe".

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use trama_tests::mesh::{
    Answer, Application, Client, MESH, Mesh, PATIENCE, Payload, Record, Speaks, Where, until,
};

const ORDERS: &str = "shop/orders";
const GETS: usize = 30;
const POSTS: usize = 10;
/// Where captured calls arrive.
const OUTBOUND: u16 = 15001;
/// An order of this length is more than any head.
const ORDER: usize = 2000;

/// `first` is preferred, and a real application.
async fn two_regions(second: &Application) -> Mesh {
    let builder = Mesh::builder()
        .at(Where::Namespaces)
        .pod("first", |p| p.serves(ORDERS).region("sao-paulo").application(&Application::python()))
        .pod("second", |p| p.serves(ORDERS).region("rio").application(second))
        // So long that no machine is too busy for it.
        .pod("storefront", |p| p.region("sao-paulo").config("timeouts: { connect: 15s }"))
        .policy(|p| {
            p.order(&["sao-paulo", "rio"]);
            p.protocol(ORDERS, "HTTP");
        });
    builder.start().await
}

/// What became of a request: which one it was, and its answer, or why there was none.
struct Outcome {
    /// The order's number, if it is a POST.
    order: Option<usize>,
    began: Instant,
    answer: Result<Answer, String>,
}

impl Outcome {
    fn told(&self) -> (u16, &str, &str) {
        let answer = self.answer.as_ref().unwrap_or_else(|error| panic!("{:?}: {error}", self.order));
        (answer.status.as_u16(), answer.reason(), answer.header("x-served-by"))
    }
}

/// Sends a request on a connection of its own.
async fn ask(mut client: Client, path: &'static str, order: Option<usize>) -> Outcome {
    let began = Instant::now();
    let request = match order {
        None => client.request("GET", path).body(Payload::empty()),
        Some(number) => client
            .request("POST", path)
            .header("x-post-id", number.to_string())
            .body(Payload::of(vec![b'x'; ORDER])),
    };
    let answer = tokio::time::timeout(PATIENCE, client.call(request.unwrap())).await;
    let answer = match answer {
        Ok(answer) => answer.map_err(|error| format!("{error:?}")),
        Err(late) => Err(late.to_string()),
    };
    Outcome { order, began, answer }
}

/// Requests under way, none of which is answered in time.
async fn begin(mesh: &Mesh, path: &'static str) -> JoinSet<Outcome> {
    let mut under_way = JoinSet::new();
    let orders = (0..POSTS).map(Some);
    for order in [None; GETS].into_iter().chain(orders) {
        let client = mesh.pod("storefront").http_to(mesh.service(ORDERS), Speaks::Http1, "orders.shop");
        under_way.spawn(ask(client.await, path, order));
    }
    under_way
}

/// GETs are answered by the other region, POSTs are not, and nobody gets one a second time.
async fn judge(mesh: &Mesh, under_way: JoinSet<Outcome>, seen: &Record) {
    for outcome in under_way.join_all().await {
        match outcome.order {
            None => assert_eq!(outcome.told(), (200, "", "second")),
            Some(_) => assert_eq!(outcome.told(), (502, "upstream_closed", "")),
        }
    }
    let posts = seen.all().iter().filter(|seen| seen.method == "POST").count();
    assert_eq!(posts, 0, "an order that the dead region had was placed again");
    let slow = |entry: &Value| entry["path"].as_str().is_some_and(|path| path.starts_with("/slow"));
    let entries = || mesh.pod("storefront").log().into_iter().filter(slow).collect::<Vec<_>>();
    let all = || async { Some(entries()).filter(|entries| entries.len() == GETS + POSTS) };
    for entry in until("a line for each", all).await {
        let attempts = if entry["method"] == "GET" { 2 } else { 1 };
        assert_eq!(entry["attempts"], attempts, "{entry}");
    }
    // Whatever comes now is served, orders too.
    let mut client = mesh.pod("storefront").http_to(mesh.service(ORDERS), Speaks::Http1, "orders.shop").await;
    for _ in 0..20 {
        let answer = client.post("/after", "x").await;
        assert_eq!((answer.status.as_u16(), answer.header("x-served-by")), (200, "second"));
    }
}

#[tokio::test]
async fn what_the_application_had_is_never_placed_again_and_every_get_is_answered() {
    for application_first in [true, false] {
        let (second, seen) = Application::recording("second");
        let mut mesh = two_regions(&second).await;
        let under_way = begin(&mesh, "/slow/600000").await;
        let all = || async { (mesh.pod("first").posts().len() == POSTS).then_some(()) };
        until("all orders are in the application's hands", all).await;
        let labels = [("peer", "upstream"), ("direction", "inbound")];
        mesh.pod("first").metric_reaches("trama_connections_active", &labels, (GETS + POSTS) as f64).await;
        mesh.pod_mut("first").kill_at_once(application_first);
        judge(&mesh, under_way, &seen).await;
        let mut placed = mesh.pod("first").posts();
        placed.sort();
        placed.dedup();
        assert_eq!(placed.len(), POSTS, "each order was placed once");
    }
}

/// Nobody can know whether a sidecar has passed on what it was given before it died: here it had not, and still each POST
/// is told to have failed instead of being placed again.
#[tokio::test]
async fn what_only_the_sidecar_had_counts_as_delivered() {
    let (second, seen) = Application::recording("second");
    let mut mesh = two_regions(&second).await;
    // A connection to the sidecar that is there, and stays.
    let mut client = mesh.pod("storefront").http_to(mesh.service(ORDERS), Speaks::Http1, "orders.shop").await;
    assert_eq!(client.get("/").await.header("x-served-by"), "first");
    mesh.pod_mut("first").process().pause();
    let under_way = begin(&mesh, "/slow/1").await;
    let there = || async { (mesh.pod("first").unread(MESH) >= POSTS * ORDER).then_some(()) };
    until("all bytes lie before the sidecar", there).await;
    mesh.pod_mut("first").kill_at_once(false);
    judge(&mesh, under_way, &seen).await;
    assert!(mesh.pod("first").posts().is_empty(), "a sidecar that was paused passed something on");
}

/// What the calling sidecar had not written to the region before it heard of its end is nobody's yet.
#[tokio::test]
async fn what_no_byte_was_sent_of_goes_to_the_other_region_whatever_its_method() {
    let (second, seen) = Application::recording("second");
    let mut mesh = two_regions(&second).await;
    let service = mesh.service(ORDERS);
    let mut clients = Vec::new();
    for _ in 0..POSTS {
        let mut client = mesh.pod("storefront").http_to(service, Speaks::Http1, "orders.shop").await;
        assert_eq!(client.get("/").await.header("x-served-by"), "first");
        clients.push(client);
    }
    // When it goes on it finds the orders first, and then that the connection which they are to go on has ended.
    mesh.pod_mut("storefront").process().pause();
    let mut under_way = JoinSet::new();
    for (order, client) in clients.into_iter().enumerate() {
        under_way.spawn(ask(client, "/order", Some(order)));
    }
    let there = || async { (mesh.pod("storefront").unread(OUTBOUND) >= POSTS * ORDER).then_some(()) };
    until("the orders lie before the calling sidecar", there).await;
    mesh.pod_mut("first").kill_at_once(false);
    mesh.pod_mut("storefront").process().resume();
    for outcome in under_way.join_all().await {
        assert_eq!(outcome.told(), (200, "", "second"), "{:?}", outcome.order);
    }
    assert_eq!(seen.of("/order").len(), POSTS);
}

/// Two hundred GETs and twenty POSTs a second, and a region that dies among them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_no_get_fails_and_a_post_only_if_the_dead_region_had_it() {
    for application_first in [true, false] {
        let mut mesh = two_regions(&Application::python()).await;
        let (tell, mut sent) = watch::channel(0);
        let load = tokio::spawn(load(clients(&mesh).await, tell));
        sent.wait_for(|sent| *sent >= LOAD / 2).await.unwrap();
        tokio::task::block_in_place(|| mesh.pod_mut("first").kill_at_once(application_first));
        let killed = Instant::now();
        judge_load(&mesh, &load.await.unwrap(), killed);
    }
}

/// Three seconds of it.
const LOAD: usize = 660;

/// One for each request, made beforehand: to enter a pod's network each time would be the slowest part of it.
async fn clients(mesh: &Mesh) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..LOAD {
        let client = mesh.pod("storefront").http_to(mesh.service(ORDERS), Speaks::Http1, "orders.shop");
        clients.push(client.await);
    }
    clients
}

async fn load(clients: Vec<Client>, sent: watch::Sender<usize>) -> Vec<Outcome> {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / 220);
    let mut under_way = JoinSet::new();
    // Eight or nine are under way at a time. On a busy machine it would be all, and more than the retry budget has by then.
    let places = Arc::new(Semaphore::new(40));
    for (number, client) in clients.into_iter().enumerate() {
        tick.tick().await;
        let place = Arc::clone(&places).acquire_owned().await;
        under_way.spawn(async move {
            let outcome = ask(client, "/slow/40", (number % 11 == 0).then_some(number)).await;
            drop(place);
            outcome
        });
        sent.send_replace(number);
    }
    under_way.join_all().await
}

fn judge_load(mesh: &Mesh, outcomes: &[Outcome], killed: Instant) {
    let mut placed = BTreeMap::<String, Vec<&str>>::new();
    for pod in ["first", "second"] {
        for order in mesh.pod(pod).posts() {
            placed.entry(order).or_default().push(pod);
        }
    }
    assert!(placed.values().all(|pods| pods.len() == 1), "an order was placed twice: {placed:?}");
    for outcome in outcomes {
        let (status, reason, served_by) = outcome.told();
        let told = format!("{:?}: {status} {reason} {served_by}", outcome.order);
        let placed = outcome.order.and_then(|order| placed.get(&order.to_string())).map(|pods| pods[0]);
        if status == 200 {
            assert!(outcome.began < killed || served_by == "second", "a dead region has answered {told}");
            assert_eq!(placed, outcome.order.map(|_| served_by), "{told}");
            continue;
        }
        assert!(outcome.order.is_some(), "a GET has failed: {told}");
        assert_eq!((status, reason), (502, "upstream_closed"), "{told}");
        assert!(outcome.began < killed, "it was not sent to the other region: {told}");
        assert_ne!(placed, Some("second"), "it was placed, and told to have failed: {told}");
    }
    for pod in ["first", "second"] {
        let served = outcomes.iter().filter(|outcome| outcome.told().2 == pod).count();
        assert!(served > LOAD / 4, "{pod} has served {served}");
    }
}
