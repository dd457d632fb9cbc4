//! The capture rules in real network namespaces: what they capture, what they leave alone, and that a check
//! tells the truth about them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use trama_sidecar::accept::original_dst::original_dst;
use trama_sidecar::redirect::{RedirectArgs, RedirectError, run_to};
use trama_tests::lab::{Lab, Pod};
use trama_tests::programs;

const PATIENCE: Duration = Duration::from_secs(10);
const OUTBOUND: u16 = 15001;
const INBOUND: u16 = 15006;
const APPLICATION: u32 = 1000;
const SIDECAR: u32 = 2102;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    redirect: RedirectArgs,
}

/// Runs `trama-sidecar redirect` in the pod's network, and returns its report too.
fn redirect(pod: &Pod, line: &str) -> (String, Result<(), RedirectError>) {
    let args = Cli::parse_from(std::iter::once("redirect").chain(line.split_whitespace())).redirect;
    let mut report = Vec::new();
    let result = pod.inside(|| run_to(&args, &mut report)).unwrap();
    (String::from_utf8(report).unwrap(), result)
}

fn apply(pod: &Pod, options: &str) -> String {
    let (report, result) = redirect(pod, &format!("--apply {options}"));
    assert!(result.is_ok(), "{report}{}", result.unwrap_err());
    report
}

fn nft(pod: &Pod, arguments: &str) -> String {
    let output = pod.run(Command::new("nft").args(arguments.split_whitespace()), 0, PATIENCE).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A program that another test starts has a copy of each of our sockets until it is executed: a port whose listener we have
/// dropped may be in use for a moment.
fn listen(pod: &Pod, address: impl Into<IpAddr>, port: u16) -> TcpListener {
    let address = SocketAddr::new(address.into(), port);
    let deadline = Instant::now() + PATIENCE;
    let listener = loop {
        match pod.inside(|| TcpListener::bind(address)).unwrap() {
            Err(e) if e.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(2));
            }
            bound => break bound.unwrap(),
        }
    };
    listener.set_nonblocking(true).unwrap();
    listener
}

fn dial(pod: &Pod, uid: u32, target: SocketAddr) -> io::Result<TcpStream> {
    pod.inside_as(uid, || TcpStream::connect_timeout(&target, PATIENCE)).unwrap()
}

/// What the next connection was meant for; nothing if it came directly.
fn accepted(listener: &TcpListener) -> Option<SocketAddr> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, _)) => return original_dst(&stream).unwrap(),
            Err(e) if e.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(2));
            }
            Err(e) => panic!("nobody came: {e}"),
        }
    }
}

