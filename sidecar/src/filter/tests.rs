//! Order, phases, waiting, answers and framing, with filters that do as a test tells them.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, request, response};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, StreamBody};

use super::{Action, Chain, Context, Filter, Phases, Run, StreamId, WINDOW, headers::Headers};
use crate::{
    config::snapshot::{HeaderChange, HeaderModifier},
    error::Reason,
    http::body::{Body, BodyError},
    telemetry::{self, Direction, Record},
};

pub(crate) type Log = Rc<RefCell<Vec<String>>>;
pub(crate) type OnHead = Box<dyn Fn(&mut HeaderMap, u32) -> Action>;
pub(crate) type OnData = Box<dyn Fn(&mut Bytes, bool) -> Action>;

/// Says what it sees, and does as it is told.
pub(crate) struct Told {
    name: &'static str,
    phases: Phases,
    log: Log,
    entries: Cell<u32>,
    /// For every head and all trailers; it is told how many came before.
    pub(crate) on_head: OnHead,
    pub(crate) on_data: OnData,
}

impl Told {
    pub(crate) fn new(name: &'static str, phases: Phases, log: &Log) -> Self {
        Self {
            name,
            phases,
            log: Rc::clone(log),
            entries: Cell::new(0),
            on_head: Box::new(|_, _| Action::Continue),
            on_data: Box::new(|_, _| Action::Continue),
        }
    }

    fn say(&self, what: impl std::fmt::Display) {
        self.log.borrow_mut().push(format!("{} {what}", self.name));
    }

    fn head(&self, what: &str, headers: &mut HeaderMap) -> Action {
        self.say(what);
        self.entries.set(self.entries.get() + 1);
        (self.on_head)(headers, self.entries.get())
    }

    fn data(&self, what: &str, data: &mut Bytes, end: bool) -> Action {
        self.say(format!("{what} {} {end}", data.len()));
        (self.on_data)(data, end)
    }
}

impl Filter for Told {
    fn name(&self) -> &str {
        self.name
    }
    fn phases(&self) -> Phases {
        self.phases
    }
    fn on_request_headers(&self, _: &Context, parts: &mut request::Parts) -> Action {
        self.head("request headers", &mut parts.headers)
    }
    fn on_request_body(&self, _: &Context, data: &mut Bytes, end: bool) -> Action {
        self.data("request body", data, end)
    }
    fn on_request_trailers(&self, _: &Context, trailers: &mut HeaderMap) -> Action {
        self.head("request trailers", trailers)
    }
    fn on_response_headers(&self, _: &Context, parts: &mut response::Parts) -> Action {
        self.head("response headers", &mut parts.headers)
    }
    fn on_response_body(&self, _: &Context, data: &mut Bytes, end: bool) -> Action {
        self.data("response body", data, end)
    }
    fn on_response_trailers(&self, _: &Context, trailers: &mut HeaderMap) -> Action {
        self.head("response trailers", trailers)
    }
    fn on_connection(&self, _: &Context) -> Action {
        self.head("connection", &mut HeaderMap::new())
    }
    fn on_log(&self, _: &Context, record: &Record) {
        self.say(format!("log {}", record.status));
    }
    fn on_tick(&self, now: Duration) {
        self.say(format!("tick {now:?}"));
    }
}

fn heads() -> Phases {
    Phases::REQUEST_HEADERS | Phases::RESPONSE_HEADERS | Phases::LOG
}

fn run(filters: Vec<Told>) -> Run {
    let filters = filters.into_iter().map(|f| Rc::new(f) as Rc<dyn Filter>).collect();
    Run::new(Chain::new(filters), context())
}

fn context() -> Context {
    Context { stream: StreamId(1), direction: Direction::Inbound, downstream: None, identity: None }
}

fn request(headers: &[(&'static str, &'static str)]) -> request::Parts {
    let mut parts = Request::post("/").body(()).unwrap().into_parts().0;
    parts.headers = map(headers);
    parts
}

fn answer(headers: &[(&'static str, &'static str)]) -> response::Parts {
    let mut parts = Response::new(()).into_parts().0;
    parts.headers = map(headers);
    parts
}

