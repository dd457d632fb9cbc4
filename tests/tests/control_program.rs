//! The control plane as a program: its command line, its log, and that it can be killed at any time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::Command;

use trama_proto::admin::v1::GetRequest;
use trama_proto::discovery::v1::{Hello, ResourceName};
use trama_tests::control_plane::{ControlPlane, Stream, held, names};
use trama_tests::mesh::{PATIENCE, until};
use trama_tests::{process, programs};

const ORDERS: &str =
    "kind: Service\nmetadata: { name: orders, namespace: shop }\nspec: { ports: [{ port: 80 }] }\n";

#[tokio::test]
async fn kill_9_and_a_restart_lose_nothing() {
    let mut control = ControlPlane::spawn().await;
    let applied = control.apply(ORDERS).await.unwrap().stamp.unwrap();
    let storefront = control.joined("shop", "storefront").await;
    let token = control.token(&trama_tests::control_plane::identity("shop", "later"), 0).await.token;
    let mut stream = control.stream(&storefront).await;
    stream.subscribe(&[]);
    let first = stream.take().await;
    let refused = control.join("letmein", Vec::new()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    assert!(control.log().contains("an identity is refused"), "{}", control.log());
    // Who got one and until when, and who wanted one.
    let key = rcgen::KeyPair::generate().unwrap();
    let asked = trama_tests::control_plane::identity("shop", "asked");
    control.join("letmein", trama_tests::control_plane::request(&key, &[&asked])).await.unwrap_err();
    let log = control.log();
    let line = |words: [&str; 3]| log.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(line(["a certificate is issued", &storefront.node().identity, "not_after=20"]), "{log}");
    assert!(line(["an identity is refused", &asked, "malformed_token"]), "{log}");

    control.kill();
    stream.end().await;
    control.respawn().await;

    let name = ResourceName { kind: "Service".into(), namespace: "shop".into(), name: "orders".into() };
    let got = control.admin().await.get(GetRequest { name: Some(name) }).await.unwrap().into_inner();
    assert_eq!(got.version, applied.revision);
    // The certificate of before is good, and what was held is not sent again.
    let hello = Hello { node: Some(storefront.node()), held: held(&first), ..Hello::default() };
    let mut again =
        Stream::open_with(control.channel(Some(&storefront)).await.unwrap(), hello).await.unwrap();
    again.subscribe(&[]);
    let push = again.take().await;
    assert_eq!((names(&push), push.epoch, push.revision >= first.revision), (vec![], first.epoch, true));
    let key = rcgen::KeyPair::generate().unwrap();
    control.join(&token, trama_tests::control_plane::request(&key, &[])).await.unwrap();
    control.apply(&ORDERS.replace("80", "81")).await.unwrap();
    assert_eq!(names(&again.take().await), ["Service shop/orders"]);
}

#[tokio::test]
async fn a_hang_up_ends_nothing() {
    let mut control = ControlPlane::spawn().await;
    control.hang_up();
    until("it is heard", || async { control.log().contains("SIGHUP").then_some(()) }).await;
    control.apply(ORDERS).await.unwrap();
}

fn run(arguments: &[&str], text: &str) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("c.yaml"), text).unwrap();
    let mut command = Command::new(programs::built("trama-control-plane").unwrap());
    command.args(arguments).current_dir(folder.path());
    let output = process::run(&mut command, PATIENCE).unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[test]
fn a_bad_configuration_is_told_and_nothing_is_started() {
    let (code, said) = run(&["--config", "c.yaml"], "ports: { sidecars: 99999 }\n");
    assert_eq!(code, 1);
    assert!(said.contains("c.yaml:1:20: ports.sidecars: "), "{said}");
    let (code, said) = run(&["--config", "c.yaml", "--validate"], "trustDomain: mesh.test\n");
    assert_eq!((code, said.as_str()), (0, "valid\n"));
    assert_eq!(run(&["--confg", "c.yaml"], "").0, 2);
}

#[test]
fn a_wrong_address_is_told_beside_what_else_is_wrong() {
    let (code, said) = run(&["--config", "c.yaml", "--validate"], "bindAddress: nix\nports: { health: x }\n");
    let address = "bindAddress: malformed, got \"nix\"; write an IP address, such as 0.0.0.0 or ::";
    assert!(code == 1 && said.contains(address) && said.contains("ports.health: "), "{said}");
}

#[test]
fn what_cannot_be_opened_is_named() {
    let base = "bindAddress: 127.0.0.1\nports: { sidecars: 0, metrics: 0, health: 0 }\nadmin: { socket: here/admin.sock }\n";
    let (code, said) =
        run(&["--config", "c.yaml"], &format!("{base}store: {{ path: /proc/none/store, sealingKey: k }}\n"));
    assert_eq!((code, said.contains("store.path: ")), (1, true), "{said}");
    let (code, said) = run(
        &["--config", "c.yaml"],
        &base
            .replace("here/admin.sock", "c.yaml")
            .replace("admin:", "store: { path: store, sealingKey: k }\nadmin:"),
    );
    assert_eq!((code, said.contains("admin.socket c.yaml: ")), (1, true), "{said}");
}

#[tokio::test]
async fn a_second_one_on_the_same_store_is_told_whose_it_is_and_changes_nothing() {
    let control = ControlPlane::spawn().await;
    control.apply(ORDERS).await.unwrap();
    let mut command = Command::new(programs::built("trama-control-plane").unwrap());
    command.arg("--config").arg(control.configuration());
    let second = process::run(&mut command, PATIENCE).unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1));
    let store = control.configuration().with_file_name("store");
    let named =
        format!("store.path: the store cannot be used: {}: another process has it open", store.display());
    assert!(said.contains(&named) && said.contains("stop that one"), "{said}");
    control.apply(&ORDERS.replace("80", "81")).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_stops_changes_by_its_name_and_nothing_else() {
    let mut control = ControlPlane::spawn_with_room(8 << 20).await;
    let storefront = control.joined("shop", "storefront").await;
    let mut stream = control.stream(&storefront).await;
    stream.subscribe(&[]);
    stream.take().await;
    let large = |number: usize| {
        let labels = format!("labels: {{ x: '{}' }}", "x".repeat(500_000));
        ORDERS.replace("name: orders,", &format!("name: s{number}, {labels},"))
    };
    let mut stored = 0;
    let full = loop {
        match control.apply(&large(stored)).await {
            Ok(_) => assert_eq!(names(&stream.take().await), [format!("Service shop/s{stored}")]),
            Err(status) => break status,
        }
        stored += 1;
        assert!(stored < 100, "it is never full");
    };
    assert_eq!(full.code(), tonic::Code::ResourceExhausted, "{full:?}");
    assert!(full.message().contains("the disk of the store is full"), "{}", full.message());
    // Who comes now is served all that was confirmed.
    let mut later = control.stream(&storefront).await;
    later.subscribe(&[]);
    assert_eq!(names(&later.take().await).len(), stored);

    control.kill();
    control.make_room();
    control.respawn().await;
    control.apply(&large(stored)).await.unwrap();
    let mut again = control.stream(&storefront).await;
    again.subscribe(&[]);
    assert_eq!(names(&again.take().await).len(), stored + 1);
}
