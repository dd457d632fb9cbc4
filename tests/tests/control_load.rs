//! The fleet that `cargo xtask bench` loads a control plane with does what it says: who measures by it must know it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use trama_tests::control_plane::ControlPlane;
use trama_tests::programs;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_joins_renews_and_acknowledges_every_change() {
    let control = ControlPlane::start().await;
    let mut command = Command::new(programs::built("fleet").unwrap());
    command.arg("--address").arg(control.address().to_string()).arg("--socket").arg(control.socket());
    let mut fleet = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut orders = fleet.stdin.take().unwrap();
    let mut answers = BufReader::new(fleet.stdout.take().unwrap());
    let mut ask = |order: &str| {
        tokio::task::block_in_place(|| {
            writeln!(orders, "{order}").unwrap();
            let mut answer = String::new();
            answers.read_line(&mut answer).unwrap();
            answer.trim().to_owned()
        })
    };
    for order in ["policy", "invite 3", "join", "renew", "open"] {
        assert_eq!(ask(order), "done", "{order}");
    }
    let sidecars = control.sidecars().await;
    let before: Vec<_> = sidecars.iter().map(|sidecar| sidecar.acknowledged).collect();
    assert_eq!((before.len(), sidecars[0].services.len()), (3, 10));
    for how in ["join", "renew"] {
        let issued = format!("trama_control_identities_total{{how=\"{how}\"}}");
        assert_eq!(control.metric(&issued).await, 3.0, "{how}");
    }

    let took: u64 = ask("apply").parse().unwrap();
    assert!(took > 0);
    for (sidecar, before) in control.sidecars().await.iter().zip(before) {
        assert!(sidecar.acknowledged > before, "it was not told of the change");
    }
    drop(orders);
    assert!(fleet.wait().unwrap().success());
}
