//! The network lab keeps its promises: pods reach each other and only each other, and nothing stays behind.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use trama_tests::lab::{Lab, LabError};
use trama_tests::peers::{App, Curl, GoClient};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn pods_reach_each_other_over_both_families() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.pod("a", "sao-paulo").unwrap(), lab.pod("b", "rio-de-janeiro").unwrap());
    for address in b.addresses() {
        let listener = b.inside(|| TcpListener::bind((address, 0))).unwrap().unwrap();
        let target = listener.local_addr().unwrap();
        b.wait_port(target.port(), PATIENCE).unwrap();
        let mut client = a.inside(|| TcpStream::connect_timeout(&target, PATIENCE)).unwrap().unwrap();
        let (mut server, peer) = listener.accept().unwrap();
        assert!(a.addresses().contains(&peer.ip()), "{peer}");
        client.write_all(b"ping").unwrap();
        let mut bytes = [0; 4];
        server.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"ping");
    }
}

#[test]
fn a_services_address_is_routed_and_owned_by_nobody() {
    let lab = Lab::new().unwrap();
    let pod = lab.pod("a", "sao-paulo").unwrap();
    for address in lab.service(7) {
        let dial = || TcpStream::connect_timeout(&SocketAddr::new(address, 80), PATIENCE);
        let error = pod.inside(dial).unwrap().unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable),
            "{error}"
        );
    }
}

#[test]
fn commands_run_as_another_user_and_end_with_the_lab() {
    let lab = Lab::new().unwrap();
    let pod = lab.pod("a", "sao-paulo").unwrap();
    let mut shell = Command::new("sh");
    let output = pod.run(shell.args(["-c", "id -u; ip -o -4 address show eth0"]), 1234, PATIENCE).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("1234\n") && text.contains("10.91.0.1/16"), "{text}");

    // One that left its group is found by its namespace.
    let mut parent = Command::new("sh");
    parent.args(["-c", "setsid sh -c 'echo pid $$; exec sleep 600' & wait"]);
    let mut process = pod.spawn(&parent, 0).unwrap();
    let pid = process.wait_line("pid ", PATIENCE).unwrap();
    let namespace = Path::new("/run/netns").join(&pod.ns);
    let folder = lab.folder().to_owned();
    assert!(namespace.exists());
    drop((process, pod, lab));
    assert!(!namespace.exists() && !folder.exists());
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_else(|_| ") Z ".into());
    assert!(stat.contains(") Z ") || stat.contains(") X "), "{stat}");
}

#[test]
fn applications_and_clients_run_in_pods() {
    let lab = Lab::new().unwrap();
    let (server, client) =
        (lab.pod("orders-1", "sao-paulo").unwrap(), lab.pod("storefront", "sao-paulo").unwrap());
    let python = App::python(&server, "sao-paulo/orders-1", 8080).unwrap();
    let go = App::go(&server, "sao-paulo/orders-1", 8081).unwrap();
    assert_eq!(python.address, SocketAddr::new(server.ip4.into(), 8080));
    for app in [&python, &go] {
        let reply = Curl::get(&format!("http://{}/headers", app.address)).run(&client, PATIENCE).unwrap();
        assert_eq!(reply.header("x-served-by"), Some("sao-paulo/orders-1"), "{}", reply.complaint);
        assert!(reply.text().contains(&client.ip4.to_string()), "{}", reply.text());
    }
    let answers = GoClient::h2c(&format!("http://{}/", go.address)).run(&client, PATIENCE).unwrap();
    assert_eq!(answers[0].status, 200);
    let posted = Curl::get(&format!("http://{}/", python.address)).header("x-post-id", "7").body("x");
    assert_eq!(posted.run(&client, PATIENCE).unwrap().status, 200);
    assert_eq!(python.posts(), ["7"]);
}

#[test]
fn a_panic_leaves_nothing_behind() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let died = std::thread::spawn(move || {
        let lab = Lab::new().unwrap();
        let pod = lab.pod("a", "sao-paulo").unwrap();
        sender.send(pod.ns.clone()).unwrap();
        panic!("on purpose");
    });
    assert!(died.join().is_err());
    assert!(!Path::new("/run/netns").join(receiver.recv().unwrap()).exists());
}

#[test]
fn a_delay_is_made_or_refused_by_name() {
    let lab = Lab::new().unwrap();
    match lab.pod("a", "sao-paulo").unwrap().delay(Duration::from_millis(5)) {
        Ok(()) => {}
        Err(LabError::NoNetem) => assert!(LabError::NoNetem.to_string().contains("sch_netem")),
        Err(other) => panic!("{other}"),
    }
}