pub(crate) fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |&(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v));
    pairs.iter().map(pair).collect()
}

fn record(status: u16) -> Record {
    Record { status, ..telemetry::record::tests::full() }
}

/// A body of these pieces, and trailers if there are any.
pub(crate) fn body(pieces: &[usize], trailers: Option<HeaderMap>) -> Body {
    let data = pieces.iter().map(|&len| Frame::data(Bytes::from(vec![b'x'; len])));
    let frames: Vec<_> = data.chain(trailers.map(Frame::trailers)).map(Ok::<_, BodyError>).collect();
    Body::boxed(StreamBody::new(futures_util::stream::iter(frames)))
}

#[tokio::test]
async fn a_request_goes_through_in_order_and_its_answer_in_reverse() {
    let log = Log::default();
    let only_answers = Phases::RESPONSE_HEADERS;
    let mut run = run(vec![
        Told::new("a", heads(), &log),
        Told::new("b", only_answers, &log),
        Told::new("c", heads(), &log),
    ]);
    assert!(run.request_headers(&mut request(&[])).await.unwrap().is_none());
    assert!(run.response_headers(&mut answer(&[])).await.unwrap().is_none());
    run.log(&record(200));
    let wanted = [
        "a request headers",
        "c request headers",
        "c response headers",
        "b response headers",
        "a response headers",
        "c log 200",
        "a log 200",
    ];
    assert_eq!(*log.borrow(), wanted);
}

#[tokio::test]
async fn a_phase_that_is_not_declared_is_never_entered() {
    let log = Log::default();
    let chain = Chain::new(vec![Rc::new(Told::new("a", Phases::TICK, &log))]);
    let mut run = Run::new(chain.clone(), context());
    run.request_headers(&mut request(&[])).await.unwrap();
    let passed = run.request_body(body(&[1], Some(HeaderMap::new())));
    passed.collect().await.unwrap();
    run.response_headers(&mut answer(&[])).await.unwrap();
    run.response_body(body(&[1], Some(HeaderMap::new()))).collect().await.unwrap();
    run.connection().await.unwrap();
    run.log(&record(200));
    assert!(log.borrow().is_empty(), "{log:?}");
    chain.tick(Duration::from_secs(1));
    assert_eq!(*log.borrow(), ["a tick 1s"]);
}

#[tokio::test]
async fn an_answer_of_a_filter_stops_the_request_and_goes_back_the_same_way() {
    let log = Log::default();
    let mut b = Told::new("b", heads(), &log);
    b.on_head = Box::new(|headers, _| {
        if headers.contains_key("x-answered") {
            return Action::Continue;
        }
        let denied = Response::builder().status(403).header("x-answered", "b").body(Body::full("no"));
        Action::respond(denied.unwrap())
    });
    let mut run = run(vec![Told::new("a", heads(), &log), b, Told::new("c", heads(), &log)]);
    let denied = run.request_headers(&mut request(&[])).await.unwrap().unwrap();
    assert_eq!(denied.status(), 403);
    let (mut parts, _) = denied.into_parts();
    assert!(run.response_headers(&mut parts).await.unwrap().is_none());
    run.log(&record(403));
    let wanted = [
        "a request headers",
        "b request headers",
        "b response headers",
        "a response headers",
        "b log 403",
        "a log 403",
    ];
    assert_eq!(*log.borrow(), wanted);
}

#[tokio::test]
async fn a_filter_waits_and_then_changes_the_head() {
    let log = Log::default();
    let mut a = Told::new("a", heads(), &log);
    a.on_head = Box::new(|headers, entry| {
        if entry == 1 {
            return Action::Wait(Box::pin(async {
                tokio::task::yield_now().await;
                Action::Again
            }));
        }
        headers.insert("x-user", HeaderValue::from_static("ann"));
        Action::Continue
    });
    let mut run = run(vec![a]);
    let mut parts = request(&[]);
    assert!(run.request_headers(&mut parts).await.unwrap().is_none());
    assert_eq!(parts.headers["x-user"], "ann");
}