fn nobody_came(listener: &TcpListener) {
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// The dial left the pod uncaptured, and the network said that nobody is there.
fn left_the_pod(result: io::Result<TcpStream>) {
    let kind = result.unwrap_err().kind();
    assert!(matches!(kind, ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable), "{kind}");
}

#[test]
fn outbound_connections_arrive_with_what_they_dialled() {
    let lab = Lab::new().unwrap();
    let pod = lab.pod("a", "sao-paulo").unwrap();
    let report = apply(&pod, "");
    for part in ["ipv4: 192.0.2.1:9 arrives at port 15001", "ipv6: [2001:db8::1]:9 arrives at port 15001"] {
        assert!(report.contains(part), "{report}");
    }
    // One dual-stack listener meets IPv4 as mapped addresses.
    let dual = listen(&pod, IpAddr::from([0u16; 8]), OUTBOUND);
    for address in lab.service(1) {
        let target = SocketAddr::new(address, 80);
        let _client = dial(&pod, APPLICATION, target).unwrap();
        assert_eq!(accepted(&dual), Some(target));
    }
    drop(dual);
    let v4_only = listen(&pod, IpAddr::from([127, 0, 0, 1]), OUTBOUND);
    let target = SocketAddr::new(lab.service(1)[0], 443);
    let _client = dial(&pod, APPLICATION, target).unwrap();
    assert_eq!(accepted(&v4_only), Some(target));
}

#[test]
fn the_sidecars_own_connections_are_not_captured() {
    let lab = Lab::new().unwrap();
    let pod = lab.pod("a", "sao-paulo").unwrap();
    apply(&pod, "");
    let capture = listen(&pod, IpAddr::from([0u16; 8]), OUTBOUND);
    for address in lab.service(1) {
        left_the_pod(dial(&pod, SIDECAR, SocketAddr::new(address, 80)));
    }
    nobody_came(&capture);
    drop(capture);
    // Another uid is another rule.
    apply(&pod, &format!("--uid {APPLICATION}"));
    let capture = listen(&pod, IpAddr::from([0u16; 8]), OUTBOUND);
    left_the_pod(dial(&pod, APPLICATION, SocketAddr::new(lab.service(1)[0], 80)));
    nobody_came(&capture);
    let target = SocketAddr::new(lab.service(1)[0], 80);
    let _client = dial(&pod, SIDECAR, target).unwrap();
    assert_eq!(accepted(&capture), Some(target));
}

#[test]
fn loopback_own_addresses_and_udp_bypass_capture() {
    let lab = Lab::new().unwrap();
    let (pod, other) = (lab.pod("a", "sao-paulo").unwrap(), lab.pod("b", "sao-paulo").unwrap());
    apply(&pod, "");
    apply(&other, "");
    let outbound = listen(&pod, IpAddr::from([0u16; 8]), OUTBOUND);
    let inbound = listen(&pod, IpAddr::from([0u16; 8]), INBOUND);
    let loopbacks: [IpAddr; 2] = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    for address in loopbacks.into_iter().chain(pod.addresses()) {
        let application = listen(&pod, address, 8080);
        let _client = dial(&pod, APPLICATION, SocketAddr::new(address, 8080)).unwrap();
        assert_eq!(accepted(&application), None, "{address}");
    }
    nobody_came(&outbound);
    nobody_came(&inbound);

    for (from, to) in pod.addresses().into_iter().zip(other.addresses()) {
        let receiver = other.inside(|| UdpSocket::bind((to, 53))).unwrap().unwrap();
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        let sender = pod.inside_as(APPLICATION, || UdpSocket::bind((from, 0))).unwrap().unwrap();
        sender.send_to(b"?", (to, 53)).unwrap();
        let (_, peer) = receiver.recv_from(&mut [0; 8]).unwrap();
        assert_eq!(peer, sender.local_addr().unwrap());
    }
}

#[test]
fn excluded_ports_and_networks_leave_uncaptured() {
    let lab = Lab::new().unwrap();
    let pod = lab.pod("a", "sao-paulo").unwrap();
    apply(&pod, "--exclude-outbound-ports 25,9000-9100 --exclude-outbound-cidrs 10.92.0.8/29,fd92::8/125");
    let capture = listen(&pod, IpAddr::from([0u16; 8]), OUTBOUND);
    let ([v4, v6], [excluded_v4, excluded_v6]) = (lab.service(1), lab.service(9));
    for target in [
        SocketAddr::new(v4, 25),
        SocketAddr::new(v6, 25),
        SocketAddr::new(v4, 9050),
        SocketAddr::new(excluded_v4, 80),
        SocketAddr::new(excluded_v6, 80),
        "169.254.169.254:80".parse().unwrap(),
    ] {
        left_the_pod(dial(&pod, APPLICATION, target));
    }
    nobody_came(&capture);
    for target in [SocketAddr::new(v4, 9101), SocketAddr::new(v6, 8999)] {
        let _client = dial(&pod, APPLICATION, target).unwrap();
        assert_eq!(accepted(&capture), Some(target));
    }
}

#[test]
fn inbound_connections_are_captured_but_for_the_sidecars_ports() {
    let lab = Lab::new().unwrap();
    let (pod, client) = (lab.pod("a", "sao-paulo").unwrap(), lab.pod("b", "sao-paulo").unwrap());
    apply(&pod, "--exclude-inbound-ports 9090");
    let capture = listen(&pod, IpAddr::from([0u16; 8]), INBOUND);
    for address in pod.addresses() {
        let target = SocketAddr::new(address, 8080);
        let _client = dial(&client, APPLICATION, target).unwrap();
        assert_eq!(accepted(&capture), Some(target));
        for port in [15008, 15020, 15021, 9090] {
            let direct = listen(&pod, address, port);
            let _client = dial(&client, APPLICATION, SocketAddr::new(address, port)).unwrap();
            assert_eq!(accepted(&direct), None, "{port}");
        }
        // Who dials the capture port itself is not told apart from a direct connection: its target is us.
        let _client = dial(&client, APPLICATION, SocketAddr::new(address, INBOUND)).unwrap();
        assert_eq!(accepted(&capture), None);
    }
    nobody_came(&capture);
}

#[test]
fn apply_replaces_and_remove_takes_back_however_often() {
    let lab = Lab::new().unwrap();
    let pod = lab.pod("a", "sao-paulo").unwrap();
    apply(&pod, "");
    let once = nft(&pod, "list ruleset");
    apply(&pod, "");
    assert_eq!(nft(&pod, "list ruleset"), once);
    apply(&pod, "--exclude-outbound-ports 25");
    assert!(redirect(&pod, "--check --exclude-outbound-ports 25").1.is_ok());
    assert!(redirect(&pod, "--check").1.is_err());
    nft(&pod, "add table inet others");
    for _ in 0..2 {
        assert!(redirect(&pod, "--remove").1.is_ok());
        assert_eq!(nft(&pod, "list ruleset").trim(), "table inet others {\n}");
    }
    left_the_pod(dial(&pod, APPLICATION, SocketAddr::new(lab.service(1)[0], 80)));
}

#[test]
fn print_shows_what_apply_loads_and_does_nothing() {
    let lab = Lab::new().unwrap();
    let pod = lab.pod("a", "sao-paulo").unwrap();
    let (shown, result) = redirect(&pod, "--print --exclude-outbound-cidrs fd00::/8");
    assert!(result.is_ok() && shown.contains("ip6 daddr { fd00::/8 } return"), "{shown}");
    assert_eq!(nft(&pod, "list ruleset"), "");
    let file = pod.file("shown.nft", shown.as_bytes()).unwrap();
    nft(&pod, &format!("-f {}", file.display()));
    let (report, result) = redirect(&pod, "--check --exclude-outbound-cidrs fd00::/8");
    assert!(result.is_ok(), "{report}");
}

#[test]
fn a_check_proves_every_option_of_the_table() {
    let lab = Lab::new().unwrap();
    let pod = lab.pod("a", "sao-paulo").unwrap();
    // Networks that the kernel merges, ranges that overlap, everything that has its own spelling in a listing.
    for options in [
        "",
        "--uid 0 --sidecar-ports 1 --exclude-inbound-ports 1,2,4-6,5-9",
        "--exclude-outbound-cidrs 10.0.0.0/8,11.0.0.0/8,12.0.0.0/8,10.1.2.3,fd00::/16,fd01::1",
        "--exclude-outbound-ports 9,22,23,1000-2000 --exclude-outbound-cidrs 172.16.0.0/12",
    ] {
        apply(&pod, options);
        let (report, result) = redirect(&pod, &format!("--check {options}"));
        assert!(result.is_ok(), "{options}: {report}");
        assert!(report.contains("holds the expected") && report.contains("ipv6: "), "{report}");
    }
}

#[test]
fn a_check_fails_when_the_rules_are_absent() {
    let lab = Lab::new().unwrap();
    let pod = lab.pod("a", "sao-paulo").unwrap();
    let (report, result) = redirect(&pod, "--check");
    assert_eq!(result.unwrap_err().exit_code(), 4, "{report}");
    for part in
        ["FAIL  table inet trama is absent", "FAIL  ipv4: 192.0.2.1:9 does not arrive", "FAIL  ipv6: "]
    {
        assert!(report.contains(part), "{report}");
    }
}

#[test]
fn a_check_fails_when_any_one_rule_is_gone() {
    let lab = Lab::new().unwrap();
    let pod = lab.pod("a", "sao-paulo").unwrap();
    apply(&pod, "");
    for (number, line) in rules(&pod).into_iter().enumerate() {
        apply(&pod, "");
        let (chain, handle, text) = &rules(&pod)[number];
        nft(&pod, &format!("delete rule inet trama {chain} handle {handle}"));
        let (report, result) = redirect(&pod, "--check");
        assert!(result.is_err() && report.contains("FAIL  chain "), "{text}: {report}");
        // The sidecar's connections and the application's own are proven alive, not only by comparison.
        let probed = match text.as_str() {
            "meta skuid 2102 return" => "FAIL  ipv6: connections of uid 2102",
            "fib daddr type local return" => "FAIL  ipv4: the pod's own address 10.91.0.1",
            _ if line.0 == "outbound" && text.contains("redirect") => {
                "FAIL  ipv4: 192.0.2.1:9 does not arrive"
            }
            _ => continue,
        };
        assert!(report.contains(probed), "{text}: {report}");
        assert_eq!(result.unwrap_err().exit_code(), 4);
    }
    apply(&pod, "");
    nft(&pod, "add rule inet trama inbound tcp dport 8080 accept");
    let (report, result) = redirect(&pod, "--check");
    assert!(report.contains("which is not ours"), "{report}");
    assert_eq!(result.unwrap_err().exit_code(), 4);
}

/// Chain, handle and text of each rule, as nft lists them.
fn rules(pod: &Pod) -> Vec<(String, String, String)> {
    let listing = nft(pod, "-a list table inet trama");
    let mut chain = String::new();
    let mut found = Vec::new();
    for line in listing.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("chain ") {
            name.split(' ').next().unwrap_or_default().clone_into(&mut chain);
        } else if let Some((text, handle)) = line.split_once(" # handle ").filter(|(t, _)| !t.ends_with('{'))
        {
            found.push((chain.clone(), handle.to_owned(), text.to_owned()));
        }
    }
    assert_eq!(found.len(), 10, "{listing}");
    found
}

