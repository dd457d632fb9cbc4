//! What smugglers send over HTTP/2, frame by frame, to a whole sidecar whose application speaks HTTP/1: a second
//! framing of the message, or a second authority. Each is refused, and nothing of it reaches the application.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use trama_tests::frames::{CANCEL, Frames, PROTOCOL_ERROR, Said};
use trama_tests::mesh::{Application, EXPLICIT, Mesh, PATIENCE, Payload, Record, Speaks, until};

const INNER: &[u8] = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: orders.shop\r\n\r\n";

type Fields = &'static [(&'static str, &'static str)];

/// How a request is refused.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Refusal {
    /// By the codec: the stream is reset.
    Reset,
    /// By us: 400.
    Answer,
}

/// What is wrong with a request, the fields that say it after the usual ones, and what becomes of it.
const SPECIMENS: [(&str, Fields, Refusal); 14] = [
    ("H2.TE", &[("transfer-encoding", "chunked")], Refusal::Reset),
    ("H2.TE, in capitals", &[("Transfer-Encoding", "chunked")], Refusal::Reset),
    ("H2.TE behind a line end", &[("x", "y\r\ntransfer-encoding: chunked")], Refusal::Reset),
    ("H2.TE in a name", &[("x: y\r\ntransfer-encoding", "chunked")], Refusal::Reset),
    ("H2.CL, too small", &[("content-length", "0")], Refusal::Reset),
    ("H2.CL, two", &[("content-length", "50"), ("content-length", "0")], Refusal::Reset),
    ("H2.CL, two that are equal", &[("content-length", "50"), ("content-length", "50")], Refusal::Answer),
    ("H2.CL, a list", &[("content-length", "50, 50")], Refusal::Reset),
    ("H2.CL, signed", &[("content-length", "+50")], Refusal::Reset),
    ("connection", &[("connection", "content-length")], Refusal::Reset),
    ("two hosts", &[("host", "a"), ("host", "b")], Refusal::Answer),
    ("a host with a line end", &[("host", "a\r\nx: y")], Refusal::Reset),
    ("a pseudo field after others", &[("x", "y"), (":path", "/other")], Refusal::Reset),
    ("an unknown pseudo field", &[(":protocol", "websocket")], Refusal::Reset),
];

async fn mesh() -> (Mesh, Record) {
    limited("").await
}

async fn limited(config: &str) -> (Mesh, Record) {
    let (application, seen) = Application::recording("orders");
    let mesh = Mesh::builder()
        .pod("orders", |p| p.serves("shop/orders").plain().application(&application))
        .pod("storefront", |p| p.config(config))
        .policy(|p| p.protocol("shop/orders", "HTTP"));
    (mesh.start().await, seen)
}

async fn frames(mesh: &Mesh) -> Frames {
    let pod = mesh.pod("storefront");
    Frames::begin(pod.dial(pod.at(EXPLICIT)).await.unwrap()).await
}

/// What becomes of a request.
async fn fate(mesh: &Mesh, fields: &[(&str, &str)], body: &[u8]) -> Said {
    let mut frames = frames(mesh).await;
    frames.head(1, fields, body.is_empty()).await.unwrap();
    if !body.is_empty() {
        // It may be refused before its body has left.
        frames.data(1, body, true).await.ok();
    }
    frames.hear().await
}

fn refused(refusal: Refusal, said: Said) -> bool {
    match refusal {
        Refusal::Reset => matches!(said, Said::Reset(1, PROTOCOL_ERROR) | Said::GoAway(_, PROTOCOL_ERROR)),
        Refusal::Answer => said == Said::Head(1, 400),
    }
}