#[tokio::test]
async fn framing_survives_an_over_eager_filter() {
    let log = Log::default();
    let mut a = Told::new("a", heads(), &log);
    a.on_head = Box::new(|headers, _| {
        headers.clear();
        for (name, value) in &map(&[
            ("content-length", "3"),
            ("transfer-encoding", "chunked"),
            ("connection", "x-secret"),
            ("upgrade", "websocket"),
            ("te", "gzip"),
            ("x-own", "1"),
        ]) {
            headers.append(name, value.clone());
        }
        Action::Continue
    });
    let mut run = run(vec![a]);
    let mut parts = request(&[("content-length", "7"), ("te", "trailers"), ("x-gone", "1")]);
    run.request_headers(&mut parts).await.unwrap();
    assert_eq!(parts.headers, map(&[("content-length", "7"), ("te", "trailers"), ("x-own", "1")]));
    let mut parts = answer(&[("content-length", "9")]);
    run.response_headers(&mut parts).await.unwrap();
    assert_eq!(parts.headers, map(&[("content-length", "9"), ("x-own", "1")]));
}

/// Changes what only the head's first line says.
struct FirstLine(StatusCode);

impl Filter for FirstLine {
    fn name(&self) -> &'static str {
        "first-line"
    }
    fn phases(&self) -> Phases {
        heads()
    }
    fn on_request_headers(&self, _: &Context, parts: &mut request::Parts) -> Action {
        parts.method = Method::HEAD;
        parts.version = http::Version::HTTP_10;
        parts.uri = "/new".parse().unwrap();
        Action::Continue
    }
    fn on_response_headers(&self, _: &Context, parts: &mut response::Parts) -> Action {
        parts.status = self.0;
        Action::Continue
    }
}

#[tokio::test]
async fn a_filter_changes_the_uri_but_not_how_a_message_ends() {
    for (told, kept) in [(201, 201), (204, 200), (304, 200), (101, 200)] {
        let chain = Chain::new(vec![Rc::new(FirstLine(StatusCode::from_u16(told).unwrap()))]);
        let mut run = Run::new(chain, context());
        let mut parts = request(&[]);
        run.request_headers(&mut parts).await.unwrap();
        assert_eq!((&parts.method, parts.version), (&Method::POST, http::Version::HTTP_11));
        assert_eq!(parts.uri, "/new");
        let mut parts = answer(&[]);
        run.response_headers(&mut parts).await.unwrap();
        assert_eq!(parts.status, kept);
    }
}

#[tokio::test]
async fn a_length_is_dropped_where_the_body_may_change_and_only_there() {
    for (phases, sent, kept) in [
        (Phases::CHANGES_REQUEST_BODY, "7", None),
        (Phases::CHANGES_REQUEST_BODY, "0", Some("0")),
        (Phases::REQUEST_BODY | Phases::REQUEST_HEADERS, "7", Some("7")),
    ] {
        let mut run = run(vec![Told::new("a", phases, &Log::default())]);
        let mut parts = request(&[("content-length", sent)]);
        run.request_headers(&mut parts).await.unwrap();
        assert_eq!(parts.headers.get("content-length").map(|v| v.to_str().unwrap()), kept, "{phases:?}");
    }
}

#[tokio::test]
async fn a_body_passes_in_windows_and_the_end_is_told_once() {
    let log = Log::default();
    let phases = Phases::REQUEST_BODY | Phases::REQUEST_TRAILERS;
    let mut run = run(vec![Told::new("a", phases, &log)]);
    run.request_headers(&mut request(&[])).await.unwrap();
    let passed = run.request_body(body(&[3, 2 * WINDOW + 1], Some(map(&[("t", "1")]))));
    let collected = passed.collect().await.unwrap();
    assert_eq!(collected.trailers(), Some(&map(&[("t", "1")])));
    assert_eq!(collected.to_bytes().len(), 2 * WINDOW + 4);
    let wanted = [
        "a request body 3 false",
        "a request body 65536 false",
        "a request body 65536 false",
        "a request body 1 false",
        "a request body 0 true",
        "a request trailers",
    ];
    assert_eq!(*log.borrow(), wanted);
}