/// Another table that has its way with what the pod sends by IPv6.
fn steal(pod: &Pod) {
    let thief = "table ip6 thief {\n chain out {\n type nat hook output priority -110; policy accept;\n \
        ip6 daddr 2001:db8::/32 dnat to [fd91::ffff]\n }\n}\n";
    let file = pod.file("thief.nft", thief.as_bytes()).unwrap();
    nft(pod, &format!("-f {}", file.display()));
}

#[test]
fn a_family_that_another_table_steals_fails_loudly() {
    let lab = Lab::new().unwrap();
    let pod = lab.pod("a", "sao-paulo").unwrap();
    steal(&pod);
    let (report, result) = redirect(&pod, "--apply");
    let error = result.unwrap_err();
    assert_eq!(error.exit_code(), 5);
    assert!(error.to_string().contains("family that is present"), "{error}");
    assert!(report.contains("ok    ipv4: ") && report.contains("FAIL  ipv6: [2001:db8::1]:9"), "{report}");
}

#[test]
fn rules_that_are_whole_and_capture_nothing_fail_a_check_by_their_own_code() {
    let lab = Lab::new().unwrap();
    let pod = lab.pod("a", "sao-paulo").unwrap();
    apply(&pod, "");
    assert!(redirect(&pod, "--check").1.is_ok());
    steal(&pod);
    let mut command = Command::new(programs::built("trama-sidecar").unwrap());
    command.args(["redirect", "--check"]);
    let output = pod.run(&command, 0, PATIENCE).unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(5), "{said}");
    for part in [
        "ok    table inet trama holds the expected 10 rules",
        "FAIL  ipv6: [2001:db8::1]:9 does not arrive at port 15001",
        "not captured as it must be (1 of 7 checks failed)",
    ] {
        assert!(said.contains(part), "{said}");
    }
    // Back to the truth once the thief is gone.
    nft(&pod, "delete table ip6 thief");
    let (report, result) = redirect(&pod, "--check");
    assert!(result.is_ok(), "{report}");
}