#[tokio::test]
async fn a_second_framing_or_authority_is_refused_and_never_forwarded() {
    let (mesh, seen) = mesh().await;
    let usual = [(":method", "POST"), (":scheme", "http"), (":path", "/outer")];
    for (name, fields, refusal) in SPECIMENS {
        let authority: &[_] = if name == "two hosts" { &[] } else { &[(":authority", "orders.shop")] };
        let fields = [&usual[..], authority, fields].concat();
        let said = fate(&mesh, &fields, INNER).await;
        assert!(refused(refusal, said), "{name}: {said:?}");
    }
    // What is as it should be arrives: the silence was not a broken way.
    let mut honest = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
    assert_eq!(honest.post("/honest", INNER).await.status.as_u16(), 200);
    assert_eq!((seen.of("/smuggled").len(), seen.of("/honest").len()), (0, 1), "{:?}", seen.all());
    // A head that says 0 may be on its way before its body turns out to be longer; of that nothing follows.
    let outer = seen.of("/outer");
    assert!(outer.len() <= 1 && outer.iter().all(|seen| seen.body.is_empty()), "{outer:?}");
    let refused = SPECIMENS.iter().filter(|s| s.2 == Refusal::Answer).count();
    let lines = || async {
        let logged = mesh.pod("storefront").log();
        let count = logged.iter().filter(|e| e["reason"] == "malformed_request").count();
        (count == refused).then_some(())
    };
    until("a line for each that was answered", lines).await;
}

#[tokio::test]
async fn an_authority_that_http1_cannot_say_is_refused() {
    let (mesh, seen) = mesh().await;
    let usual = [(":method", "GET"), (":scheme", "http"), (":path", "/smuggled")];
    for (name, fields) in [
        ("a user", &[(":authority", "user@orders.shop")][..]),
        ("a user in Host", &[("host", "user@orders.shop")]),
        ("a space", &[("host", "orders.shop x")]),
        ("a list", &[("host", "orders.shop, other")]),
        ("a path", &[("host", "orders.shop/x")]),
        ("none", &[]),
    ] {
        let fields = [&usual[..], fields].concat();
        let said = fate(&mesh, &fields, b"").await;
        assert!(refused(Refusal::Answer, said) || refused(Refusal::Reset, said), "{name}: {said:?}");
    }
    assert!(seen.all().is_empty(), "{:?}", seen.all());
}

const TWENTY_FIELDS: &str = "limits: { headerCount: 20 }";

#[tokio::test]
async fn more_fields_than_are_allowed_are_refused() {
    let (mesh, seen) = limited(TWENTY_FIELDS).await;
    for (count, status) in [(20, 200), (21, 431)] {
        let path = format!("/{count}");
        let usual =
            [(":method", "GET"), (":scheme", "http"), (":path", &*path), (":authority", "orders.shop")];
        // Of one name: each counts.
        let fields = [&usual[..], &vec![("x-many", "1"); count]].concat();
        assert_eq!(fate(&mesh, &fields, b"").await, Said::Head(1, status), "{count} fields");
    }
    let entry = mesh.pod("storefront").logged("/21").await;
    assert_eq!((&entry["reason"], &entry["status"]), (&"headers_too_large".into(), &431.into()), "{entry}");
    assert_eq!((seen.of("/20").len(), seen.of("/21").len()), (1, 0));
    // The crumbs of a cookie are one field.
    for (count, status) in [(19, 200), (20, 431)] {
        let usual =
            [(":method", "GET"), (":scheme", "http"), (":path", "/crumbs"), (":authority", "orders.shop")];
        let fields = [&usual[..], &vec![("cookie", "a=1"); 30], &vec![("x-many", "1"); count]].concat();
        assert_eq!(fate(&mesh, &fields, b"").await, Said::Head(1, status), "{count} fields and a cookie");
    }
}