#[tokio::test]
async fn an_inspector_changes_nothing_and_a_transformer_what_it_likes() {
    let log = Log::default();
    let double = |phases| {
        let mut told = Told::new("a", phases, &log);
        told.on_data = Box::new(|data, end| {
            *data = if end { "end".into() } else { [&data[..], &data[..]].concat().into() };
            Action::Continue
        });
        told
    };
    for (phases, wanted) in [(Phases::RESPONSE_BODY, "xxx"), (Phases::CHANGES_RESPONSE_BODY, "xxxxxxend")] {
        let mut run = run(vec![double(phases)]);
        run.request_headers(&mut request(&[])).await.unwrap();
        assert_eq!(run.response_body(body(&[1, 2], None)).collect().await.unwrap().to_bytes(), wanted);
    }
}

#[tokio::test]
async fn filters_see_the_body_one_after_the_other() {
    let log = Log::default();
    let adds = |name, suffix: &'static str| {
        let mut told = Told::new(name, Phases::CHANGES_RESPONSE_BODY, &log);
        told.on_data = Box::new(move |data, end| {
            if end {
                *data = [&data[..], suffix.as_bytes()].concat().into();
            }
            Action::Continue
        });
        told
    };
    let mut run = run(vec![adds("a", "A"), adds("b", "B")]);
    run.request_headers(&mut request(&[])).await.unwrap();
    assert_eq!(run.response_body(Body::full("x")).collect().await.unwrap().to_bytes(), "xBA");
}

#[tokio::test]
async fn a_body_waits_for_its_filter() {
    let mut told = Told::new("a", Phases::REQUEST_BODY, &Log::default());
    let waited = Rc::new(Cell::new(0));
    let count = Rc::clone(&waited);
    told.on_data = Box::new(move |_, _| {
        let count = Rc::clone(&count);
        Action::Wait(Box::pin(async move {
            tokio::task::yield_now().await;
            count.set(count.get() + 1);
            Action::Continue
        }))
    });
    let mut run = run(vec![told]);
    run.request_headers(&mut request(&[])).await.unwrap();
    let passed = run.request_body(body(&[1, 1], None));
    assert_eq!(passed.collect().await.unwrap().to_bytes(), "xx");
    assert_eq!(waited.get(), 3, "two pieces and the end");
}

#[tokio::test]
async fn a_filter_can_answer_in_the_middle_of_the_body() {
    let mut told = Told::new("a", Phases::REQUEST_BODY, &Log::default());
    told.on_data = Box::new(|_, _| Action::respond(Response::new(Body::full("too much"))));
    let mut run = run(vec![told]);
    run.request_headers(&mut request(&[])).await.unwrap();
    let passed = run.request_body(body(&[1, 1], None));
    let error = passed.collect().await.unwrap_err();
    assert!(matches!(error, BodyError::Own(Reason::FilterResponse)));
    assert!(run.answer().is_some());
    assert!(run.answer().is_none());
}

#[tokio::test]
async fn what_has_no_body_or_no_filter_stays_as_it_is() {
    let mut run = run(vec![Told::new("a", Phases::CHANGES_REQUEST_BODY, &Log::default())]);
    run.request_headers(&mut request(&[])).await.unwrap();
    assert!(run.request_body(Body::empty()).is_end_stream());
    let mut looks = self::run(vec![Told::new("a", Phases::REQUEST_BODY, &Log::default())]);
    looks.request_headers(&mut request(&[])).await.unwrap();
    let passed = looks.request_body(Body::full("12345"));
    assert_eq!(passed.size_hint().exact(), Some(5), "an inspected body keeps its length");
    let changed = run.request_body(Body::full("12345"));
    assert_eq!(changed.size_hint().exact(), None);
}