#[test]
fn families_and_routes_that_are_absent_are_noted() {
    let lab = Lab::new().unwrap();
    let pod = lab.pod("a", "sao-paulo").unwrap();
    for line in ["route del default", "-6 address flush dev eth0 scope global"] {
        let output = pod.run(Command::new("ip").args(line.split(' ')), 0, PATIENCE).unwrap();
        assert!(output.status.success(), "{line}");
    }
    let report = apply(&pod, "");
    // No default route: a neighbour's address is dialled in place of the documentation's.
    assert!(
        report.contains("ok    ipv4: 10.91.0.") && report.contains("note  ipv6: not present"),
        "{report}"
    );
    let report = apply(&pod, "--exclude-outbound-cidrs 0.0.0.0/0");
    assert!(report.contains("note  ipv4: no route leads out of the pod, or all is excluded"), "{report}");
}

#[test]
fn a_check_works_beside_a_running_sidecar() {
    let lab = Lab::new().unwrap();
    let pod = lab.pod("a", "sao-paulo").unwrap();
    // The capture port is taken, and connections to nowhere are reset as soon as they come.
    let listener = listen(&pod, IpAddr::from([0u16; 8]), OUTBOUND);
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                if let Ok((stream, _)) = listener.accept() {
                    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        let checked = std::panic::catch_unwind(|| {
            apply(&pod, "");
            let (report, result) = redirect(&pod, "--check");
            assert!(result.is_ok(), "{report}");
            assert!(report.contains("ipv6: [2001:db8::1]:9 arrives at port 15001"), "{report}");
            nft(&pod, "insert rule inet trama outbound meta l4proto tcp redirect to :15001");
            let (report, result) = redirect(&pod, "--check");
            assert_eq!(result.unwrap_err().exit_code(), 4, "{report}");
            assert!(
                report.contains("FAIL  ipv6: connections of uid 2102, the sidecar's, are captured"),
                "{report}"
            );
            nft(&pod, "flush chain inet trama outbound");
            let (report, result) = redirect(&pod, "--check");
            assert_eq!(result.unwrap_err().exit_code(), 4, "{report}");
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn a_missing_privilege_is_named() {
    let lab = Lab::new().unwrap();
    let pod = lab.pod("a", "sao-paulo").unwrap();
    for line in ["--apply", "--check", "--remove"] {
        let args = Cli::parse_from(["redirect", line]).redirect;
        let error = pod.inside_as(APPLICATION, || run_to(&args, &mut io::sink())).unwrap().unwrap_err();
        assert!(matches!(error, RedirectError::NotPermitted), "{line}: {error}");
        assert!(error.to_string().contains("NET_ADMIN"));
        assert_eq!(error.exit_code(), 3);
    }
}

#[test]
fn the_program_tells_by_its_exit_code() {
    let lab = Lab::new().unwrap();
    let pod = lab.pod("a", "sao-paulo").unwrap();
    let run = |uid: u32, path: &str, line: &str| {
        let mut command = Command::new(programs::built("trama-sidecar").unwrap());
        command.arg("redirect").args(line.split_whitespace()).env("PATH", path);
        let output = pod.run(&command, uid, PATIENCE).unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    };
    const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
    let (code, text) = run(0, PATH, "--apply");
    assert!(
        code == 0 && text.contains("ok    ipv6: connections of uid 2102 bypass capture"),
        "{code} {text}"
    );
    for (uid, path, line, expected, part) in [
        (0, PATH, "--check", 0, "holds the expected 10 rules"),
        (0, PATH, "--check --exclude-inbound-ports 22", 4, "absent or altered"),
        (0, PATH, "--check --outbound-capture-port 15002", 4, "does not arrive at port 15002"),
        (0, PATH, "--check --remove", 2, "cannot be used with"),
        (0, "/nowhere", "--check", 3, "install it"),
        (APPLICATION, PATH, "--check", 3, "NET_ADMIN"),
        (0, PATH, "--remove", 0, "is gone"),
        (0, PATH, "--check", 4, "is absent"),
    ] {
        let (code, text) = run(uid, path, line);
        assert!(code == expected && text.contains(part), "{line}: {code} {text}");
    }
}