#[tokio::test]
async fn what_one_sidecar_lets_through_has_not_too_many_fields_for_the_next() {
    let (application, seen) = Application::recording("orders");
    let mesh = Mesh::builder()
        .pod("orders", |p| p.serves("shop/orders").application(&application).config(TWENTY_FIELDS))
        .pod("storefront", |p| p.config(TWENTY_FIELDS))
        .policy(|p| {
            let sampled =
                "kind: Telemetry\nmetadata: { name: mesh }\nspec: { tracing: { samplingPercent: 100 } }\n";
            let request = adding("OUTBOUND", "requestHeaderModifier");
            p.more(&[sampled, &request, &adding("INBOUND", "responseHeaderModifier")].join("---\n"));
        });
    let mesh = mesh.start().await;
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut client = mesh.pod("storefront").http(speaks, "orders.shop").await;
        let host = usize::from(speaks == Speaks::Http1);
        let request = (host..20).fold(client.request("GET", "/"), |r, n| r.header("x-many", n));
        let answer = client.call(request.body(Payload::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status.as_u16(), 200, "{speaks:?}: {}", answer.reason());
        assert_eq!(answer.headers.get_all("x-added").iter().count(), 16, "{speaks:?}");
    }
    assert_eq!(seen.all().len(), 2);
    assert!(seen.all().iter().all(|seen| seen.values("x-added").len() == 16));
}

/// A chain of filters that adds sixteen fields.
fn adding(direction: &str, filter: &str) -> String {
    let (name, fields) = (direction.to_lowercase(), "{ name: x-added, value: policy }, ".repeat(16));
    format!(
        "kind: PluginChain\nmetadata: {{ name: {name}, namespace: shop }}\nspec:\n  service: orders\n  \
         direction: {direction}\n  filters: [{{ {filter}: {{ add: [{fields}] }} }}]\n"
    )
}

#[tokio::test]
async fn an_answer_of_more_fields_than_are_allowed_is_none() {
    // The server of the test adds a date.
    let application = Application::http(|request| async move {
        let count: usize = request.uri().path()[1..].parse().unwrap();
        let answer = (1..count).fold(Response::builder(), |answer, n| answer.header("x-many", n));
        answer.body(Payload::empty()).unwrap()
    });
    // Filters of the other sidecar may have added as many again.
    for (meshed, most) in [(true, 40), (false, 20)] {
        let mesh = Mesh::builder()
            .pod("orders", |p| {
                let p = p.serves("shop/orders").application(&application);
                if meshed { p } else { p.plain() }
            })
            .pod("storefront", |p| p.config(TWENTY_FIELDS))
            .policy(|p| {
                p.protocol("shop/orders", "HTTP2");
                p.route("shop/orders", "retry: { attempts: 0 }");
            })
            .start()
            .await;
        let mut client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
        assert_eq!(client.get(&format!("/{most}")).await.status.as_u16(), 200, "meshed: {meshed}");
        let beyond = format!("/{}", most + 1);
        let answer = client.get(&beyond).await;
        assert_eq!(
            (answer.status.as_u16(), answer.reason()),
            (502, "upstream_malformed"),
            "meshed: {meshed}"
        );
        let entry = mesh.pod("storefront").logged(&beyond).await;
        assert!(entry["detail"].as_str().unwrap().contains("limits.headerCount"), "{entry}");
    }
}

fn trailers(count: usize) -> Option<HeaderMap> {
    // Of one name: each counts.
    let field = (HeaderName::from_static("x-many"), HeaderValue::from_static("1"));
    Some(std::iter::repeat_n(field, count).collect())
}

#[tokio::test]
async fn trailers_of_more_fields_than_are_allowed_are_refused() {
    let (mesh, seen) = limited(TWENTY_FIELDS).await;
    let mut client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
    for (count, status) in [(20, 200), (21, 431)] {
        let request = client.request("POST", &format!("/{count}"));
        let request = request.body(Payload::with_trailers("an order", trailers(count))).unwrap();
        assert_eq!(client.call(request).await.unwrap().status.as_u16(), status, "{count} trailers");
    }
    let entry = mesh.pod("storefront").logged("/21").await;
    assert_eq!((&entry["reason"], &entry["status"]), (&"headers_too_large".into(), &431.into()), "{entry}");
    assert_eq!((seen.of("/20").len(), seen.of("/21").len()), (1, 0));
}

