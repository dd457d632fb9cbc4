//! The peers do what the suites rely on, before any sidecar stands between them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use trama_tests::peers::{App, Curl, GoClient, Here, TcpApp};

const PATIENCE: Duration = Duration::from_secs(20);
const SHA256_OF_1000_X: &str = "44f8354494a5ba03ba1792a8d3e9c534c47a9181980fde7a3f44b06ef2ae7c7f";

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn both_applications_have_the_same_pages() {
    let here = Here::new().unwrap();
    let apps = [App::python(&here, "sao-paulo/a", 0).unwrap(), App::go(&here, "sao-paulo/a", 0).unwrap()];
    for app in &apps {
        let url = |page: &str| format!("http://{}{page}", app.address);
        let get = |page: &str| Curl::get(&url(page)).run(&here, PATIENCE).unwrap();
        let hello = get("/");
        assert_eq!(
            (hello.status, hello.version.as_str(), hello.exit),
            (200, "1.1", 0),
            "{}",
            hello.complaint
        );
        assert_eq!(hello.header("x-served-by"), Some("sao-paulo/a"));
        assert_eq!(hello.text(), "hello from sao-paulo/a\n");
        assert_eq!(get("/bytes/100000").body.len(), 100_000);
        assert_eq!(get("/status/418").status, 418);
        assert_eq!(get("/status/204").status, 204);
        assert_eq!(get("/slow/5").text(), "slept\n");
        assert_eq!(get("/hints").text(), "after the hints\n");
        let told = Curl::get(&url("/headers?q")).header("x-a", "b").run(&here, PATIENCE).unwrap();
        let told = json(&told.text());
        assert_eq!((&told["protocol"], &told["path"]), (&"HTTP/1.1".into(), &"/headers?q".into()));
        assert!(told["headers"].as_array().unwrap().contains(&serde_json::json!(["x-a", "b"])), "{told}");
        for framing in ["x-any: y", "transfer-encoding: chunked"] {
            let echo = Curl::get(&url("/echo")).body("to and fro").option(&["--header", framing]);
            assert_eq!(echo.run(&here, PATIENCE).unwrap().text(), "to and fro", "{framing}");
        }
        // A page that reads before it answers: curl would wait a minute for the interim answer.
        let continued = Curl::get(&url("/trailers")).body("x").header("expect", "100-continue");
        let continued = continued.option(&["--expect100-timeout", "60"]).run(&here, PATIENCE).unwrap();
        assert_eq!((continued.status, continued.exit), (200, 0), "{}", continued.complaint);
    }
}

#[test]
fn trailers_go_both_ways_over_both_versions() {
    let here = Here::new().unwrap();
    let (python, go) = (App::python(&here, "p", 0).unwrap(), App::go(&here, "g", 0).unwrap());
    let url = |app: &App| format!("http://{}/trailers", app.address);
    for client in [GoClient::h1(&url(&python)), GoClient::h1(&url(&go)), GoClient::h2c(&url(&go))] {
        let answer = client.body(1000).trailers().run(&here, PATIENCE).unwrap().remove(0);
        assert_eq!(answer.trailer("x-last"), Some("yes"), "{answer:?}");
        assert_eq!(answer.trailer("x-body-sha256"), Some(SHA256_OF_1000_X));
        assert_eq!(json(&answer.body)["trailers"], serde_json::json!([["x-sent", "yes"]]));
    }
}

#[test]
fn http2_is_spoken_with_prior_knowledge_and_streams_both_ways() {
    let here = Here::new().unwrap();
    let go = App::go(&here, "g", 0).unwrap();
    let url = |page: &str| format!("http://orders.shop:8080{page}");
    let answers = GoClient::h2c(&url("/headers"))
        .dial(go.address)
        .header("x-a", "b")
        .repeat(3)
        .run(&here, PATIENCE)
        .unwrap();
    assert_eq!(answers.len(), 3);
    assert_eq!((answers[0].protocol.as_str(), answers[0].header("x-served-by")), ("HTTP/2.0", Some("g")));
    assert_eq!(json(&answers[0].body)["authority"], "orders.shop:8080");
    let duplex = GoClient::duplex(&url("/echo"), 20).dial(go.address).run(&here, PATIENCE).unwrap().remove(0);
    assert_eq!((duplex.rounds, duplex.status), (20, 200));
    let hints = GoClient::h2c(&url("/hints")).dial(go.address).run(&here, PATIENCE).unwrap().remove(0);
    assert_eq!(hints.interim, Some(vec![103]));
    let curl = Curl::get(&url("/")).http2().dial(go.address).run(&here, PATIENCE).unwrap();
    assert_eq!((curl.version.as_str(), curl.status), ("2", 200), "{}", curl.complaint);
}

#[test]
fn a_killed_application_leaves_the_posts_that_arrived() {
    let here = Here::new().unwrap();
    let mut app = App::python(&here, "p", 0).unwrap();
    let mut connection = TcpStream::connect(app.address).unwrap();
    connection
        .write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\nx-post-id: one\r\ncontent-length: 9\r\n\r\n")
        .unwrap();
    // The echo's head is the answer to the request's head; its body never comes.
    BufReader::new(&connection).read_line(&mut String::new()).unwrap();
    app.process.kill_hard();
    assert_eq!(app.posts(), ["one"]);
    let refused = Curl::get(&format!("http://{}/", app.address)).run(&here, PATIENCE).unwrap();
    assert_eq!((refused.exit, refused.status), (7, 0));
    assert!(refused.complaint.contains("connect"), "{}", refused.complaint);
}

#[test]
fn tcp_applications_speak_first_or_echo() {
    let here = Here::new().unwrap();
    let banner = TcpApp::banner(&here, "mail", 0).unwrap();
    let mut mail = TcpStream::connect(banner.address).unwrap();
    let mut lines = BufReader::new(mail.try_clone().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "220 mail ready");
    mail.write_all(b"HELO me\r\nQUIT\r\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "250 HELO me");
    assert_eq!(lines.next().unwrap().unwrap(), "221 mail bye");
    assert!(lines.next().is_none());

    let echo = TcpApp::echo(&here, "echo", 0).unwrap();
    let mut stream = TcpStream::connect(echo.address).unwrap();
    stream.write_all(b"all of it").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = String::new();
    stream.read_to_string(&mut back).unwrap();
    assert_eq!(back, "all of it");
}
