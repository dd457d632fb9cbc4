//! hyper behind the guard, as the sidecar runs it: what the service is asked, and what is on the wire.

use std::cell::RefCell;
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::LINK;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::super::{Guard, InFlight, Kind, Limits, Violation, fuzz, response};
use super::specimens::{Fate, SPECIMENS};

/// Far more than any of these tests takes: it only ends one that hangs.
const DEADLINE: Duration = Duration::from_secs(20);

const LARGE: usize = 100_000;

/// What the service was asked: the path, and the body or the rule that it broke.
type Asked = Vec<(String, Result<Vec<u8>, Option<Kind>>)>;

type Answer = Pin<Box<dyn Body<Data = Bytes, Error = Infallible>>>;

/// Serves a connection as the owner does, and answers what was refused.
async fn serve(io: DuplexStream, asked: &RefCell<Asked>) {
    let (guard, handle) = Guard::new(io, Limits::default());
    let service = service_fn(|request| respond(request, handle.request_started(), asked));
    let mut builder = http1::Builder::new();
    let mut connection = builder.auto_date_header(false).serve_connection(TokioIo::new(guard), service);
    // A body that breaks a rule fails the connection; the service has seen it.
    let _ = handle.run(Pin::new(&mut connection)).await;
    if let Some(violation) = handle.answer_due() {
        let (io, _) = connection.into_parts().io.into_inner().into_parts();
        let answer = response::whole(violation.reason(), violation);
        response::refuse(io, &answer, DEADLINE).await.unwrap();
    }
}

async fn respond(
    request: Request<Incoming>,
    in_flight: InFlight,
    asked: &RefCell<Asked>,
) -> Result<Response<Answer>, Infallible> {
    let (version, path) = (request.version(), request.uri().path().to_owned());
    if path == "/hints" {
        let hints = HeaderMap::from_iter([(LINK, HeaderValue::from_static("</a.css>"))]);
        in_flight.send_interim(version, StatusCode::EARLY_HINTS, &hints).await;
    }
    let body = request.into_body().collect().await;
    let body = body.map(|body| body.to_bytes().to_vec()).map_err(|error| broken_rule(&error));
    let status = if body.is_ok() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    asked.borrow_mut().push((path.clone(), body));
    let size = if path == "/large" { LARGE } else { 1 };
    let body = Full::<Bytes>::from(format!("{path}{}\r\n", "~".repeat(size))).map_frame(move |frame| {
        let _until_the_end = &in_flight;
        frame
    });
    Ok(Response::builder().status(status).body(Box::pin(body) as Answer).unwrap())
}

/// The violation at the bottom of what hyper makes of a failed read.
fn broken_rule(error: &hyper::Error) -> Option<Kind> {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = source {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(violation) = inner.and_then(|error| error.downcast_ref::<Violation>()) {
            return Some(violation.kind);
        }
        source = error.source();
    }
    None
}

/// Sends the pieces, each when the server has had its turn on the one before, and hears the answers out without closing
/// its side.
async fn ask(io: DuplexStream, pieces: &[&[u8]]) -> String {
    let (mut read, mut write) = tokio::io::split(io);
    let mut wire = Vec::new();
    let send = async {
        for piece in pieces {
            // The server may have closed before it has read all.
            let _ = write.write_all(piece).await;
            tokio::task::yield_now().await;
        }
    };
    let (_, heard) = tokio::join!(send, read.read_to_end(&mut wire));
    heard.unwrap();
    String::from_utf8(wire).unwrap()
}

/// The wire and what the service was asked.
fn run(pieces: &[&[u8]], buffer: usize) -> (String, Asked) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let asked = RefCell::default();
    let (theirs, ours) = tokio::io::duplex(buffer);
    let both = async { tokio::join!(ask(theirs, pieces), serve(ours, &asked)).0 };
    let wire =
        runtime.block_on(async { tokio::time::timeout(DEADLINE, both).await }).expect("the server hangs");
    (wire, asked.into_inner())
}

