//! The program's own surface: what it says to bad input, what comes before what, and how it is asked to drain.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use trama_tests::authority::Authority;
use trama_tests::mesh::{Application, Mesh, PATIENCE, Speaks, Where};
use trama_tests::process::{self, Process};
use trama_tests::programs;

const GOOD: &str = "kind: Service\nmetadata: { name: orders }\nspec: { ports: [{ port: 80 }] }\n";

const ENDPOINTS: &str = "---\nkind: EndpointSet\nmetadata: { name: orders }\n\
                         spec: { service: orders, endpoints: [{ address: 127.0.0.1 }] }\n";

/// A run of the program in a folder that holds these files.
struct Run {
    _folder: tempfile::TempDir,
    command: Command,
}

impl Run {
    fn new(arguments: &[&str], files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let mut command = Command::new(programs::built("trama-sidecar").unwrap());
        command.args(arguments).current_dir(folder.path());
        Self { _folder: folder, command }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Exit code and what it printed, standard error last.
    fn end(mut self) -> (i32, String) {
        let output = process::run(&mut self.command, PATIENCE).unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    }
}

fn validate(config: &str, policy: &str) -> (i32, String) {
    let files = [("c.yaml", config), ("p.yaml", policy)];
    Run::new(&["--config", "c.yaml", "--policy", "p.yaml", "--validate"], &files).end()
}

#[test]
fn what_is_valid_is_called_so() {
    let policy = [GOOD, ENDPOINTS].concat();
    assert_eq!(validate("node: { region: rio }\n", &policy), (0, "valid\n".to_owned()));
    let (code, said) = validate("node: { service: order }\n", GOOD);
    assert_eq!(code, 0, "{said}");
    for part in ["valid\n", "warning: node.service: ", "warning: Service default/orders: no endpoints"] {
        assert!(said.contains(part), "no {part:?} in\n{said}");
    }
    assert_eq!(Run::new(&["--validate"], &[]).end(), (0, "valid\n".to_owned()));
}

fn route(name: &str, to: &str) -> String {
    format!(
        "---\nkind: Route\nmetadata: {{ name: {name} }}\nspec:\n  parentRefs: [{{ service: orders }}]\n  \
         rules:\n    - backendRefs: [{{ service: {to}, port: 80 }}]\n"
    )
}

#[test]
fn what_is_wrong_is_named_with_file_line_field_value_and_remedy() {
    let cases = [
        (
            "unknown field",
            "node: { regon: rio }\n",
            GOOD.to_owned(),
            vec!["c.yaml:1:16: node.regon: unknown field; did you mean `region`?"],
        ),
        (
            "wrong type",
            "workers: many\n",
            GOOD.to_owned(),
            vec![
                "c.yaml:1:10: workers: a string where a whole number is needed, got \"many\"; write a whole number from 1 to 256",
            ],
        ),
        (
            "a receiver of another kind",
            "telemetry: { otlpEndpoint: \"ftp://a:1\" }\n",
            GOOD.to_owned(),
            vec![
                "telemetry.otlpEndpoint: malformed, got \"ftp://a:1\"; write an address of the form `http://host:port`",
            ],
        ),
        (
            "no such folder",
            "telemetry: { accessLog: nowhere/access.log }\n",
            GOOD.to_owned(),
            vec!["accessLog: cannot open nowhere/access.log to append: ", "make its folder"],
        ),
        (
            "no such identity",
            "identity: { certificate: a.pem, key: b, bundle: c }\n",
            GOOD.to_owned(),
            vec!["identity: a.pem: ", "expected one or more certificates in PEM"],
        ),
        (
            "policy: unknown field",
            "",
            GOOD.replace("port: 80", "prot: 80"),
            vec![
                "p.yaml:3:25: Service default/orders: spec.ports[0].prot: unknown field; did you mean `port`?",
            ],
        ),
        (
            "policy: wrong type",
            "",
            GOOD.replace("port: 80", "port: http"),
            vec!["p.yaml:3:25: Service default/orders: spec.ports[0].port: ", "got \"http\"; write "],
        ),
        (
            "policy: a reference to nothing",
            "",
            [GOOD, &route("a", "nobody")].concat(),
            vec!["p.yaml:10:", "Route default/a: spec.rules[0].backendRefs[0].service: ", "nobody"],
        ),
        (
            "policy: equal routes",
            "",
            [GOOD, &route("a", "orders"), &route("b", "orders")].concat(),
            vec!["Route default/b: ", "Route default/a"],
        ),
        ("policy: not YAML", "", "{ not yaml".to_owned(), vec!["p.yaml:1:"]),
        (
            "policy: nothing",
            "",
            String::new(),
            vec!["p.yaml: no resource in it; write at least one resource"],
        ),
    ];
    for (what, config, policy, expected) in cases {
        let (code, said) = validate(config, &policy);
        assert_eq!(code, 1, "{what}: {said}");
        assert!(!said.contains("trama-sidecar: "), "{what}: a prefix in\n{said}");
        for part in expected {
            assert!(said.contains(part), "{what}: no {part:?} in\n{said}");
        }
    }
}

#[test]
fn a_policy_that_is_not_there_is_named_with_the_option() {
    let (code, said) = Run::new(&["--validate", "--policy", "gone.yaml"], &[]).end();
    assert_eq!(code, 1);
    assert!(said.contains("gone.yaml: cannot be read: ") && said.contains("--policy"), "{said}");
}

#[test]
fn an_identity_that_no_peer_would_take_is_refused() {
    const ID: &str = "spiffe://mesh.test/ns/shop/sa/orders";
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let (own, foreign) = (authority.issue(ID).unwrap(), other.issue(ID).unwrap());
    let (expired, host) =
        (authority.issue_expired(ID).unwrap(), authority.issue_for_host("orders.test").unwrap());
    let identity = "identity: { certificate: own.pem, key: own.key, bundle: ca.pem }\n";
    let validate = |certificate: &str, key: &str| {
        let files =
            [("c.yaml", identity), ("own.pem", certificate), ("own.key", key), ("ca.pem", authority.pem())];
        Run::new(&["--config", "c.yaml", "--validate"], &files).end()
    };
    assert_eq!(validate(&own.certificate, &own.key), (0, "valid\n".to_owned()));
    for (issued, key, told) in [
        (&own, &foreign.key, "identity: own.key: not the key of the certificate; name the one"),
        (
            &foreign,
            &foreign.key,
            "identity: own.pem: no authority of the bundle has issued it; add its authority",
        ),
        (&expired, &expired.key, "identity: own.pem: no peer will take it: "),
        (
            &host,
            &host.key,
            "identity: own.pem: the certificate has no URI in its subject alternative name; issue it",
        ),
    ] {
        let (code, said) = validate(&issued.certificate, key);
        assert!(code == 1 && said.starts_with(told), "{said}");
    }
}

#[test]
fn variables_come_before_the_file_and_options_before_variables() {
    let arguments = ["--validate", "--config", "c.yaml"];
    let policy = [GOOD, ENDPOINTS].concat();
    let files = [
        ("c.yaml", "ports: { mesh: 15001 }\npolicyFile: bad.yaml\n"),
        ("good.yaml", &*policy),
        ("bad.yaml", "kind: Nonsense\n"),
    ];
    let run = |more: &[&str]| Run::new(&[&arguments[..], more].concat(), &files);
    let (code, said) = run(&[]).end();
    assert!(code == 1 && said.contains("the same port as `ports.outbound`"), "{said}");
    let (code, said) = run(&[]).env("TRAMA_PORTS_MESH", "16008").end();
    assert!(code == 1 && said.contains("bad.yaml:1:7: "), "{said}");
    let good = |run: Run| run.env("TRAMA_PORTS_MESH", "16008").env("TRAMA_POLICY", "good.yaml");
    assert_eq!(good(run(&[])).end(), (0, "valid\n".to_owned()));
    let (code, said) = good(run(&["--policy", "bad.yaml"])).end();
    assert!(code == 1 && said.contains("bad.yaml:1:7: "), "{said}");
    let by_variable = Run::new(&["--validate"], &files).env("TRAMA_CONFIG", "c.yaml");
    assert!(by_variable.end().1.contains("c.yaml:1:16: ports.mesh"));
}

#[test]
fn bad_variables_are_named() {
    for (name, value, said) in [
        (
            "TRAMA_PORTS_MESH",
            "many",
            "TRAMA_PORTS_MESH: ports.mesh: not a whole number, got \"many\"; write a whole number from 0 to 65535",
        ),
        (
            "TRAMA_TIMEOUTS_CONNECT",
            "soon",
            "TRAMA_TIMEOUTS_CONNECT: timeouts.connect: malformed, got \"soon\"; write a length of time",
        ),
        (
            "TRAMA_ADMIN_PROT",
            "1",
            "TRAMA_ADMIN_PROT: unknown environment variable; did you mean `TRAMA_ADMIN_PORT`?",
        ),
        (
            "TRAMA_LOG_FORMAT",
            "JSON",
            "TRAMA_LOG_FORMAT: no format, got \"JSON\"; did you mean `json`? Write text or json",
        ),
        ("TRAMA_LOG", "inof", "TRAMA_LOG: no level, got \"inof\"; did you mean `info`? Write error, "),
    ] {
        let (code, text) = Run::new(&["--validate"], &[]).env(name, value).end();
        assert!(code == 1 && text.contains(said), "{name}: {text}");
    }
}

#[test]
fn a_start_that_cannot_succeed_ends_with_a_code() {
    assert_eq!(Run::new(&["--no-such-option"], &[]).end().0, 2);
    let (code, said) = Run::new(&["--config", "c.yaml"], &[("c.yaml", "workers: 0\n")]).end();
    assert!(code == 1 && said.contains("c.yaml:1:10: workers: out of range, got 0"), "{said}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (code, said) = Run::new(&[], &[]).env("TRAMA_ADMIN_PORT", &port).end();
    assert!(code == 1 && said.contains(&format!("cannot listen on 127.0.0.1:{port} (admin)")), "{said}");
    let nobody = [
        Run::new(&["drain", "--admin", "127.0.0.1:1"], &[]).env("TRAMA_ADMIN_PORT", "2"),
        Run::new(&["drain"], &[]).env("TRAMA_ADMIN_PORT", "1"),
        Run::new(&["drain", "--config", "c.yaml"], &[("c.yaml", "admin: { port: 1 }\n")]),
    ];
    for run in nobody {
        let (code, said) = run.end();
        let told = ["no sidecar answers at 127.0.0.1:1:", "--config", "--admin"];
        assert!(code == 1 && told.iter().all(|word| said.contains(word)), "{said}");
    }
    let (code, said) = Run::new(&["drain"], &[]).env("TRAMA_ADMIN_PORT", "x").end();
    assert!(code == 1 && said.contains("TRAMA_ADMIN_PORT"), "{said}");
}

/// A running sidecar that has one explicit listener and no policy.
struct Running {
    folder: tempfile::TempDir,
    listener: SocketAddr,
    config: String,
    process: Process,
}

impl Running {
    /// `last`: of its address, which nobody else has as long as each test has its own.
    fn start(last: u8, lines: &str) -> Self {
        Self::start_with(last, lines, &[])
    }

    /// The same with these variables.
    fn start_with(last: u8, lines: &str, variables: &[(&str, &str)]) -> Self {
        let [.., high, low] = std::process::id().to_be_bytes();
        let listener = SocketAddr::from((Ipv4Addr::new(127, 128 | high, low, last), 15080));
        let ip = listener.ip();
        let config = format!(
            "bindAddress: {ip}\nadmin: {{ address: {ip} }}\ncapture: {{ outbound: false, inbound: false }}\n\
             listeners: [{{ name: web, address: \"{listener}\", protocol: HTTP }}]\n{lines}"
        );
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("c.yaml"), &config).unwrap();
        let mut command = Command::new(programs::built("trama-sidecar").unwrap());
        command.args(["--config", "c.yaml"]).current_dir(folder.path()).envs(variables.iter().copied());
        let mut process = Process::start("sidecar", &mut command, &folder.path().join("own.log")).unwrap();
        let answers = |_: &mut Process| TcpStream::connect(listener).ok();
        process.wait_until("listener", PATIENCE, answers).unwrap();
        Self { folder, listener, config, process }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.listener).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: nobody.shop\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

#[test]
fn a_start_without_policy_says_what_becomes_of_traffic() {
    for (last, lines, fate) in
        [(201, "", "is passed on plainly"), (202, "startup: { withoutPolicy: REFUSE }\n", "is refused")]
    {
        let said = Running::start(last, lines).process.log();
        let line = said.lines().find(|line| line.contains("nowhere to have one from"));
        let told = line.is_some_and(|line| line.contains("WARN") && line.contains(fate));
        assert!(told && said.contains("--policy"), "{said}");
    }
}

#[test]
fn a_second_sidecar_on_the_same_addresses_is_refused() {
    let running = Running::start(254, "");
    let files = [("c.yaml", running.config.as_str())];
    let second = || Run::new(&["--config", "c.yaml"], &files);
    let refused = |run: Run, at: &str| {
        let (code, said) = run.end();
        let what = format!("cannot listen on {}:{at}: ", running.listener.ip());
        assert!(code == 1 && said.contains(&what) && said.contains("perhaps another sidecar"), "{said}");
    };
    refused(second(), "15000 (admin)");
    // Nor does it get a part of the connections where only the ports for traffic are the same.
    let elsewhere = [("TRAMA_ADMIN_PORT", "0"), ("TRAMA_PORTS_METRICS", "0"), ("TRAMA_PORTS_HEALTH", "0")];
    let second = elsewhere.into_iter().fold(second(), |run, (name, value)| run.env(name, value));
    refused(second, "15080 (explicit listener)");
}

#[test]
fn a_start_is_one_line_of_the_log_without_colours() {
    let mut running = Running::start(250, "");
    let (ip, listener) = (running.listener.ip(), running.listener);
    let said = format!(
        "listens: admin {ip}:15000, metrics {ip}:15020, health {ip}:15021, listener web {listener} policy=\"none\" identity=\"none\" workers="
    );
    let there = |process: &mut Process| process.log().contains(&said).then(|| process.log());
    let log = running.process.wait_until("start line", PATIENCE, there).unwrap();
    assert!(!log.contains('\u{1b}'), "{log}");
}

#[test]
fn the_log_can_be_json_and_a_running_sidecar_told_what_to_log() {
    let mut running =
        Running::start_with(249, "telemetry: { accessLog: 'off' }\n", &[("TRAMA_LOG_FORMAT", "json")]);
    let admin = SocketAddr::new(running.listener.ip(), 15000);
    let exchange = |asked: &str| {
        let mut stream = TcpStream::connect(admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(asked.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].to_owned(), body.to_owned())
    };
    let told = |method: &str, body: &str| {
        let (host, length) = (admin.ip(), body.len());
        exchange(&format!(
            "{method} /log HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
    };
    let answer = |status: &str, body: &str| (status.to_owned(), body.to_owned());
    let logged = |running: &mut Running, level: &str, message: &str| {
        let like = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["level"] == level && line["fields"]["message"].as_str().unwrap().contains(message)
        };
        let there = |process: &mut Process| process.log().lines().any(like).then_some(());
        running.process.wait_until(message, PATIENCE, there).unwrap();
    };
    logged(&mut running, "INFO", "listens: admin");
    assert_eq!(told("GET", ""), answer("200", "info\n"));
    // What is no request is worth a line where everything is.
    assert_eq!(exchange("?\r\n\r\n").0, "400");
    assert_eq!(told("PUT", "debug"), answer("200", "debug\n"));
    logged(&mut running, "INFO", "what is logged has changed");
    assert!(!running.process.log().contains("DEBUG"), "{}", running.process.log());
    assert_eq!(exchange("?\r\n\r\n").0, "400");
    logged(&mut running, "DEBUG", "an admin connection failed");
    let (status, said) = told("PUT", "inof");
    assert!(
        status == "400" && said.starts_with("level: no level, got \"inof\"; did you mean `info`? "),
        "{said}"
    );
    assert_eq!(told("PUT", " ").0, "400");
    assert_eq!(told("GET", ""), answer("200", "debug\n"));
    assert_eq!(told("PUT", "warn,trama_sidecar::admin=off").0, "200");
}

#[test]
fn an_address_that_no_interface_has_is_named_as_such() {
    let (code, said) =
        Run::new(&[], &[]).env("TRAMA_BIND_ADDRESS", "192.0.2.1").env("TRAMA_ADMIN_PORT", "0").end();
    assert!(code == 1 && said.contains("192.0.2.1:15020 (metrics)"), "{said}");
    assert!(said.contains("no interface has this address"), "{said}");
}

#[test]
fn a_log_file_that_was_moved_away_is_opened_anew_at_sighup() {
    let mut running = Running::start(253, "telemetry: { accessLog: access.log }\n");
    let (file, moved) = (running.at("access.log"), running.at("access.log.1"));
    let holds = |running: &mut Running, file: &PathBuf, path: &str| {
        let there =
            |_: &mut Process| fs::read_to_string(file).is_ok_and(|text| text.contains(path)).then_some(());
        running.process.wait_until(path, PATIENCE, there).unwrap();
    };
    running.get("/before");
    holds(&mut running, &file, "/before");
    fs::rename(&file, &moved).unwrap();
    running.process.hang_up();
    let heard = |process: &mut Process| process.log().contains("SIGHUP").then_some(());
    running.process.wait_until("SIGHUP", PATIENCE, heard).unwrap();
    running.get("/after");
    holds(&mut running, &file, "/after");
    holds(&mut running, &moved, "/before");
    assert!(running.process.is_running());
}

#[test]
fn the_bytes_of_a_refusal_are_logged_like_those_of_any_answer() {
    let mut running = Running::start(252, "telemetry: { accessLog: access.log }\n");
    // No version has this name: the guard below HTTP answers.
    let mut stream = TcpStream::connect(running.listener).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET / HTTP/9.9\r\nhost: nobody.shop\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    let file = running.at("access.log");
    let logged = |_: &mut Process| {
        let text = fs::read_to_string(&file).ok()?;
        let mut entries =
            text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        entries.find(|entry| entry["reason"] == "malformed_request")
    };
    let entry = running.process.wait_until("line", PATIENCE, logged).unwrap();
    assert_eq!((&entry["status"], &entry["bytes_sent"]), (&400.into(), &body.len().into()), "{entry}");
}

#[test]
fn an_authority_that_no_service_has_is_named_in_the_answer() {
    let running = Running::start(251, "");
    let answer = running.get("/");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(
        answer.ends_with("trama: unknown_authority: no service has the authority \"nobody.shop\"\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn an_inbound_drain_is_asked_for_by_command() {
    let mut mesh = Mesh::builder()
        .at(Where::Processes)
        .pod("orders", |p| p.serves("shop/orders").application(&Application::echo("orders")))
        .pod("storefront", |p| p)
        .start()
        .await;
    // The admin port's address is the pod's own; its configuration says so.
    let config = mesh.pod("orders").folder().join("sidecar.yaml");
    let config = config.to_str().unwrap();
    let drain = async |run: Run| tokio::task::spawn_blocking(move || run.end()).await.unwrap();
    let by_option = Run::new(&["drain", "--inbound", "--config", config], &[]);
    assert_eq!(drain(by_option).await, (0, String::new()));
    let orders = mesh.pod("orders");
    assert_eq!(orders.ask(15021, "/readyz").await.unwrap().status.as_u16(), 503);
    // What still comes is served, and its own calls go on.
    for name in ["storefront", "orders"] {
        let mut client = mesh.pod(name).http(Speaks::Http1, "orders.shop").await;
        assert_eq!(client.get("/").await.status.as_u16(), 200, "{name}");
    }
    assert!(mesh.pod_mut("orders").process().is_running());
    let by_variable = Run::new(&["drain"], &[]).env("TRAMA_CONFIG", config);
    assert_eq!(drain(by_variable).await, (0, String::new()));
    assert_eq!(mesh.pod_mut("orders").process().wait(PATIENCE).unwrap().code(), Some(0));
}
