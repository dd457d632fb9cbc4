//! Requests by a grammar, with bytes spoiled here and there, judged by the parsers behind the guard; and the inputs that
//! the fuzzer has found worth keeping.

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::fuzz;

/// Pieces of requests: right ones, and those that parsers are known to read differently.
fn line() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "GET /a?b#c HTTP/1.1\r\n",
        "GET http://a:80/ HTTP/1.1\r\n",
        "POST / HTTP/1.0\r\n",
        "POST /\\\"<>`^ HTTP/1.1\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "CONNECT a:443 HTTP/1.1\r\n",
        "GET / HTTP/1.1\n",
        "GET  / HTTP/1.1\r\n",
        "\r\nHEAD / HTTP/1.1\r\n",
        "\n\r\n\nHEAD / HTTP/1.1\r\n",
        "GET   a:b   HTTP/1.1\r\n",
        "A!#$%&'*+-.^_`|~0 \\s HTTP/1.0\n",
        "GET \u{e9} HTTP/1.1\r\n",
        "*1 key\r\n",
    ])
}

fn field() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "Accept: */*\r\n",
        "X: \t a b\t \r\n",
        "Empty:\r\n",
        "Cookie: a=\u{e9}\r\n",
        "Connection: close\r\n",
        "Connection: keep-alive, x\r\n",
        "Upgrade: websocket\r\n",
        "Expect: 100-continue\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 0\r\n",
        "content-length : 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: x\r\n",
        "X: y\r\n z\r\n",
        "X: y\n",
    ])
}

fn body() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "",
        "abc",
        "3\r\nabc\r\n0\r\n\r\n",
        "3;x=y\r\nabc\r\n0A\r\n0123456789\r\n0\r\nT: u\r\n\r\n",
        "0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "03 \r\nabc\r\n0\r\n\r\n",
        "0\r\nContent-Length: 3\r\n\r\n",
    ])
}

/// A request of a given framing or of none in particular; most of them without a fault, or nothing else would be tried.
fn request() -> impl Strategy<Value = String> {
    let whole = prop::sample::select(vec![
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    ]);
    let mixed = (line(), prop::bool::weighted(0.9), vec(field(), 0..4), body()).prop_map(
        |(line, host, fields, body)| {
            let host = if host { "Host: a\r\n" } else { "" };
            format!("{line}{host}{}\r\n{body}", fields.concat())
        },
    );
    prop_oneof![2 => whole.prop_map(str::to_owned), 3 => mixed]
}

/// A connection, cut short or spoiled in up to three places.
fn connection() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![prop::sample::select(b"\r\n\0 \t:;,/0aG\x7f\x80\xff".to_vec()), any::<u8>()];
    let spoil = (any::<prop::sample::Index>(), 0..3u8, byte);
    (vec(request(), 1..5), vec(spoil, 0..4), any::<prop::sample::Index>(), prop::bool::weighted(0.2))
        .prop_map(|(requests, spoils, end, cut)| {
            let mut bytes = requests.concat().into_bytes();
            for (at, how, byte) in spoils.into_iter().skip_while(|(at, ..)| at.index(3) == 0) {
                let at = at.index(bytes.len());
                match how {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ => drop(bytes.remove(at)),
                }
            }
            if cut {
                bytes.truncate(end.index(bytes.len() + 1));
            }
            bytes
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_guard_accepts_is_read_alike_behind_it(bytes in connection()) {
        fuzz::check(&bytes);
    }
}

#[test]
fn what_the_fuzzer_has_found_is_still_read_alike() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/guard");
    let entries = fs::read_dir(&corpus).expect("the corpus is part of the repository");
    let mut count = 0;
    for entry in entries {
        fuzz::check(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "no inputs in {}", corpus.display());
}
