//! `tramactl` and the control plane, both as programs: what is printed, and how it ends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use trama_proto::discovery::v1::{Refusal, ResourceName};
use trama_tests::control_plane::{ControlPlane, Ran, identity, names, request};
use trama_tests::mesh::PATIENCE;
use trama_tests::process::Process;
use trama_tests::programs;

const ORDERS: &str = "\
kind: Service
metadata: { name: orders, namespace: shop }
spec: { ports: [{ port: 80 }] }
";
const ROUTE: &str = "\
kind: Route
metadata: { name: orders, namespace: shop }
spec:
  parentRefs: [{ service: orders }]
  rules:
  - backendRefs:
    - service: orders
";

/// A place with files, and a control plane to ask.
struct Place {
    control: ControlPlane,
    folder: TempDir,
}

impl Place {
    async fn new() -> Self {
        Self { control: ControlPlane::spawn().await, folder: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Runs a command line, its words apart by spaces, in the folder.
    async fn run(&self, line: &str) -> Ran {
        self.control.tramactl(self.folder.path(), line).await
    }

    /// Runs a shell's line, in which `$ctl` is the program.
    async fn shell(&self, line: &str) -> Ran {
        self.control.shell(self.folder.path(), line).await
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The revision in the first line that was printed.
#[track_caller]
fn revision(printed: &str) -> u64 {
    let (_, rest) = printed.split_once("(revision ").unwrap_or_else(|| panic!("{printed}"));
    rest.split_once(')').unwrap().0.parse().unwrap()
}

#[tokio::test]
async fn what_is_applied_is_told_by_what_became_of_it() {
    let place = Place::new().await;
    place.write("shop/a/orders.yaml", ORDERS);
    place.write("shop/route.yml", ROUTE);
    let told = |outcome, revision| {
        let line = |resource| format!("{resource} shop/orders {outcome} (revision {revision})\n");
        line("Service") + &line("Route")
    };
    let said = place.run("apply -f shop").await.done();
    let first = revision(&said);
    assert_eq!(said, told("created", first));
    assert_eq!(place.run("apply -f shop").await.done(), told("unchanged", first));

    // Labels are content, too.
    place.write("labels.yaml", &ORDERS.replace("shop }", "shop, labels: { team: blue } }"));
    let said = json(&place.run("apply -f labels.yaml -f shop/route.yml -o json").await.done());
    assert_eq!(said["revision"], first + 1);
    let line = |kind, outcome, revision| {
        serde_json::json!({
            "kind": kind, "namespace": "shop", "name": "orders", "outcome": outcome, "revision": revision
        })
    };
    assert_eq!(said["resources"][0], line("Service", "configured", first + 1));
    assert_eq!(said["resources"][1], line("Route", "unchanged", first));
    let got = json(&place.run("get service shop/orders -o json").await.done());
    assert_eq!(got["metadata"]["labels"]["team"], "blue");
}

#[tokio::test]
async fn what_there_is_can_be_shown_and_applied_again() {
    let place = Place::new().await;
    place.write("shop.yaml", &format!("{ORDERS}---\n{ROUTE}"));
    place.write("bank.yaml", &ORDERS.replace("shop", "bank"));
    let first = revision(&place.run("apply -f shop.yaml -f bank.yaml").await.done());
    let table = place.run("get all").await.done();
    let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let number = first.to_string();
    assert_eq!(rows[0], ["KIND", "NAMESPACE", "NAME", "REVISION", "ABOUT"]);
    assert_eq!(rows[1].join(" "), format!("Route shop orders {number} 1 rule of service orders"));
    assert_eq!(rows[2].join(" "), format!("Service bank orders {number} 80"));
    assert_eq!(rows[3].join(" "), format!("Service shop orders {number} 80"));
    assert_eq!(place.run("get services -n bank").await.done().lines().count(), 2);
    let items = json(&place.run("get routes -o json").await.done());
    assert_eq!((items["revision"].as_u64(), items["items"].as_array().unwrap().len()), (Some(first), 1));

    let yaml = place.run("get all -o yaml").await.done();
    let begin =
        format!("# Route shop/orders, revision {first}\napiVersion: trama.dev/v1alpha1\nkind: Route\n");
    assert!(yaml.starts_with(&begin), "{yaml}");
    let again = place.shell("\"$ctl\" get all -o yaml | \"$ctl\" apply -f -").await.done();
    assert_eq!(again.matches(&format!(" unchanged (revision {first})\n")).count(), 3, "{again}");
    let one = place.run("get route orders -n shop --output yaml").await.done();
    assert_eq!(yaml.split("---\n").next(), Some(one.as_str()));
}

#[tokio::test]
async fn a_bad_policy_is_told_by_its_line_and_nothing_of_it_is_there() {
    let place = Place::new().await;
    place.write("shop/orders.yaml", ORDERS);
    place.write("shop/route.yaml", &ROUTE.replace("    - service: orders", "    - service: ordres"));
    let told = "shop/route.yaml:7:16: Route shop/orders: spec.rules[0].backendRefs[0].service: no such service in \
                namespace `shop`, got \"ordres\"; did you mean `orders`?\ntramactl: refused: 1 problem\n";
    for command in ["apply -f shop", "validate -f shop", "validate --offline -f shop"] {
        assert_eq!(place.run(command).await.failed(3), told, "{command}");
    }
    assert_eq!(place.run("get all").await.done().lines().count(), 1, "the good half is not there either");

    let judged = place.run("validate -f shop -o json").await;
    let problem = &json(&judged.out)["problems"][0];
    assert_eq!(
        (judged.code, problem["line"].as_u64(), problem["value"].as_str()),
        (3, Some(7), Some("\"ordres\""))
    );
    // What is wrong with a file by itself nobody need be asked about.
    place.write("typo.yaml", &ORDERS.replace("ports", "prots"));
    let told = place.run("apply -f typo.yaml -f none.yaml --server /nowhere/at.all").await.failed(3);
    assert!(told.contains("typo.yaml:3:") && told.contains("did you mean `ports`?"), "{told}");
    assert!(told.contains("none.yaml: cannot be read: No such file"), "{told}");

    place.write("shop/route.yaml", ROUTE);
    assert_eq!(place.run("validate -f shop").await.done(), "valid: 2 resources\n");
    assert_eq!(place.run("validate -f shop/orders.yaml --offline").await.done(), "valid: 1 resource\n");
    // A route alone is a whole policy only where its service is.
    assert!(place.run("validate -f shop/route.yaml --offline").await.failed(3).contains("no such service"));
}

#[tokio::test]
async fn what_contradicts_the_policy_in_force_is_told_as_such() {
    let place = Place::new().await;
    place.write("shop.yaml", &format!("{ORDERS}---\n{ROUTE}"));
    place.run("apply -f shop.yaml").await.done();
    place.write("ports.yaml", &ORDERS.replace("ports: [{ port: 80 }]", "ports: [{ port: 81 }]"));
    place.write("route.yaml", &ROUTE.replace("{ service: orders }", "{ service: orders, port: 80 }"));
    place.run("apply -f route.yaml").await.done();
    let told = place.run("apply -f ports.yaml").await.failed(3);
    assert!(told.starts_with("the policy in force: Route shop/orders: spec.parentRefs[0].port: "), "{told}");
}

#[tokio::test]
async fn deleting_is_all_or_nothing_too() {
    let place = Place::new().await;
    place.write("shop.yaml", &format!("{ORDERS}---\n{ROUTE}"));
    place.run("apply -f shop.yaml").await.done();
    let told = place.run("delete service shop/orders").await.failed(3);
    assert!(told.contains("Route shop/orders") && told.contains("no such service"), "{told}");
    let told = place.run("delete services shop/orders shop/ordres").await.failed(4);
    assert_eq!(told, "tramactl: there is no Service shop/ordres; did you mean `Service shop/orders`?\n");
    assert_eq!(place.run("get all").await.done().lines().count(), 3);

    let said = place.run("delete route orders -n shop").await.done();
    let gone = revision(&said);
    assert_eq!(said, format!("Route shop/orders deleted (revision {gone})\n"));
    let told = place.run("delete -f shop.yaml").await.failed(4);
    assert!(told.contains("there is no Route shop/orders"), "{told}");
    let said = json(&place.run("delete -f shop.yaml --ignore-not-found -o json").await.done());
    assert_eq!(said, serde_json::json!({ "revision": gone + 1, "resources": ["Service shop/orders"] }));
    assert_eq!(place.run("delete -f shop.yaml --ignore-not-found").await.done(), "nothing to delete\n");
}

#[tokio::test]
async fn what_somebody_else_has_changed_meanwhile_is_not_overwritten() {
    let place = Place::new().await;
    place.write("orders.yaml", ORDERS);
    place.write("mine.yaml", &ORDERS.replace("80", "81"));
    place.write("theirs.yaml", &ORDERS.replace("80", "82"));
    let first = revision(&place.run("apply -f orders.yaml --if-revision 0").await.done());
    let theirs = place.run(&format!("apply -f theirs.yaml --if-revision {first}")).await.done();
    let second = revision(&theirs);
    let told = place.run(&format!("apply -f mine.yaml --if-revision {first}")).await.failed(5);
    assert_eq!(
        told,
        format!(
            "tramactl: Service shop/orders was changed at revision {second}, after {first}; nothing is changed: look at it again\n"
        )
    );
    place.run(&format!("delete service shop/orders --if-revision {first}")).await.failed(5);
    place.run(&format!("apply -f mine.yaml --if-revision {second}")).await.done();
}

#[tokio::test]
async fn what_there_is_not_is_missed_with_a_hint() {
    let place = Place::new().await;
    place.write("orders.yaml", ORDERS);
    place.run("apply -f orders.yaml").await.done();
    let told = place.run("get service orders").await.failed(4);
    assert_eq!(told, "tramactl: there is no Service default/orders; did you mean `Service shop/orders`?\n");
    let both = place.run("get service shop/orders shop/stock").await;
    assert_eq!((both.code, both.out.lines().count()), (4, 2), "{both:?}");
    assert_eq!(both.err, "tramactl: there is no Service shop/stock\n");
}

#[tokio::test]
async fn a_wrong_command_line_changes_nothing_and_says_what_was_meant() {
    let place = Place::new().await;
    for (line, remedy) in [
        ("get rout", "did you mean `Route`?"),
        ("aply -f x", "'apply'"),
        ("get route a/b -n c", "leave one out"),
        ("get all orders", "get KIND NAME"),
        ("apply", "--file"),
        ("delete route", "NAME"),
        ("delete route x -f y", "cannot be used with"),
        ("join-token create --spiffe-id orders", "a SPIFFE id begins with spiffe://"),
        ("join-token create --spiffe-id spiffe://mesh.test/ns/a/sa/b --ttl 0.5s", "whole seconds"),
    ] {
        let told = place.run(line).await.failed(2);
        assert!(told.contains(remedy), "{line}: {told}");
    }
    let help = place.run("--help").await.done();
    assert!(help.contains("Exit codes:") && help.contains("  5   somebody else was faster"), "{help}");
}

#[tokio::test]
async fn who_is_not_there_or_says_nothing_is_given_up() {
    let place = Place::new().await;
    let told = place.run("get all --server /nowhere/admin.sock").await.failed(7);
    assert!(
        told.starts_with("tramactl: the control plane at /nowhere/admin.sock is not reached: No such file"),
        "{told}"
    );
    let began = Instant::now();
    let told = place.run("get all --server /nowhere/admin.sock --timeout 1s").await.failed(7);
    assert!(told.contains("No such file") && began.elapsed() > Duration::from_millis(900), "{told}");
    let silent = place.folder.path().join("silent.sock");
    let _silent = std::os::unix::net::UnixListener::bind(silent).unwrap();
    let began = Instant::now();
    let told = place.run("get all --server ./silent.sock --timeout 200ms").await.failed(7);
    assert!(told.contains("within 200ms"), "{told}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let closed = trama_tests::ports::free_port();
    place.control.joined("ops", "admin").await.write_to(place.folder.path());
    let files = "--certificate identity.pem --key identity.key --ca ca.pem";
    let told = place.run(&format!("get all --server 127.0.0.1:{closed} {files}")).await.failed(7);
    assert!(told.contains("refused"), "{told}");
}

#[tokio::test]
async fn over_the_network_only_an_admins_certificate_opens() {
    let place = Place::new().await;
    place.write("orders.yaml", ORDERS);
    let address = place.control.address();
    let told = place.run(&format!("get all --server {address}")).await.failed(2);
    assert!(told.contains("name --certificate, --key and --ca"), "{told}");

    let files = "--certificate identity.pem --key identity.key --ca ca.pem";
    place.control.joined("ops", "admin").await.write_to(place.folder.path());
    place.run(&format!("apply -f orders.yaml --server {address} {files}")).await.done();
    let by_variables = "TRAMACTL_CERTIFICATE=identity.pem TRAMACTL_KEY=identity.key TRAMACTL_CA=ca.pem";
    let table =
        place.shell(&format!("TRAMACTL_SERVER={address} {by_variables} \"$ctl\" get all")).await.done();
    assert_eq!(table.lines().count(), 2);

    let other = format!("--server-identity {}", identity("shop", "orders"));
    let told = place.run(&format!("get all --server {address} {files} {other}")).await.failed(7);
    assert!(told.contains("the peer is spiffe://mesh.test/ns/trama-system/sa/trama-control-plane"), "{told}");
    let line = format!("get all --server {address} --certificate none.pem --key identity.key --ca ca.pem");
    let told = place.run(&line).await.failed(3);
    assert!(told.contains("none.pem: ") && told.contains("one or more certificates in PEM"), "{told}");

    place.control.joined("shop", "orders").await.write_to(place.folder.path());
    let told = place.run(&format!("get all --server {address} {files}")).await.failed(6);
    assert!(told.contains("is no admin; add it to `admin.identities`"), "{told}");
}

#[tokio::test]
async fn a_join_token_is_shown_alone_and_is_good() {
    let place = Place::new().await;
    let orders = identity("shop", "orders");
    let line = format!("join-token create --spiffe-id {orders} --ttl 1m --bundle ca.pem");
    let token = place.run(&line).await.done();
    let key = rcgen::KeyPair::generate().unwrap();
    let given = place.control.join(token.trim_end(), request(&key, &[])).await.unwrap();
    assert_eq!(given.identity, orders);
    let roots = pem::parse_many(fs::read(place.folder.path().join("ca.pem")).unwrap()).unwrap();
    assert_eq!(roots.into_iter().map(pem::Pem::into_contents).collect::<Vec<_>>(), given.bundle);

    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let made = json(&place.run(&format!("{line} -o json")).await.done());
    assert!((now + 55..now + 75).contains(&made["expires"].as_u64().unwrap()), "{made}");
    assert_eq!(made["identity"], orders.as_str());
    assert!(made["bundle"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));

    let told = place.run("join-token create --spiffe-id spiffe://other.test/ns/a/sa/b").await.failed(3);
    assert!(told.contains("identity") && told.contains("mesh.test"), "{told}");
    let told = place.run(&format!("join-token create --spiffe-id {orders} --ttl 25h")).await.failed(3);
    assert!(told.contains("more than 86400 seconds"), "{told}");
}

#[tokio::test]
async fn completions_are_what_shells_take() {
    let place = Place::new().await;
    let completed = "source <(\"$ctl\" completions bash); COMP_WORDS=(tramactl join); COMP_CWORD=1; \
                     _tramactl tramactl join tramactl; echo \"${COMPREPLY[@]}\"";
    assert_eq!(place.shell(completed).await.done(), "join-token\n");
    for shell in ["zsh", "fish"] {
        assert!(place.run(&format!("completions {shell}")).await.done().contains("join-token"), "{shell}");
    }
    // Who closes the pipe has seen enough.
    place.shell("set -o pipefail; \"$ctl\" completions bash | true").await.done();
}

/// A sidecar that takes everything, or refuses the resource with this name, until it is dropped.
struct Sidecar(tokio::task::JoinHandle<()>);

impl Sidecar {
    async fn start(place: &Place, account: &str, refuses: Option<&'static str>) -> Self {
        let workload = place.control.joined("shop", account).await;
        let mut stream = place.control.stream(&workload).await;
        stream.subscribe(&[("shop", "orders")]);
        place.control.sidecar("its stream", |it| it.node.as_ref().unwrap().name == account).await;
        Self(tokio::spawn(async move {
            while let Ok(push) = stream.following().await {
                let named = names(&push);
                match refuses.filter(|refused| named.iter().any(|name| name == refused)) {
                    Some(refused) => stream.nack(&push, refusal(refused)),
                    None => stream.ack(&push),
                }
            }
        }))
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn refusal(resource: &str) -> Refusal {
    let (kind, rest) = resource.split_once(' ').unwrap();
    let (namespace, name) = rest.split_once('/').unwrap();
    let name = ResourceName { kind: kind.into(), namespace: namespace.into(), name: name.into() };
    let (path, problem) = ("spec.rules[0]".to_owned(), "not known here; take a later sidecar".to_owned());
    Refusal { name: Some(name), path, problem, ..Refusal::default() }
}

#[tokio::test]
async fn a_change_is_waited_for_and_a_refusal_is_shown() {
    let place = Place::new().await;
    place.write("orders.yaml", ORDERS);
    place.write("shop.yaml", &format!("{ORDERS}---\n{ROUTE}"));
    let said = place.run("apply -f orders.yaml --wait").await.done();
    assert!(said.ends_with("no sidecar is connected: nobody to wait for\n"), "{said}");

    let _a = Sidecar::start(&place, "a", None).await;
    let _b = Sidecar::start(&place, "b", Some("Route shop/orders")).await;
    place.write("orders.yaml", &ORDERS.replace("80", "81"));
    let said = place.run("apply -f orders.yaml --wait=20s").await.done();
    assert!(said.ends_with("\nacknowledged by 2 of 2 sidecars\n"), "{said}");

    let applied = place.run("apply -f shop.yaml --wait=20s").await;
    let revision = revision(&applied.out);
    let refused = format!(
        "shop/b refuses Route shop/orders (revision {revision}): spec.rules[0]: not known here; take a later sidecar"
    );
    assert_eq!(applied.code, 8, "{applied:?}");
    assert!(applied.out.ends_with(&format!("\n{refused}\nacknowledged by 2 of 2 sidecars\n")), "{applied:?}");
    // It is still refused when nothing has changed.
    let again = place.run("apply -f shop.yaml --wait -o json").await;
    let said = json(&again.out);
    assert_eq!((again.code, &said["sidecars"]["refusals"][0]["field"]), (8, &Value::from("spec.rules[0]")));

    let status = place.run("status").await.done();
    assert!(status.starts_with(&format!("revision {revision} (epoch ")), "{status}");
    assert!(status.contains("2 sidecars connected, 1 in sync, 0 behind, 1 with refusals\n"), "{status}");
    assert!(status.ends_with(&format!("\n\n{refused}\n")), "{status}");
    let status = json(&place.run("status -n shop -o json").await.done());
    assert_eq!(status["sidecars"][1]["refusals"][0]["resource"], "Route shop/orders");
    assert_eq!(status["sidecars"][0]["services"][0], "shop/orders");
    assert_eq!(
        json(&place.run("status -n bank -o json").await.done())["sidecars"].as_array().unwrap().len(),
        0
    );

    let described = place.run("describe route orders -n shop").await.done();
    assert!(described.contains(&format!("\n{refused}\n")), "{described}");
    assert!(described.contains("acknowledged by 1, refused by 1, awaited from 0\n"), "{described}");
    assert!(described.contains("kind: Route\n"), "{described}");
    let described = json(&place.run("describe service shop/orders -o json").await.done());
    assert_eq!(described["sidecars"][1]["state"], "acknowledged");
    place.run("describe route shop/ordres").await.failed(4);

    let listed = place.run("proxy list").await.done();
    let rows: Vec<_> = listed.lines().skip(1).collect();
    assert!(rows[0].starts_with("shop/a ") && rows[0].ends_with(" in sync"), "{listed}");
    assert!(rows[1].contains(&identity("shop", "b")) && rows[1].ends_with(" refuses 1"), "{listed}");

    // What is taken back is refused by nobody.
    let said = place.run("delete route shop/orders --wait=20s").await.done();
    assert!(said.ends_with("acknowledged by 2 of 2 sidecars\n"), "{said}");
    assert!(place.run("status").await.done().contains("2 in sync"));
}

#[tokio::test]
async fn who_does_not_answer_is_named_when_time_is_over() {
    let place = Place::new().await;
    place.write("orders.yaml", ORDERS);
    let workload = place.control.joined("shop", "slow").await;
    let stream = place.control.stream(&workload).await;
    stream.subscribe(&[]);
    place.control.sidecar("its stream", |_| true).await;
    let applied = place.run("apply -f orders.yaml --wait=100ms").await;
    assert_eq!(applied.code, 9, "{applied:?}");
    assert!(applied.out.ends_with("acknowledged by 0 of 1 sidecar; not yet by shop/slow\n"), "{applied:?}");
    let described = place.run("describe service shop/orders").await.done();
    assert!(described.contains("awaited from 1\n"), "{described}");
    let status = place.run("status").await.done();
    assert!(status.contains("1 behind") && status.contains(" behind\n"), "{status}");
}

#[tokio::test]
async fn a_difference_is_shown_line_by_line_and_by_the_exit_code() {
    let place = Place::new().await;
    place.write("shop.yaml", &format!("{ORDERS}---\n{ROUTE}"));
    let new = place.run("diff -f shop.yaml").await;
    assert_eq!((new.code, new.out.matches("(absent)\n").count()), (1, 2), "{new:?}");
    place.run("apply -f shop.yaml").await.done();
    assert_eq!(place.run("diff -f shop.yaml").await.done(), "");

    place.write("shop.yaml", &format!("{}---\n{ROUTE}", ORDERS.replace("80", "81")));
    let changed = place.run("diff -f shop.yaml").await;
    assert_eq!((changed.code, changed.err.as_str()), (1, ""));
    assert!(changed.out.starts_with("--- Service shop/orders (revision "), "{changed:?}");
    assert!(changed.out.contains("\n-  - port: 80\n+  - port: 81\n"), "{changed:?}");
    assert!(!changed.out.contains("Route"), "{changed:?}");
    let told = json(&place.run("diff -f shop.yaml -o json").await.out);
    assert_eq!(
        (&told[0]["outcome"], &told[1]["outcome"]),
        (&Value::from("configured"), &Value::from("unchanged"))
    );
    // A diff that could not be made is no difference.
    place.run("diff -f none.yaml").await.failed(3);
    place.run("diff -f shop.yaml --server /nowhere/at.all").await.failed(7);
}

#[tokio::test]
async fn a_watch_tells_each_change_and_where_to_go_on() {
    let mut place = Place::new().await;
    place.write("orders.yaml", ORDERS);
    place.write("route.yaml", ROUTE);
    let first = revision(&place.run("apply -f orders.yaml").await.done());
    let watch = |line: String, log: &str| {
        let mut command = Command::new(programs::built("tramactl").unwrap());
        command.args(line.split(' ')).env("TRAMACTL_SERVER", place.control.socket());
        Process::start("tramactl", &mut command, &place.folder.path().join(log)).unwrap()
    };
    let mut all = watch(format!("watch --since {}", first - 1), "all");
    let mut routes = watch(format!("watch routes --since {first} -o json"), "routes");
    all.wait_line(&format!("{first} written Service shop/orders"), PATIENCE).unwrap();
    let second = revision(&place.run("apply -f route.yaml").await.done());
    all.wait_line(&format!("{second} written Route shop/orders"), PATIENCE).unwrap();
    let third = revision(&place.run("delete route shop/orders").await.done());
    all.wait_line(&format!("{third} deleted Route shop/orders"), PATIENCE).unwrap();
    let told = routes.wait_until("two changes", PATIENCE, |routes| {
        let log = routes.log();
        (log.matches('\n').count() == 2).then(|| log.lines().map(json).collect::<Vec<_>>())
    });
    let told = told.unwrap();
    assert_eq!(
        (&told[0]["change"], &told[0]["resource"]["kind"]),
        (&Value::from("written"), &Value::from("Route"))
    );
    assert_eq!((told[1]["change"].as_str(), told[1]["revision"].as_u64()), (Some("deleted"), Some(third)));

    place.control.kill();
    let ended = all.wait(PATIENCE).unwrap();
    assert_eq!(ended.code(), Some(7));
    assert!(all.log().contains(&format!("go on with --since {third}\n")), "{}", all.log());
    place.control.respawn().await;
    let told = place.run("watch --since 99999").await.failed(2);
    assert!(told.contains(&format!("after the last change ({third})")), "{told}");
}
