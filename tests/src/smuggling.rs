//! What smugglers send over HTTP/1, and how each is to be refused, whichever way it comes in.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a harness makes its test fail by panicking")]

use std::collections::BTreeMap;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::mesh::{PATIENCE, Pod, Record, until};

/// The rule that a request breaks, and the request.
pub type Specimen = (&'static str, String);

/// Limits of the sidecar, so that each can be reached by itself. A field line may have 32 KiB.
pub const LIMITS: &str = "limits: { headerBytes: 40000, headerCount: 20, requestLineBytes: 1024 }";

/// A request whose head says more than where it goes.
fn with_fields(fields: &str, body: &str) -> String {
    format!("POST /smuggled HTTP/1.1\r\nHost: orders.shop\r\n{fields}\r\n{body}")
}

/// A request in chunks.
#[must_use]
pub fn chunked(body: &str) -> String {
    with_fields("Transfer-Encoding: chunked\r\n", body)
}

/// Lengths that could be read in two ways.
#[must_use]
pub fn lengths() -> Vec<Specimen> {
    let inner = "GET /smuggled HTTP/1.1\r\nHost: orders.shop\r\n\r\n";
    let length = |fields: &str| with_fields(fields, inner);
    vec![
        ("duplicate_content_length", length("Content-Length: 0\r\nContent-Length: 47\r\n")),
        ("duplicate_content_length", length("Content-Length: 47\r\ncontent-length: 47\r\n")),
        ("malformed_content_length", length("Content-Length: 0, 47\r\n")),
        ("malformed_content_length", length("Content-Length: +47\r\n")),
        ("malformed_content_length", length("Content-Length: -1\r\n")),
        ("malformed_content_length", length("Content-Length: 0x2f\r\n")),
        ("malformed_content_length", length("Content-Length: 4 7\r\n")),
        ("malformed_content_length", length("Content-Length:\r\n")),
        ("malformed_content_length", length("Content-Length: 18446744073709551663\r\n")),
    ]
}

/// Encodings that some would not see.
#[must_use]
pub fn encodings() -> Vec<Specimen> {
    let encoding = |fields: &str| with_fields(fields, "0\r\n\r\n");
    vec![
        ("transfer_encoding_with_length", encoding("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")),
        ("transfer_encoding_with_length", encoding("Transfer-Encoding: chunked\r\nContent-Length: 50\r\n")),
        ("malformed_transfer_encoding", encoding("Transfer-Encoding: xchunked\r\n")),
        ("malformed_transfer_encoding", encoding("Transfer-Encoding: identity\r\n")),
        ("malformed_transfer_encoding", encoding("Transfer-Encoding: gzip, chunked\r\n")),
        ("malformed_transfer_encoding", encoding("Transfer-Encoding: chunked, identity\r\n")),
        ("malformed_transfer_encoding", encoding("Transfer-Encoding: \"chunked\"\r\n")),
        ("malformed_transfer_encoding", encoding("Transfer-Encoding:\tchunked\r\n")),
        ("malformed_transfer_encoding", encoding("Transfer-Encoding:\r\n chunked\r\n")),
        (
            "duplicate_transfer_encoding",
            encoding("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        ),
        ("space_before_colon", encoding("Transfer-Encoding : chunked\r\n")),
        ("control_byte", encoding("Transfer-Encoding: \x0bchunked\r\n")),
        ("bare_lf", encoding("X: y\nTransfer-Encoding: chunked\r\n")),
        (
            "transfer_encoding_in_http10",
            encoding("Transfer-Encoding: chunked\r\n").replace("HTTP/1.1", "HTTP/1.0"),
        ),
    ]
}

fn lines() -> Vec<Specimen> {
    let head = |text: &str| format!("{text}\r\n\r\n");
    vec![
        ("bare_lf", "GET /smuggled HTTP/1.1\nHost: orders.shop\n\n".to_owned()),
        ("bare_lf", with_fields("", "").replace("shop\r\n\r\n", "shop\r\n\n")),
        ("bare_cr", with_fields("X: y\rTransfer-Encoding: chunked\r\n", "")),
        ("bare_cr", "GET /smuggled HTTP/1.1\rHost: orders.shop\r\n\r\n".to_owned()),
        ("obs_fold", with_fields("X: y\r\n z\r\n", "")),
        ("obs_fold", with_fields("X: y\r\n\tz\r\n", "")),
        ("control_byte", with_fields("X: y\0z\r\n", "")),
        ("control_byte", with_fields("X\0: y\r\n", "")),
        ("control_byte", head("GET /smuggled\0 HTTP/1.1\r\nHost: orders.shop")),
        ("space_before_colon", with_fields("Content-Length : 5\r\n", "abcde")),
        ("empty_field_name", with_fields(": y\r\n", "")),
        ("malformed_field_name", with_fields("nocolon\r\n", "")),
        ("malformed_version", head("GET /smuggled HTTP/1.2\r\nHost: orders.shop")),
        ("malformed_version", head("GET /smuggled HTTP/1.1 \r\nHost: orders.shop")),
        ("malformed_target", head("GET  /smuggled HTTP/1.1\r\nHost: orders.shop")),
        ("malformed_target", head("GET \\smuggled HTTP/1.1\r\nHost: orders.shop")),
        ("malformed_target", head("GET smuggled HTTP/2.0\r\nHost: orders.shop")),
        ("malformed_target", "GET smuggled HTTP/1.1\nHost: orders.shop\n\n".to_owned()),
        ("malformed_method", head("GET\t/smuggled HTTP/1.1\r\nHost: orders.shop")),
        ("malformed_method", head(" GET /smuggled HTTP/1.1\r\nHost: orders.shop")),
        ("control_byte", head("GET\0 /smuggled HTTP/1.1\r\nHost: orders.shop")),
        ("control_byte", head("\0GET /smuggled HTTP/1.1\r\nHost: orders.shop")),
        ("bare_lf", head("\nGET /smuggled HTTP/1.1\r\nHost: orders.shop")),
        ("leading_empty_lines", head("\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: orders.shop")),
        // Longer than what detection reads.
        (
            "leading_empty_lines",
            head(&format!("{}GET /smuggled HTTP/1.1\r\nHost: orders.shop", "\r\n".repeat(5000))),
        ),
        ("missing_host", head("GET /smuggled HTTP/1.1")),
        ("duplicate_host", with_fields("Host: orders.shop\r\n", "")),
        ("malformed_host", head("GET /smuggled HTTP/1.1\r\nHost: orders.shop, other.shop")),
    ]
}

/// Chunks that could end elsewhere.
#[must_use]
pub fn chunks() -> Vec<Specimen> {
    vec![
        ("malformed_chunk_size", chunked("x\r\n")),
        ("malformed_chunk_size", chunked("0x3\r\nabc\r\n0\r\n\r\n")),
        ("malformed_chunk_size", chunked("-3\r\nabc\r\n0\r\n\r\n")),
        ("malformed_chunk_size", chunked("3 \r\nabc\r\n0\r\n\r\n")),
        ("malformed_chunk_size", chunked("00000000000000003\r\nabc\r\n0\r\n\r\n")),
        ("chunk_size_overflow", chunked("ffffffffffffffff\r\nabc")),
        ("malformed_chunk_end", chunked("3\r\nabcd\r\n0\r\n\r\n")),
        ("bare_lf", chunked("3\nabc\r\n0\r\n\r\n")),
        ("bare_lf", chunked("0\r\n\n")),
        ("control_byte", chunked("3;a\0\r\nabc\r\n0\r\n\r\n")),
        ("forbidden_trailer", chunked("0\r\nContent-Length: 5\r\n\r\n")),
    ]
}

fn sizes() -> Vec<Specimen> {
    let many = |count: usize, length: usize| -> String {
        (0..count).map(|n| format!("X-{n}: {}\r\n", "v".repeat(length))).collect()
    };
    vec![
        ("request_line_too_long", format!("GET /{} HTTP/1.1\r\nHost: orders.shop\r\n\r\n", "p".repeat(1024))),
        // Without an end that would show how long it is.
        ("request_line_too_long", format!("GET /{}", "p".repeat(2000))),
        ("field_line_too_long", with_fields(&format!("X: {}\r\n", "v".repeat(33_000)), "")),
        ("head_too_large", with_fields(&many(10, 5000), "")),
        ("too_many_fields", with_fields(&many(20, 1), "")),
        ("too_many_trailers", chunked(&format!("0\r\n{}\r\n", many(60, 1)))),
    ]
}

/// All of them.
#[must_use]
pub fn specimens() -> Vec<Specimen> {
    [lengths(), encodings(), lines(), chunks(), sizes()].concat()
}

fn status(rule: &str) -> &'static str {
    if rule.contains("too_long") || rule.contains("too_many") || rule.contains("too_large") {
        "431"
    } else {
        "400"
    }
}

/// Sends each on a connection of its own: it is refused by the name of the rule that it breaks, its connection is closed, it
/// is counted and logged by the sidecar of `pod`, and nothing of it reaches the application, whose record is `seen`.
pub async fn are_refused<S>(pod: &Pod, seen: &Record, connect: impl AsyncFn() -> S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let specimens = specimens();
    let mut expected = BTreeMap::<&str, f64>::new();
    for (rule, bytes) in &specimens {
        assert_refused(rule, bytes, &exchange(connect().await, bytes).await);
        *expected.entry(rule).or_default() += 1.0;
    }
    assert!(specimens.len() >= 50, "{}", specimens.len());
    for (rule, count) in expected {
        pod.metric_reaches("trama_guard_refusals_total", &[("kind", rule)], count).await;
        assert_eq!(pod.metric("trama_guard_refusals_total", &[("kind", rule)]).await, count, "{rule}");
    }
    // Each has left a line too.
    for (reason, status) in [("malformed_request", 400), ("headers_too_large", 431)] {
        let expected = specimens.iter().filter(|(rule, _)| self::status(rule) == status.to_string()).count();
        let like = |e: &serde_json::Value| e["reason"] == reason && e["status"] == status;
        let lines = || async { (pod.log().into_iter().filter(like).count() == expected).then_some(()) };
        until(&format!("{expected} lines say {reason}"), lines).await;
    }
    let entry = &pod.log()[0];
    let (detail, protocol) = ("duplicate_content_length".into(), "http/1.1".into());
    assert_eq!((&entry["detail"], &entry["protocol"]), (&detail, &protocol), "{entry}");
    // What is as it should be arrives: the silence above was not a broken way.
    let honest = "GET /honest HTTP/1.1\r\nHost: orders.shop\r\nConnection: close\r\n\r\n";
    assert!(exchange(connect().await, honest).await.starts_with("HTTP/1.1 200 "));
    let paths: Vec<String> = seen.all().iter().map(|seen| seen.uri.path().to_owned()).collect();
    assert_eq!(paths, ["/honest"]);
}

/// Sends the bytes and hears the connection out, without closing its own side: the sidecar has to.
pub async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &str) -> String {
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    rest(&mut stream, bytes).await
}

/// What still comes until the sidecar closes.
pub async fn rest(stream: &mut (impl AsyncRead + Unpin), sent: &str) -> String {
    let mut heard = Vec::new();
    let hearing = timeout(PATIENCE, stream.read_to_end(&mut heard)).await;
    let hearing = hearing.unwrap_or_else(|_| panic!("the connection stays open after {sent:?}"));
    hearing.unwrap_or_else(|error| panic!("{error} after {sent:?}"));
    String::from_utf8(heard).unwrap()
}

/// The answer refuses what was sent, by the name of this rule, and nothing follows it.
pub fn assert_refused(rule: &str, sent: &str, answer: &str) {
    let sent: String = sent.chars().take(500).collect();
    let status = status(rule);
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{rule}: {answer:?} to {sent:?}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("\r\nconnection: close"), "{rule}: {head}");
    assert!(body.starts_with(&format!("{rule}: ")), "{rule}: {body:?} to {sent:?}");
    assert!(
        head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())),
        "{rule}: more follows: {answer}"
    );
}