/// Its head has been passed on by then, so the stream breaks off, and never looks whole.
#[tokio::test]
async fn an_answer_with_trailers_of_more_fields_than_are_allowed_breaks_off() {
    let application = Application::http(|request| async move {
        let count = request.uri().path()[1..].parse().unwrap();
        Response::new(Payload::with_trailers("an answer", trailers(count)))
    });
    let mesh = Mesh::builder()
        .pod("orders", |p| p.serves("shop/orders").plain().application(&application))
        .pod("storefront", |p| p.config(TWENTY_FIELDS))
        .policy(|p| p.protocol("shop/orders", "HTTP2"))
        .start()
        .await;
    let mut client = mesh.pod("storefront").http(Speaks::Http2, "orders.shop").await;
    let whole = client.get("/20").await;
    assert_eq!(whole.trailers.map(|trailers| trailers.len()), Some(20));
    let request = client.request("GET", "/21").body(Payload::empty()).unwrap();
    assert!(client.call(request).await.is_err(), "an answer with 21 trailers is whole");
    let entry = mesh.pod("storefront").logged("/21").await;
    assert_eq!(entry["reason"], "upstream_malformed", "{entry}");
}

#[tokio::test]
async fn connect_is_refused_by_name() {
    let (mesh, seen) = mesh().await;
    let said = fate(&mesh, &[(":method", "CONNECT"), (":authority", "orders.shop:80")], b"").await;
    assert_eq!(said, Said::Head(1, 501));
    let entry = mesh.pod("storefront").logged_where("CONNECT", |e| e["method"] == "CONNECT").await;
    assert_eq!(
        (&entry["reason"], &entry["authority"]),
        (&"upgrade_refused".into(), &"orders.shop:80".into())
    );
    assert!(seen.all().is_empty());
}

#[tokio::test]
async fn a_ping_keeps_its_connection_and_no_stream_on_which_nothing_moves() {
    const IDLE: Duration = Duration::from_secs(2);
    let application = Application::http(|request| async move {
        if request.uri().path() == "/silent" {
            std::future::pending::<()>().await;
        }
        Response::new(Payload::empty())
    });
    let mesh = Mesh::builder()
        .pod("orders", |p| p.serves("shop/orders").plain().application(&application))
        .pod("storefront", |p| p.config("timeouts: { streamIdle: 2s }"));
    let mesh = mesh.start().await;
    let mut frames = frames(&mesh).await;
    let get =
        |path| [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "orders.shop")];
    let began = Instant::now();
    frames.head(1, &get("/silent"), true).await.unwrap();
    // Nothing but PINGs, and each is answered: the stream ends in its time all the same.
    let ended = loop {
        frames.ping().await.unwrap();
        match frames.hear().await {
            Said::Pong => assert!(began.elapsed() < PATIENCE, "the stream is kept"),
            said => break said,
        }
    };
    assert_eq!(ended, Said::Reset(1, CANCEL));
    assert!(began.elapsed() >= IDLE, "{:?}", began.elapsed());
    let entry = mesh.pod("storefront").logged("/silent").await;
    assert_eq!(entry["reason"], "stream_idle", "{entry}");
    // The connection has no stream now, and is kept for longer than it would be in silence.
    let alone = Instant::now();
    while alone.elapsed() < 2 * IDLE {
        frames.ping().await.unwrap();
        while frames.hear().await != Said::Pong {}
    }
    frames.head(3, &get("/"), true).await.unwrap();
    let answer = loop {
        // One PING was still on its way when the stream ended.
        match frames.hear().await {
            Said::Pong => {}
            said => break said,
        }
    };
    assert_eq!(answer, Said::Head(3, 200));
}