#[test]
fn a_refused_specimen_is_never_served_and_gets_its_status_and_the_end() {
    for specimen in SPECIMENS {
        let Fate::Refused(before, kind) = specimen.fate else { continue };
        let violation = Violation::from(kind);
        let (wire, asked) = run(&[specimen.bytes.as_bytes()], 64 * 1024);
        assert_eq!(asked.len(), before, "{:?}", specimen.bytes);
        let answers: Vec<_> =
            wire.split("\r\n").filter_map(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)).collect();
        let (last, earlier) = answers.split_last().unwrap();
        let status = violation.reason().status().as_u16().to_string();
        assert_eq!(*last, status, "{:?}: {wire}", specimen.bytes);
        assert!(earlier.iter().all(|status| *status == "200"), "{:?}: {wire}", specimen.bytes);
        assert_eq!(earlier.len(), before, "{:?}: {wire}", specimen.bytes);
        let own = String::from_utf8(response::whole(violation.reason(), violation)).unwrap();
        assert!(wire.ends_with(&own) && own.contains("\r\nconnection: close\r\n"), "{wire}");
    }
}

#[test]
fn every_specimen_is_read_alike_by_the_guard_and_by_what_is_behind_it() {
    for specimen in SPECIMENS {
        fuzz::check(specimen.bytes.as_bytes());
    }
}

#[test]
fn earlier_requests_of_a_pipeline_are_answered_in_order_however_slow_the_reader() {
    let pipeline =
        b"GET /large HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab\
        GET /large HTTP/1.1\r\nHost: a\r\n\r\nGET /4 HTTP/1.1\nHost: a\r\n\r\n";
    for buffer in [1, 100, 4096, 1 << 20] {
        let (wire, asked) = run(&[pipeline], buffer);
        let paths: Vec<_> = asked.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["/large", "/2", "/large"]);
        let large = format!("/large{}", "~".repeat(LARGE));
        let places: Vec<_> = [large.as_str(), "/2~", large.as_str(), "HTTP/1.1 400 "]
            .iter()
            .scan(0, |from, text| {
                *from += wire[*from..].find(text).expect("an answer is missing or cut") + text.len();
                Some(*from)
            })
            .collect();
        assert_eq!(places.len(), 4);
        assert!(wire.ends_with("bare_lf: a line must end in CR LF, not in LF alone\n"), "{buffer}");
    }
}

#[test]
fn a_body_that_breaks_a_rule_after_its_head_was_served_fails_with_the_rule() {
    let head = b"POST /late HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n";
    let (wire, asked) = run(&[head, b"zz\r\n"], 64 * 1024);
    assert_eq!(asked, [("/late".to_owned(), Err(Some(Kind::MalformedChunkSize)))]);
    assert!(wire.starts_with("HTTP/1.1 400 ") && wire.matches("HTTP/1.1 ").count() == 1, "{wire}");
}

#[test]
fn a_message_whose_head_was_cut_in_two_is_withheld_for_its_body() {
    let head: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-";
    let (wire, asked) = run(&[head, b"Encoding: chunked\r\n\r\n1\r\nab"], 64 * 1024);
    assert!(asked.is_empty());
    assert!(wire.starts_with("HTTP/1.1 400 ") && wire.ends_with("followed by CR LF\n"), "{wire}");
}

#[test]
fn an_interim_answer_stands_between_the_answers_of_a_pipeline() {
    let pipeline = b"GET /large HTTP/1.1\r\nHost: a\r\n\r\nGET /hints HTTP/1.1\r\nHost: a\r\n\r\n\
        GET /hints HTTP/1.0\r\n\r\n";
    for buffer in [1, 4096, 1 << 20] {
        let (wire, _) = run(&[pipeline], buffer);
        let (before, after) =
            wire.split_once("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n").expect("the hints");
        assert!(before.len() > LARGE && before.ends_with("~\r\n\r\n0\r\n\r\n"), "it cut the answer before");
        assert!(after.starts_with("HTTP/1.1 200 OK\r\n"), "{after}");
        assert!(!after.contains(" 103 "), "HTTP/1.0 got one: {after}");
    }
}