#[tokio::test]
async fn a_connection_can_be_refused() {
    let log = Log::default();
    let mut b = Told::new("b", Phases::CONNECTION, &log);
    b.on_head = Box::new(|_, _| Action::Deny);
    let phases = Phases::CONNECTION | Phases::LOG;
    let mut run = run(vec![Told::new("a", phases, &log), b, Told::new("c", phases, &log)]);
    assert_eq!(run.connection().await.unwrap_err().reason, Reason::Denied);
    run.log(&record(0));
    assert_eq!(*log.borrow(), ["a connection", "b connection", "a log 0"]);
}

#[tokio::test]
async fn what_a_filter_refuses_or_fails_at_ends_with_its_reason() {
    type Made = (fn() -> Action, Reason);
    let made: [Made; 2] =
        [(|| Action::Deny, Reason::Denied), (|| Action::Fail("out of memory".into()), Reason::FilterFailed)];
    for (action, reason) in made {
        let mut told = Told::new("a", heads() | Phases::REQUEST_BODY, &Log::default());
        told.on_head = Box::new(
            move |headers, _| {
                if headers.contains_key("x-go") { Action::Continue } else { action() }
            },
        );
        told.on_data = Box::new(move |_, _| action());
        let mut run = run(vec![told]);
        let failure = run.request_headers(&mut request(&[])).await.unwrap_err();
        assert_eq!(failure.reason, reason);
        assert_eq!(failure.detail.as_deref(), (reason == Reason::FilterFailed).then_some("out of memory"));
        run.request_headers(&mut request(&[("x-go", "1")])).await.unwrap();
        let error = run.request_body(body(&[1], None)).collect().await.unwrap_err();
        assert!(matches!(error, BodyError::Own(it) if it == reason));
        assert_eq!(run.response_headers(&mut answer(&[])).await.unwrap_err().reason, reason);
    }
}

#[tokio::test]
async fn a_request_given_up_while_a_filter_waits_ends_in_that_filter() {
    let log = Log::default();
    let mut told = Told::new("a", heads(), &log);
    told.on_head = Box::new(|_, _| Action::Wait(Box::pin(std::future::pending())));
    let mut run = run(vec![told, Told::new("b", heads(), &log)]);
    assert!(run.request_headers(&mut request(&[])).now_or_never().is_none());
    run.log(&record(0));
    assert_eq!(*log.borrow(), ["a request headers", "a log 0"]);
}

#[tokio::test]
async fn an_answer_of_a_filter_says_nothing_about_framing() {
    let mut told = Told::new("a", heads(), &Log::default());
    told.on_head = Box::new(|_, _| {
        let mut own = Response::new(Body::full("four"));
        *own.headers_mut() = map(&[("content-length", "3"), ("connection", "x"), ("x-kept", "1")]);
        Action::respond(own)
    });
    let own = run(vec![told]).request_headers(&mut request(&[])).await.unwrap().unwrap();
    assert_eq!(*own.headers(), map(&[("x-kept", "1")]));
}

#[tokio::test]
async fn the_built_in_filter_changes_headers_both_ways() {
    let change = |value| HeaderModifier {
        set: vec![HeaderChange {
            name: HeaderName::from_static("x-mesh"),
            value: HeaderValue::from_static(value),
        }],
        ..HeaderModifier::default()
    };
    let filter = Headers::new(Some(change("request")), Some(change("answer")));
    let mut run = Run::new(Chain::new(vec![Rc::new(filter)]), context());
    let (mut asked, mut answered) = (request(&[("x-mesh", "old")]), answer(&[]));
    run.request_headers(&mut asked).await.unwrap();
    run.response_headers(&mut answered).await.unwrap();
    assert_eq!(
        (&asked.headers["x-mesh"], &answered.headers["x-mesh"]),
        (&"request".parse().unwrap(), &"answer".parse().unwrap())
    );
    assert_eq!(Headers::default().phases(), Phases::NONE);
}

/// The chain is part of each request's future: it must stay small.
#[test]
fn a_run_and_its_futures_are_small() {
    assert!(size_of::<Run>() <= 120, "{}", size_of::<Run>());
    let mut parts = request(&[]);
    let mut run = run(Vec::new());
    let size = size_of_val(&run.request_headers(&mut parts));
    assert!(size <= 1_024, "{size}");
}
